//! Restart intensity as a pure function of time: how long to wait, and when to give up.

use std::collections::VecDeque;

use crate::mutants::mutant;
use crate::{Incarnation, Now, Restart};

/// The restarts of one unit that still count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestartHistory {
    /// Restarts since the last reset; what `status` shows.
    count: u32,
    /// When they were decided, newest last; bounded by the spec's maximum.
    moments: VecDeque<Now>,
}

/// What follows an end that calls for a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Start again after so long.
    RestartIn {
        /// 0: at once.
        delay_ms: u64,
    },
    /// Too many within the window.
    GiveUp {
        /// How many.
        restarts: u32,
    },
}

impl RestartHistory {
    /// Restarts since the last reset.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// A history that an earlier supervisor counted.
    pub(crate) fn adopted(count: u32) -> Self {
        Self { count, moments: VecDeque::new() }
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Decides what follows an end at `now`, and counts it. `jitter_seed` spreads the restarts of units that
    /// died together.
    #[must_use]
    pub fn next(&mut self, now: Now, spec: &Restart, jitter_seed: u64) -> Verdict {
        while self.moments.front().is_some_and(|oldest| now.ms_since(*oldest) >= spec.within_ms) {
            self.moments.pop_front();
        }
        let in_window = u32::try_from(self.moments.len()).unwrap_or(u32::MAX);
        if in_window >= spec.restarts_max.saturating_add(u32::from(mutant!(WindowOffByOne))) {
            return Verdict::GiveUp { restarts: in_window };
        }
        self.moments.push_back(now);
        self.count = self.count.saturating_add(1);
        Verdict::RestartIn { delay_ms: backoff_ms(spec, self.count, jitter_seed) }
    }
}

/// Seed for the jitter of one restart.
pub(crate) fn jitter_seed(core_seed: u64, unit: &str, incarnation: Incarnation) -> u64 {
    // FNV-1a: stable over builds, unlike the standard hasher.
    let mut hash = 0xcbf2_9ce4_8422_2325_u64 ^ core_seed;
    for byte in unit.bytes().chain(incarnation.get().to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

/// `min · 2^(nth-1)`, plus or minus a tenth, never outside `min..=max`.
fn backoff_ms(spec: &Restart, nth: u32, seed: u64) -> u64 {
    let doublings = if mutant!(BackoffFlat) { 0 } else { nth.saturating_sub(1).min(62) };
    let plain = spec.backoff_min_ms.saturating_mul(1_u64 << doublings).min(spec.backoff_max_ms);
    let plain = if mutant!(CapIgnored) { plain.max(spec.backoff_max_ms) * 2 } else { plain };
    let tenth = plain / 10;
    let spread = if tenth == 0 { 0 } else { (seed >> 16) % (2 * tenth + 1) };
    let cap = if mutant!(CapIgnored) { u64::MAX } else { spec.backoff_max_ms };
    (plain - tenth + spread).clamp(spec.backoff_min_ms, cap)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec(min: u64, max: u64, restarts: u32, within: u64) -> Restart {
        Restart {
            backoff_min_ms: min,
            backoff_max_ms: max,
            restarts_max: restarts,
            within_ms: within,
            ..Restart::default()
        }
    }

    /// LIFE-23
    #[test]
    fn delays_double_to_the_cap() {
        let spec = spec(1_000, 8_000, 100, 1_000_000);
        let mut history = RestartHistory::default();
        for expected in [1_000_u64, 2_000, 4_000, 8_000, 8_000] {
            let Verdict::RestartIn { delay_ms } = history.next(Now::from_ms(0), &spec, 7) else { panic!("gave up") };
            assert!(delay_ms.abs_diff(expected) <= expected / 10, "{delay_ms} for {expected}");
        }
    }

    #[test]
    fn the_window_slides() {
        let spec = spec(0, 0, 2, 100);
        let mut history = RestartHistory::default();
        let mut at = |ms| history.next(Now::from_ms(ms), &spec, 0);
        assert_eq!(at(0), Verdict::RestartIn { delay_ms: 0 });
        assert_eq!(at(50), Verdict::RestartIn { delay_ms: 0 });
        assert_eq!(at(99), Verdict::GiveUp { restarts: 2 });
        assert_eq!(at(100), Verdict::RestartIn { delay_ms: 0 });
        assert_eq!(at(149), Verdict::GiveUp { restarts: 2 });
    }

    #[test]
    fn none_allowed_means_none() {
        assert_eq!(
            RestartHistory::default().next(Now::from_ms(0), &spec(1, 1, 0, 1), 0),
            Verdict::GiveUp { restarts: 0 }
        );
    }

    proptest! {
        #[test]
        fn a_delay_is_always_within_its_bounds(min in 0_u64..100_000, extra in 0_u64..10_000_000, nth in 1_u32..200, seed: u64) {
            let spec = spec(min, min + extra, 1, 1);
            let delay = backoff_ms(&spec, nth, seed);
            prop_assert!((min..=min + extra).contains(&delay));
        }
    }
}
