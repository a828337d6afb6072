//! Numbers taken several times: the median, and how far they lie apart.

use std::fmt;

/// What was measured, sorted.
#[derive(Debug, Default, Clone)]
pub struct Sample(Vec<f64>);

impl Sample {
    pub fn add(&mut self, value: f64) {
        let at = self.0.partition_point(|known| *known < value);
        self.0.insert(at, value);
    }

    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lowest and the highest.
    pub fn range(&self) -> Option<(f64, f64)> {
        Some((*self.0.first()?, *self.0.last()?))
    }

    /// The value in the middle; 0 of nothing.
    pub fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        match self.0.len() {
            0 => 0.0,
            length if length % 2 == 1 => self.0[middle],
            _ => f64::midpoint(self.0[middle - 1], self.0[middle]),
        }
    }
}

impl fmt::Display for Sample {
    /// `median (min … max)`, with the width given.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (min, max) = self.range().unwrap_or_default();
        f.pad(&format!("{:.1} ({min:.1} … {max:.1})", self.median()))
    }
}

#[cfg(test)]
mod tests {
    use super::Sample;

    #[test]
    fn the_median_is_in_the_middle_whatever_the_order() {
        let mut sample = Sample::default();
        for value in [9.0, 1.0, 2.0] {
            sample.add(value);
        }
        assert_eq!((sample.median(), sample.to_string()), (2.0, "2.0 (1.0 … 9.0)".into()));
        sample.add(4.0);
        assert_eq!(sample.median(), 3.0);
        assert_eq!(Sample::default().median(), 0.0);
    }
}
