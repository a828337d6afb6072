//! CPU and memory of one daemon over a period, folded point by point. Pure.

use jiff::Timestamp;
use rbee_api::report::{Period, Usage};

use super::Window;

/// One sample, or an hour of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// When it was taken; of an hour: its beginning.
    pub at_ms: i64,
    /// How long what was rolled up is; 0: it is one sample.
    pub covers_ms: i64,
    /// Samples in it.
    pub count: u32,
    /// Share of one core in percent: average and highest.
    pub cpu: Option<(f64, f64)>,
    /// Bytes: average and highest.
    pub memory: Option<(f64, f64)>,
}

/// What the points of one daemon come to.
#[derive(Debug, Clone)]
pub(super) struct Fold {
    window: Window,
    period: Period,
    cpu: Course,
    memory: Course,
}

/// One number over time.
#[derive(Debug, Clone)]
struct Course {
    whole: Sum,
    peak: Option<(f64, i64)>,
    steps: Vec<Sum>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    sum: f64,
    count: f64,
}

impl Fold {
    pub(super) fn new(window: Window, period: Period) -> Self {
        let course = || Course { whole: Sum::default(), peak: None, steps: vec![Sum::default(); window.steps(period)] };
        Self { window, period, cpu: course(), memory: course() }
    }

    /// Takes a point in; one outside of the window is left out, and of an hour the share that is inside counts.
    pub(super) fn add(&mut self, point: &Point) {
        let (from_ms, to_ms) = (point.at_ms, point.at_ms + point.covers_ms.max(1));
        let cut = (from_ms.max(self.window.from_ms), to_ms.min(self.window.to_ms));
        if cut.0 >= cut.1 {
            return;
        }
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of an hour")]
        let weight = |(from_ms, to_ms): (i64, i64)| {
            f64::from(point.count) * (to_ms - from_ms) as f64 / point.covers_ms.max(1) as f64
        };
        for (course, value) in [(&mut self.cpu, point.cpu), (&mut self.memory, point.memory)] {
            let Some((average, peak)) = value.filter(|(average, peak)| average.is_finite() && peak.is_finite()) else {
                continue;
            };
            course.whole.add(average, weight(cut));
            if course.peak.is_none_or(|(highest, _)| peak > highest) {
                course.peak = Some((peak, point.at_ms.max(self.window.from_ms)));
            }
            for (index, part) in self.window.split(self.period, cut.0, cut.1) {
                if let Some(step) = course.steps.get_mut(index) {
                    step.add(average, weight(part));
                }
            }
        }
    }

    pub(super) fn cpu(&self) -> Option<Usage> {
        self.cpu.usage()
    }

    pub(super) fn memory(&self) -> Option<Usage> {
        self.memory.usage()
    }

    /// Average of each step: CPU in percent, memory in bytes.
    pub(super) fn by_step(&self) -> (Vec<Option<f32>>, Vec<Option<u64>>) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes and percents")]
        let (cpu, memory) = (|value: f64| ((value * 10.0).round() / 10.0) as f32, |value: f64| value.max(0.0) as u64);
        (
            self.cpu.steps.iter().map(|step| step.average().map(cpu)).collect(),
            self.memory.steps.iter().map(|step| step.average().map(memory)).collect(),
        )
    }
}

impl Course {
    fn usage(&self) -> Option<Usage> {
        let (peak, at_ms) = self.peak?;
        Some(Usage { average: self.whole.average()?, peak, peak_at: Timestamp::from_millisecond(at_ms).ok()? })
    }
}

impl Sum {
    fn add(&mut self, value: f64, weight: f64) {
        self.sum += value * weight;
        self.count += weight;
    }

    fn average(&self) -> Option<f64> {
        (self.count > 0.0).then(|| self.sum / self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PERIOD: Period = Period::Hour;
    const WINDOW: Window = Window { from_ms: 0, to_ms: 3_600_000 };

    fn sample(at_ms: i64, cpu: f64, memory: f64) -> Point {
        Point { at_ms, covers_ms: 0, count: 1, cpu: Some((cpu, cpu)), memory: Some((memory, memory)) }
    }

    /// REPT-05
    #[test]
    fn averages_peaks_and_steps_are_of_what_is_in_the_window() {
        let mut fold = Fold::new(WINDOW, PERIOD);
        for point in [sample(-1, 900.0, 9e9), sample(0, 10.0, 100.0), sample(60_000, 30.0, 300.0)] {
            fold.add(&point);
        }
        fold.add(&sample(3_600_000, 900.0, 9e9));
        let cpu = fold.cpu().unwrap();
        assert_eq!((cpu.average, cpu.peak, cpu.peak_at.as_millisecond()), (20.0, 30.0, 60_000));
        assert_eq!(fold.memory().unwrap().peak, 300.0);
        let (cpu, memory) = fold.by_step();
        assert_eq!((cpu.len(), &cpu[..3]), (60, &[Some(10.0), Some(30.0), None][..]));
        assert_eq!(&memory[..3], &[Some(100), Some(300), None]);
    }

    #[test]
    fn an_hour_counts_by_the_samples_in_it_and_by_the_share_inside() {
        let mut fold = Fold::new(WINDOW, PERIOD);
        // Half of it is before the window: 120 of its 240 samples count.
        let hour = Point {
            at_ms: -1_800_000,
            covers_ms: 3_600_000,
            count: 240,
            cpu: Some((10.0, 80.0)),
            memory: Some((1.0, 2.0)),
        };
        fold.add(&hour);
        (0..120).for_each(|index| fold.add(&sample(1_800_000 + index * 15_000, 30.0, 3.0)));
        let cpu = fold.cpu().unwrap();
        assert!((cpu.average - 20.0).abs() < 1e-9, "{}", cpu.average);
        assert_eq!((cpu.peak, cpu.peak_at.as_millisecond()), (80.0, 0));
        let (cpu, _) = fold.by_step();
        assert_eq!((cpu[0], cpu[29], cpu[30], cpu[59]), (Some(10.0), Some(10.0), Some(30.0), Some(30.0)));
    }

    #[test]
    fn nothing_is_not_zero() {
        let mut fold = Fold::new(WINDOW, PERIOD);
        fold.add(&Point { cpu: None, memory: Some((f64::NAN, f64::NAN)), ..sample(0, 0.0, 0.0) });
        assert_eq!((fold.cpu(), fold.memory()), (None, None));
        assert!(fold.by_step().0.iter().all(Option::is_none));
    }
}
