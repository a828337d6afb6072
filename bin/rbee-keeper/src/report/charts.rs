//! Charts as inline SVG. Their colours are numbers that the page's style sheet gives a meaning, so that they follow light
//! and dark; no text of users is in them.

use jiff::Timestamp;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use rbee_api::report::{Period, Report, Series};

/// A colour that the style sheet replaces: `#010101` and so on.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ink {
    Axis = 1,
    Grid = 2,
    Cpu = 3,
    Memory = 4,
    Requests = 5,
    Errors = 6,
    Latency = 7,
    Up = 8,
    Shaky = 9,
    Bad = 10,
    Off = 11,
    Unknown = 12,
}

impl Ink {
    const fn color(self) -> RGBColor {
        let number = self as u8;
        RGBColor(number, number, number)
    }
}

/// What a chart shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quantity {
    /// A number of things.
    Plain,
    Bytes,
    Milliseconds,
}

impl Quantity {
    /// The unit in which the highest value is a short number, and its size: so that an axis has round numbers of it.
    fn unit(self, highest: f64) -> (f64, &'static str) {
        let units: &[(f64, &str)] = match self {
            Self::Plain => &[(1.0, "")],
            Self::Bytes => &[(1.0, " B"), (1_024.0, " KiB"), (1_048_576.0, " MiB"), (1_073_741_824.0, " GiB")],
            Self::Milliseconds => &[(1.0, " ms"), (1_000.0, " s"), (60_000.0, " min")],
        };
        units.iter().copied().rev().find(|(size, _)| highest >= *size * 1.5).unwrap_or(units[0])
    }
}

/// A number of an axis, with as many digits as it needs.
fn on_axis(value: f64, unit: &str) -> String {
    if value.abs() < 1e-9 {
        return "0".to_owned();
    }
    let digits = if value >= 10.0 { 0 } else { 2 };
    let number = format!("{value:.digits$}");
    let number = if digits > 0 { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    format!("{number}{unit}")
}

const LARGE: (u32, u32) = (480, 172);
const SPARK: (u32, u32) = (240, 36);
const STRIP: (u32, u32) = (480, 18);
const LABEL_PX: u32 = 14;

type Drawn = Result<(), Box<dyn std::error::Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A chart with axes: one value a step, drawn as an area.
pub(super) fn course(report: &Report, values: &[Option<f64>], ink: Ink, what: Quantity) -> String {
    let (divisor, unit) = what.unit(top(values.iter().copied().flatten()));
    let values: Vec<Option<f64>> = values.iter().map(|value| value.map(|value| value / divisor)).collect();
    svg(LARGE, "chart", |area| {
        let mut chart = axes(area, report, values.len(), top(values.iter().copied().flatten()), unit)?;
        fill(&mut chart, &values, ink)
    })
}

/// A chart with axes: bars of counts, and the part of each that went wrong.
pub(super) fn bars(report: &Report, all: &[f32], bad: &[f32]) -> String {
    svg(LARGE, "chart", |area| {
        let highest = top(all.iter().copied().map(f64::from));
        let mut chart = axes(area, report, all.len(), highest, "")?;
        for (values, ink) in [(all, Ink::Requests), (bad, Ink::Errors)] {
            let bars = values.iter().enumerate().filter(|(_, value)| **value > 0.0).map(|(index, value)| {
                let (left, right) = (index as f64 + 0.1, index as f64 + 0.9);
                Rectangle::new([(left, 0.0), (right, f64::from(*value))], ink.color().filled())
            });
            chart.draw_series(bars)?;
        }
        Ok(())
    })
}

/// A small course without axes.
pub(super) fn spark(values: &[Option<f64>], ink: Ink) -> String {
    svg(SPARK, "spark", |area| {
        let highest = top(values.iter().copied().flatten());
        let mut chart =
            ChartBuilder::on(area).margin(1).build_cartesian_2d(0.0..values.len().max(1) as f64, 0.0..highest)?;
        fill(&mut chart, values, ink)
    })
}

/// When a daemon was there: a row of cells, neighbours of one colour in one.
pub(super) fn strip(series: &Series) -> String {
    let cells: Vec<Ink> = series.up.iter().zip(&series.off).map(|(up, off)| cell(*up, *off)).collect();
    svg(STRIP, "strip", |area| {
        let width = f64::from(STRIP.0) / cells.len().max(1) as f64;
        let mut begin = 0;
        while begin < cells.len() {
            let same = cells[begin..].iter().take_while(|ink| **ink as u8 == cells[begin] as u8).count();
            #[expect(clippy::cast_possible_truncation, reason = "pixels")]
            let x = |index: usize| (index as f64 * width).round() as i32;
            let corners = [(x(begin), 0), (x(begin + same), STRIP.1.cast_signed())];
            area.draw(&Rectangle::new(corners, cells[begin].color().filled()))?;
            begin += same;
        }
        Ok(())
    })
}

fn cell(up: Option<f32>, off: bool) -> Ink {
    match up {
        Some(up) if up >= 0.999 => Ink::Up,
        Some(up) if up >= 0.9 => Ink::Shaky,
        Some(_) => Ink::Bad,
        None if off => Ink::Off,
        None => Ink::Unknown,
    }
}

/// A little above the highest value, and never nothing.
fn top(values: impl Iterator<Item = f64>) -> f64 {
    let highest = values.filter(|value| value.is_finite()).fold(0.0, f64::max);
    if highest > 0.0 { highest * 1.08 } else { 1.0 }
}

fn svg(size: (u32, u32), class: &str, draw: impl FnOnce(&Area<'_>) -> Drawn) -> String {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        let drawn = draw(&area).and_then(|()| area.present().map_err(Into::into));
        if drawn.is_err() {
            // Of a chart that cannot be drawn nothing is better than a part that looks like all.
            return String::new();
        }
    }
    // It fills what the page gives it.
    let stretch = if class == "chart" { "" } else { r#" preserveAspectRatio="none""# };
    text.replacen("<svg ", &format!(r#"<svg class="{class}" aria-hidden="true"{stretch} "#), 1).replace('\n', "")
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

fn axes<'a, 'b>(
    area: &'a Area<'b>,
    report: &Report,
    steps: usize,
    highest: f64,
    unit: &str,
) -> Result<Chart<'a, 'b>, Box<dyn std::error::Error>> {
    let mut chart = ChartBuilder::on(area)
        .margin_top(10)
        .margin_right(14)
        .x_label_area_size(24)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..steps.max(1) as f64, 0.0..highest)?;
    let label = ("sans-serif", LABEL_PX).into_font().color(&Ink::Axis.color());
    chart
        .configure_mesh()
        .disable_x_mesh()
        .x_labels(0)
        .light_line_style(TRANSPARENT)
        .bold_line_style(Ink::Grid.color())
        .axis_style(Ink::Grid.color())
        .set_all_tick_mark_size(0)
        .set_tick_mark_size(LabelAreaPosition::Left, 6)
        .y_labels(4)
        .y_label_style(label.clone())
        .y_label_formatter(&|value| on_axis(*value, unit))
        .draw()?;
    // The library would choose round numbers of steps; these are round times.
    let label = label.pos(Pos::new(HPos::Center, VPos::Top));
    for (at, name) in ticks(report) {
        let (x, y) = chart.backend_coord(&(at, 0.0));
        area.draw(&Text::new(name, (x, y + 8), label.clone()))?;
    }
    Ok(chart)
}

/// Round times on the way: (step, name).
fn ticks(report: &Report) -> Vec<(f64, String)> {
    let (every_s, form) = match report.period {
        Period::Hour => (600, "%H:%M"),
        Period::Day => (14_400, "%H:%M"),
        Period::Week => (86_400, "%a"),
    };
    let from_s = report.from.as_second();
    let first_s = from_s - from_s.rem_euclid(every_s) + every_s;
    let step_s = i64::try_from(report.step_s).unwrap_or(i64::MAX).max(1);
    let times = std::iter::successors(Some(first_s), |at_s| Some(at_s + every_s));
    times
        .take_while(|at_s| *at_s < report.to.as_second())
        .take(64)
        .filter_map(|at_s| Timestamp::from_second(at_s).ok().map(|at| (at_s, at)))
        .map(|(at_s, at)| ((at_s - from_s) as f64 / step_s as f64, at.strftime(form).to_string()))
        .collect()
}

/// An area whose holes stay open.
fn fill(chart: &mut Chart<'_, '_>, values: &[Option<f64>], ink: Ink) -> Drawn {
    let mut run: Vec<(f64, f64)> = Vec::new();
    for (index, value) in values.iter().copied().chain([None]).enumerate() {
        if let Some(value) = value {
            if run.is_empty() {
                run.push((index as f64, value));
            }
            run.push((index as f64 + 0.5, value));
            continue;
        }
        if let Some((_, last)) = run.last().copied() {
            run.push((index as f64, last));
            let (inside, border) = (ink.color().mix(0.22), ink.color().stroke_width(2));
            chart.draw_series(AreaSeries::new(run.drain(..), 0.0, inside).border_style(border))?;
        }
    }
    Ok(())
}

/// The sum of one number over all daemons, a value a step; unknown where nobody knows it.
pub(super) fn sum<'s, T: Copy + Into<f64> + 's>(
    steps: usize,
    series: impl Iterator<Item = &'s Vec<Option<T>>>,
) -> Vec<Option<f64>> {
    let mut sums = vec![None; steps];
    for values in series {
        for (sum, value) in sums.iter_mut().zip(values).filter_map(|(sum, value)| value.map(|value| (sum, value))) {
            *sum = Some(sum.unwrap_or(0.0) + value.into());
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_short_numbers_in_a_unit_that_fits() {
        for (what, highest, expected) in [
            (Quantity::Plain, 4.9, (1.0, "")),
            (Quantity::Bytes, 38.0 * 1_073_741_824.0, (1_073_741_824.0, " GiB")),
            (Quantity::Bytes, 1_100_000_000.0, (1_048_576.0, " MiB")),
            (Quantity::Milliseconds, 900.0, (1.0, " ms")),
            (Quantity::Milliseconds, 25_000.0, (1_000.0, " s")),
            (Quantity::Milliseconds, 0.3, (1.0, " ms")),
        ] {
            assert_eq!(what.unit(highest), expected, "{highest}");
        }
        for (value, expected) in [(0.0, "0"), (0.25, "0.25 s"), (2.0, "2 s"), (2.5, "2.5 s"), (20.0, "20 s")] {
            assert_eq!(on_axis(value, " s"), expected);
        }
    }

    #[test]
    fn holes_stay_open_and_nothing_is_drawn_of_nothing() {
        let (one, two) =
            (spark(&[Some(1.0), Some(2.0), Some(1.0)], Ink::Cpu), spark(&[Some(1.0), None, Some(1.0)], Ink::Cpu));
        assert_eq!((one.matches("<polygon").count(), two.matches("<polygon").count()), (1, 2));
        assert_eq!(spark(&[None, None], Ink::Cpu).matches("<polygon").count(), 0);
        assert!(spark(&[], Ink::Cpu).starts_with("<svg"));
    }

    #[test]
    fn a_strip_joins_what_is_alike() {
        let mut series = Series { up: vec![Some(1.0); 96], off: vec![false; 96], ..Series::default() };
        assert_eq!(strip(&series).matches("<rect").count(), 1);
        series.up[40] = Some(0.95);
        series.up[41] = None;
        series.off[41] = true;
        let drawn = strip(&series);
        assert_eq!(drawn.matches("<rect").count(), 4);
        assert!(drawn.contains("#090909") && drawn.contains("#0B0B0B"), "{drawn}");
    }
}
