//! Policies of one unit, validated once, so that the rest of the core need not doubt them.

use std::collections::BTreeSet;

use crate::UnitName;

/// How a unit is supervised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// When and how often it is restarted.
    pub restart: Restart,
    /// Whether readiness is proven by a report; without, being spawned is enough.
    pub proves_ready: bool,
    /// How long it may take from spawn to ready before it is ended and restarted.
    pub start_timeout_ms: u64,
    /// How long it may take from the polite signal to its end before it is killed.
    pub stop_timeout_ms: u64,
    /// Failed health probes in a row that restart it; 0: health never restarts.
    pub health_failures_max: u32,
    /// Health probes in a row that found it too busy to answer, without a good one among them, that restart it: busy for
    /// so long is hung. 0 takes each for a failed one.
    pub health_busy_max: u32,
    /// Units that must be running before this one is spawned and while it runs.
    pub depends_on: Vec<UnitName>,
    /// Stands for everything that makes a process what it is (command, environment, …): when a declaration
    /// changes it, a live unit is restarted.
    pub launch_fingerprint: u64,
}

/// When a unit that ended is run again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// Which ends are followed by a restart.
    pub policy: Policy,
    /// Delay before the first restart; doubles with each further one.
    pub backoff_min_ms: u64,
    /// Longest delay.
    pub backoff_max_ms: u64,
    /// Restarts allowed within `within_ms`; one more and the unit has failed.
    pub restarts_max: u32,
    /// The window in which restarts count.
    pub within_ms: u64,
    /// Time of stability after which the count starts anew.
    pub reset_after_ms: u64,
}

/// Which ends are followed by a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Every one.
    Always,
    /// All but exit code 0.
    OnFailure,
    /// None.
    Never,
}

impl Default for Restart {
    /// Seed 003: 1 s doubling, 5 restarts an hour, reset after an hour of stability.
    fn default() -> Self {
        Self {
            policy: Policy::Always,
            backoff_min_ms: 1_000,
            backoff_max_ms: 60_000,
            restarts_max: 5,
            within_ms: 3_600_000,
            reset_after_ms: 3_600_000,
        }
    }
}

impl Default for Spec {
    fn default() -> Self {
        Self {
            restart: Restart::default(),
            proves_ready: true,
            start_timeout_ms: 30_000,
            stop_timeout_ms: 10_000,
            health_failures_max: 3,
            health_busy_max: 20,
            depends_on: Vec::new(),
            launch_fingerprint: 0,
        }
    }
}

/// A policy that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpec {
    /// A time that must be positive is 0.
    #[error("`{field}` is 0; it must be positive")]
    Zero {
        /// Which one.
        field: &'static str,
    },
    /// The first delay is longer than the longest.
    #[error("`backoff_min` ({min_ms} ms) is longer than `backoff_max` ({max_ms} ms)")]
    BackoffOrder {
        /// First delay.
        min_ms: u64,
        /// Longest delay.
        max_ms: u64,
    },
    /// A time is longer than anybody lives with.
    #[error("`{field}` is {} days; a year is the most", ms / DAY_MS)]
    TooLong {
        /// Which one.
        field: &'static str,
        /// What it is.
        ms: u64,
    },
    /// Each restart within the window is remembered, and there would be too many.
    #[error("`max_restarts` is {restarts_max}; {RESTARTS_MAX} are the most")]
    TooManyRestarts {
        /// What it is.
        restarts_max: u32,
    },
    /// A dependency stands there twice.
    #[error("`depends_on` names `{dependency}` twice")]
    TwiceDependent {
        /// Which one.
        dependency: UnitName,
    },
}

const DAY_MS: u64 = 24 * 3_600 * 1_000;
const YEAR_MS: u64 = 366 * DAY_MS;
const RESTARTS_MAX: u32 = 1_000_000;

impl Spec {
    /// Checks that the numbers can be meant.
    ///
    /// # Errors
    /// [`InvalidSpec`] names the first field that cannot.
    pub fn validate(&self) -> Result<(), InvalidSpec> {
        let Restart { backoff_min_ms: min_ms, backoff_max_ms: max_ms, restarts_max, .. } = self.restart;
        let positive = [
            ("start_timeout", self.start_timeout_ms),
            ("stop_timeout", self.stop_timeout_ms),
            ("within", self.restart.within_ms),
            ("reset_after", self.restart.reset_after_ms),
        ];
        if let Some((field, _)) = positive.into_iter().find(|(_, ms)| *ms == 0) {
            return Err(InvalidSpec::Zero { field });
        }
        let times = positive.into_iter().chain([("backoff_min", min_ms), ("backoff_max", max_ms)]);
        if let Some((field, ms)) = times.into_iter().find(|(_, ms)| *ms > YEAR_MS) {
            return Err(InvalidSpec::TooLong { field, ms });
        }
        if min_ms > max_ms {
            return Err(InvalidSpec::BackoffOrder { min_ms, max_ms });
        }
        if restarts_max > RESTARTS_MAX {
            return Err(InvalidSpec::TooManyRestarts { restarts_max });
        }
        let mut seen = BTreeSet::new();
        if let Some(dependency) = self.depends_on.iter().find(|dependency| !seen.insert(*dependency)) {
            return Err(InvalidSpec::TwiceDependent { dependency: dependency.clone() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// LIFE-27
    #[test]
    fn impossible_numbers_are_named_each_in_its_own_words() {
        let fine = Spec::default;
        assert_eq!(fine().validate(), Ok(()));
        let restart = |change: fn(&mut Restart)| {
            let mut spec = fine();
            change(&mut spec.restart);
            spec
        };
        for (spec, words) in [
            (Spec { start_timeout_ms: 0, ..fine() }, "`start_timeout` is 0; it must be positive"),
            (Spec { stop_timeout_ms: 0, ..fine() }, "`stop_timeout` is 0; it must be positive"),
            (restart(|r| r.within_ms = 0), "`within` is 0; it must be positive"),
            (restart(|r| r.reset_after_ms = 0), "`reset_after` is 0; it must be positive"),
            (
                restart(|r| (r.backoff_min_ms, r.backoff_max_ms) = (2, 1)),
                "`backoff_min` (2 ms) is longer than `backoff_max` (1 ms)",
            ),
            (restart(|r| r.backoff_max_ms = 400 * DAY_MS), "`backoff_max` is 400 days; a year is the most"),
            (Spec { stop_timeout_ms: u64::MAX, ..fine() }, "`stop_timeout` is 213503982334 days; a year is the most"),
            (restart(|r| r.restarts_max = u32::MAX), "`max_restarts` is 4294967295; 1000000 are the most"),
            (
                Spec { depends_on: vec![UnitName::new("db"), UnitName::new("db")], ..fine() },
                "`depends_on` names `db` twice",
            ),
        ] {
            assert_eq!(spec.validate().map_err(|error| error.to_string()), Err(words.to_owned()));
        }
    }

    #[test]
    fn no_back_off_and_no_restarts_can_be_meant() {
        let restart = Restart { backoff_min_ms: 0, backoff_max_ms: 0, restarts_max: 0, ..Restart::default() };
        assert_eq!(Spec { restart, ..Spec::default() }.validate(), Ok(()));
    }
}
