//! How long things took, in buckets: 16 a doubling, so that what is read from it is at most 1/16 too high.
//!
//! ```text
//!   0 µs … 15 µs: a bucket each │ 16 … 31: 16 buckets │ 32 … 63: 16 buckets │ … │ from 2^32 µs (71 minutes): the last
//! ```

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rbee_api::report::Quantiles;

/// Buckets a doubling.
const PARTS: u64 = 16;
const PARTS_LOG2: u32 = 4;
/// From here on it is all one.
const TOP_LOG2: u32 = 32;
/// All buckets.
const BUCKETS: usize = ((TOP_LOG2 - PARTS_LOG2 + 1) as usize) * PARTS as usize;

/// Counts by duration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Histogram {
    /// As long as the highest bucket in use needs it to be.
    counts: Vec<u64>,
}

/// A [`Histogram`] that many count into at once, without a lock.
#[derive(Debug)]
pub struct AtomicHistogram {
    counts: Box<[AtomicU32]>,
}

fn bucket_of(duration: Duration) -> usize {
    let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).min((1 << TOP_LOG2) - 1);
    if us < PARTS {
        return us as usize;
    }
    let log2 = us.ilog2();
    let part = (us >> (log2 - PARTS_LOG2)) - PARTS;
    ((log2 - PARTS_LOG2 + 1) as u64 * PARTS + part) as usize
}

/// The longest time that falls into a bucket.
fn longest_us(bucket: usize) -> u64 {
    let (doubling, part) = (bucket as u64 / PARTS, bucket as u64 % PARTS);
    match doubling {
        0 => part,
        doubling => ((PARTS + part + 1) << (doubling - 1)) - 1,
    }
}

impl Histogram {
    /// Counts one.
    pub fn record(&mut self, duration: Duration) {
        self.add(bucket_of(duration), 1);
    }

    fn add(&mut self, bucket: usize, count: u64) {
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] = self.counts[bucket].saturating_add(count);
    }

    /// Counts all that another has counted.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in other.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.add(bucket, *count);
        }
    }

    /// How many were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }

    /// So long, or a little less, did `share` (0 to 1) of them take at most; in milliseconds.
    #[must_use]
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        let total = self.total();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank"
        )]
        let rank = ((total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0_u64;
        let bucket = self.counts.iter().position(|count| {
            seen = seen.saturating_add(*count);
            *count > 0 && seen >= rank
        })?;
        #[expect(clippy::cast_precision_loss, reason = "below 2^33")]
        Some(longest_us(bucket) as f64 / 1_000.0)
    }

    /// Half, 95 and 99 of a hundred; `None` where nothing was counted.
    #[must_use]
    pub fn quantiles(&self) -> Option<Quantiles> {
        let at = |share| self.quantile_ms(share);
        Some(Quantiles { p50: at(0.5)?, p95: at(0.95)?, p99: at(0.99)? })
    }

    /// As it is kept: pairs of a bucket (the distance to the one before) and its count, as variable-length numbers.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut before = 0;
        for (bucket, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            put(&mut bytes, (bucket - before) as u64);
            put(&mut bytes, *count);
            before = bucket;
        }
        bytes
    }

    /// What [`Histogram::to_bytes`] has written; `None` where it has not.
    #[must_use]
    pub fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let mut histogram = Self::default();
        let mut bucket = 0_usize;
        while !bytes.is_empty() {
            bucket = bucket.checked_add(usize::try_from(take(&mut bytes)?).ok()?).filter(|bucket| *bucket < BUCKETS)?;
            histogram.add(bucket, take(&mut bytes)?);
        }
        Some(histogram)
    }
}

impl Default for AtomicHistogram {
    fn default() -> Self {
        Self { counts: (0..BUCKETS).map(|_| AtomicU32::new(0)).collect() }
    }
}

impl AtomicHistogram {
    /// Counts one.
    pub fn record(&self, duration: Duration) {
        self.counts[bucket_of(duration)].fetch_add(1, Ordering::Relaxed);
    }

    /// What was counted since this was last asked.
    #[must_use]
    pub fn take(&self) -> Histogram {
        let mut histogram = Histogram::default();
        for (bucket, count) in self.counts.iter().enumerate() {
            if count.load(Ordering::Relaxed) > 0 {
                histogram.add(bucket, u64::from(count.swap(0, Ordering::Relaxed)));
            }
        }
        histogram
    }
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push((number as u8) | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f).checked_shl(shift)?;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_on_one_another_and_are_at_most_a_sixteenth_wide() {
        for bucket in 1..BUCKETS {
            let (longest, before) = (longest_us(bucket), longest_us(bucket - 1));
            assert!(longest > before);
            assert_eq!(bucket_of(Duration::from_micros(longest)), bucket);
            assert_eq!(bucket_of(Duration::from_micros(before + 1)), bucket);
            assert!(longest - before <= ((before + 1) / 16).max(1), "{bucket}");
        }
        assert_eq!(bucket_of(Duration::MAX), BUCKETS - 1);
    }

    /// REPT-08
    #[test]
    fn quantiles_are_never_too_low_and_at_most_a_sixteenth_too_high() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantiles(), None);
        (1..=1_000).for_each(|ms| histogram.record(Duration::from_millis(ms)));
        let found = histogram.quantiles().unwrap();
        for (found, real) in [(found.p50, 500.0), (found.p95, 950.0), (found.p99, 990.0)] {
            assert!(found >= real && found <= real * (1.0 + 1.0 / 16.0), "{found} for {real}");
        }
    }

    #[test]
    fn one_alone_is_every_quantile() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::ZERO);
        assert_eq!(histogram.quantiles(), Some(Quantiles::default()));
    }

    #[test]
    fn bytes_round_trip_and_nonsense_is_refused() {
        let mut histogram = Histogram::default();
        for ms in [0, 1, 1, 7, 300, 300_000, u64::MAX] {
            histogram.record(Duration::from_millis(ms));
        }
        histogram.add(3, 1 << 40);
        let bytes = histogram.to_bytes();
        assert_eq!(Histogram::from_bytes(&bytes), Some(histogram));
        for bad in [&bytes[..1], &[0xff, 0xff, 0x7f, 1], &[0xff; 12]] {
            assert_eq!(Histogram::from_bytes(bad), None, "{bad:?}");
        }
        assert_eq!(Histogram::from_bytes(&[]), Some(Histogram::default()));
    }

    #[test]
    fn what_many_count_is_taken_once() {
        let (shared, mut alone) = (AtomicHistogram::default(), Histogram::default());
        for ms in [1, 1, 90, 4_000] {
            shared.record(Duration::from_millis(ms));
            alone.record(Duration::from_millis(ms));
        }
        assert_eq!(shared.take(), alone);
        assert!(shared.take().is_empty());
    }
}
