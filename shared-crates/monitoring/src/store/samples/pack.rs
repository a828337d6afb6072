//! Samples as bytes: numbers of variable length, some 35 bytes for each daemon, and whole KiB.

use crate::sample::{Sample, Spread, Summary};

use std::sync::Arc;

use jiff::Timestamp;

/// First byte; another layout gets another one, and rows of an unknown one are passed over.
const LAYOUT: u8 = 1;

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Nothing is 0, and a number one more than it is.
fn put_maybe(bytes: &mut Vec<u8>, number: Option<u64>) {
    put(bytes, number.map_or(0, |number| number.saturating_add(1)));
}

fn kib(bytes: u64) -> u64 {
    bytes.div_ceil(1024)
}

fn centi(percent: f64) -> u64 {
    (percent.max(0.0) * 100.0).round() as u64
}

/// Reads numbers off a row.
struct Numbers<'b>(&'b [u8]);

impl Numbers<'_> {
    fn next(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn maybe(&mut self) -> Option<Option<u64>> {
        self.next().map(|number| number.checked_sub(1))
    }

    fn bytes(&mut self) -> Option<u64> {
        self.next().map(|kib| kib.saturating_mul(1024))
    }

    fn maybe_bytes(&mut self) -> Option<Option<u64>> {
        self.maybe().map(|kib| kib.map(|kib| kib.saturating_mul(1024)))
    }

    fn percent(&mut self) -> Option<f64> {
        self.next().map(|centi| centi as f64 / 100.0)
    }
}

/// One round of samples; each with the number of its daemon.
pub(super) fn round<'s>(samples: impl Iterator<Item = (u64, &'s Sample)>) -> Vec<u8> {
    let mut row = vec![LAYOUT];
    for (daemon, sample) in samples {
        let used = &sample.figures;
        put(&mut row, daemon);
        put(&mut row, sample.incarnation);
        let healthy = sample.healthy.map_or(0, |healthy| if healthy { 4 } else { 2 });
        put(&mut row, u64::from(sample.running) | healthy);
        put(&mut row, centi(used.cpu_percent));
        put(&mut row, kib(used.rss_bytes));
        put_maybe(&mut row, used.pss_bytes.map(kib));
        put_maybe(&mut row, used.fds);
        put(&mut row, used.threads);
        put_maybe(&mut row, used.read_bytes.map(kib));
        put_maybe(&mut row, used.written_bytes.map(kib));
        put(&mut row, kib(used.disk_bytes));
        put(&mut row, sample.uptime_s);
        put(&mut row, sample.restarts);
        put_maybe(&mut row, used.gpu_bytes.map(kib));
    }
    row
}

/// The samples of a round; `name` finds the daemon. What cannot be read ends the row.
pub(super) fn read_round(row: &[u8], name: impl Fn(u64) -> Option<Arc<str>>, mut each: impl FnMut(Sample)) {
    let Some((&LAYOUT, rest)) = row.split_first() else { return };
    let mut numbers = Numbers(rest);
    while let Some((daemon, sample)) = read_sample(&mut numbers) {
        if let Some(name) = name(daemon) {
            each(Sample { daemon: name, ..sample });
        }
    }
}

fn read_sample(numbers: &mut Numbers<'_>) -> Option<(u64, Sample)> {
    let daemon = numbers.next()?;
    let incarnation = numbers.next()?;
    let flags = numbers.next()?;
    let mut sample = Sample {
        incarnation,
        running: flags & 1 != 0,
        healthy: match flags >> 1 {
            0 => None,
            bits => Some(bits == 2),
        },
        ..Sample::none("")
    };
    let used = &mut sample.figures;
    used.cpu_percent = numbers.percent()?;
    used.rss_bytes = numbers.bytes()?;
    used.pss_bytes = numbers.maybe_bytes()?;
    used.fds = numbers.maybe()?;
    used.threads = numbers.next()?;
    used.read_bytes = numbers.maybe_bytes()?;
    used.written_bytes = numbers.maybe_bytes()?;
    used.disk_bytes = numbers.bytes()?;
    sample.uptime_s = numbers.next()?;
    sample.restarts = numbers.next()?;
    sample.figures.gpu_bytes = numbers.maybe_bytes()?;
    Some((daemon, sample))
}

/// One hour of all daemons.
pub(super) fn hour<'s>(summaries: impl Iterator<Item = (u64, &'s Summary)>) -> Vec<u8> {
    let mut row = vec![LAYOUT];
    for (daemon, summary) in summaries {
        put(&mut row, daemon);
        for number in [summary.samples, summary.running, summary.unhealthy] {
            put(&mut row, number);
        }
        put(&mut row, centi(summary.cpu_percent.avg));
        put(&mut row, centi(summary.cpu_percent.max));
        for spread in [summary.rss_bytes, summary.pss_bytes] {
            put(&mut row, kib(spread.avg as u64));
            put(&mut row, kib(spread.max as u64));
        }
        for number in [summary.fds_max, summary.threads_max, summary.restarts, summary.incarnation] {
            put(&mut row, number);
        }
        for bytes in [summary.read_bytes, summary.written_bytes, summary.disk_bytes, summary.gpu_bytes_max] {
            put(&mut row, kib(bytes));
        }
    }
    row
}

/// As [`read_round`].
pub(super) fn read_hour(
    at: Timestamp,
    row: &[u8],
    name: impl Fn(u64) -> Option<Arc<str>>,
    mut each: impl FnMut(Summary),
) {
    let Some((&LAYOUT, rest)) = row.split_first() else { return };
    let mut numbers = Numbers(rest);
    while let Some((daemon, summary)) = read_summary(&mut numbers, at) {
        if let Some(name) = name(daemon) {
            each(Summary { daemon: name, ..summary });
        }
    }
}

fn read_summary(numbers: &mut Numbers<'_>, at: Timestamp) -> Option<(u64, Summary)> {
    let daemon = numbers.next()?;
    let mut summary = Summary::new(Arc::default(), at);
    summary.samples = numbers.next()?;
    summary.running = numbers.next()?;
    summary.unhealthy = numbers.next()?;
    summary.cpu_percent = Spread { avg: numbers.percent()?, max: numbers.percent()? };
    summary.rss_bytes = Spread { avg: numbers.bytes()? as f64, max: numbers.bytes()? as f64 };
    summary.pss_bytes = Spread { avg: numbers.bytes()? as f64, max: numbers.bytes()? as f64 };
    summary.fds_max = numbers.next()?;
    summary.threads_max = numbers.next()?;
    summary.restarts = numbers.next()?;
    summary.incarnation = numbers.next()?;
    summary.read_bytes = numbers.bytes()?;
    summary.written_bytes = numbers.bytes()?;
    summary.disk_bytes = numbers.bytes()?;
    summary.gpu_bytes_max = numbers.bytes()?;
    Some((daemon, summary))
}

#[cfg(test)]
mod tests {
    use rbee_api::Figures;

    use super::*;

    fn sample(daemon: &str) -> Sample {
        Sample {
            incarnation: 300,
            running: true,
            healthy: Some(false),
            figures: Figures {
                cpu_percent: 123.45,
                rss_bytes: 5 << 30,
                pss_bytes: Some(0),
                fds: None,
                threads: 7,
                read_bytes: Some(1 << 40),
                written_bytes: Some(1024),
                disk_bytes: 2048,
                gpu_bytes: Some(8 << 30),
            },
            uptime_s: 86_400,
            restarts: 2,
            ..Sample::none(daemon)
        }
    }

    #[test]
    fn what_is_packed_is_read_back() {
        let samples = [sample("a/0"), Sample::none("b/0"), Sample { healthy: Some(true), ..sample("c/0") }];
        let row = round((1..).zip(&samples));
        let names = [None, Some("a/0"), Some("b/0"), Some("c/0")];
        let mut read = Vec::new();
        read_round(&row, |id| names[id as usize].map(Into::into), |sample| read.push(sample));
        assert_eq!(read, samples);
    }

    #[test]
    fn a_row_that_ends_early_or_is_of_another_layout_gives_what_can_be_read() {
        let samples = [sample("a/0"), sample("b/0")];
        let row = round((1..).zip(&samples));
        let read = |row: &[u8]| {
            let mut read = 0;
            read_round(row, |_| Some("x".into()), |_| read += 1);
            read
        };
        assert_eq!((read(&row), read(&row[..row.len() - 1]), read(&[]), read(&[9, 1, 2])), (2, 1, 0, 0));
        assert_eq!(read(&[LAYOUT, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), 0);
    }
}
