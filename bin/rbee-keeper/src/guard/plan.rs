//! What the guard does about what it sees. Pure: it is told the time.
//!
//! ```text
//!            ┌──────────── answers ────────────┐
//!            ▼                                 │
//!   watches ─┬─ no answer, N times ─▶ ends her ┤
//!            └─ she ended by herself ─▶ waits ─┴▶ starts her ─┬─▶ watches
//!                                        │                    └ fails ─▶ waits, longer
//!                                        └─ too often ─▶ gave up, until somebody else starts her
//!   rests: she was stopped by intention, until somebody starts her
//! ```

use std::time::Duration;

use daemon_lifecycle::{Now, Policy, Restart, RestartHistory, RestartVerdict};
use rbee_runtime::config::{GuardConfig, RestartConfig, RestartPolicy};

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deed {
    /// Go on.
    Watch,
    /// She hangs: end her.
    End {
        /// Why.
        cause: String,
    },
    /// Start her after so long, if she is still down then.
    StartIn {
        /// The back-off.
        delay: Duration,
        /// Why.
        cause: String,
    },
    /// Leave her down.
    GiveUp {
        /// Why.
        cause: String,
    },
}

/// What was seen so far.
#[derive(Debug)]
pub(super) struct Plan {
    restart: Restart,
    failures_max: u32,
    restarts: RestartHistory,
    failures: u32,
    up_since: Option<Now>,
    /// Why she was ended by us, until she is gone.
    ended_for: Option<String>,
}

impl Plan {
    pub(super) fn new(config: &GuardConfig) -> Self {
        Self {
            restart: restart_of(&config.restart),
            failures_max: config.failures,
            restarts: RestartHistory::default(),
            failures: 0,
            up_since: None,
            ended_for: None,
        }
    }

    /// Restarts since the count was last reset.
    pub(super) const fn restarts(&self) -> u32 {
        self.restarts.count()
    }

    /// She runs; `by_us` where we have started her.
    pub(super) fn runs(&mut self, now: Now, by_us: bool) {
        if !by_us && self.up_since.is_none() {
            // Whoever starts her by hand begins anew.
            self.restarts.reset();
        }
        self.failures = 0;
        self.ended_for = None;
        self.up_since = Some(now);
    }

    /// She was asked how she is.
    pub(super) fn asked(&mut self, now: Now, answer: Result<(), String>) -> Deed {
        let Err(reason) = answer else {
            self.failures = 0;
            self.settle(now);
            return Deed::Watch;
        };
        self.failures = self.failures.saturating_add(1);
        if self.failures < self.failures_max {
            return Deed::Watch;
        }
        let cause = format!("she did not answer {} times in a row: {reason}", self.failures);
        self.failures = 0;
        self.ended_for = Some(cause.clone());
        Deed::End { cause }
    }

    /// She is gone, and nobody told her to end.
    pub(super) fn fell(&mut self, now: Now, pid: u32) -> Deed {
        self.settle(now);
        self.up_since = None;
        let cause = self.ended_for.take().unwrap_or_else(|| format!("process {pid} ended, and nobody told it to"));
        self.again(now, u64::from(pid), cause)
    }

    /// A start of ours failed.
    pub(super) fn start_failed(&mut self, now: Now, reason: &str) -> Deed {
        self.again(now, now.as_ms(), format!("she could not be started: {reason}"))
    }

    /// She was stopped by intention: what was counted is past.
    pub(super) fn rests(&mut self) {
        self.restarts.reset();
        (self.failures, self.up_since, self.ended_for) = (0, None, None);
    }

    fn settle(&mut self, now: Now) {
        if self.up_since.is_some_and(|since| now.ms_since(since) >= self.restart.reset_after_ms) {
            self.restarts.reset();
        }
    }

    fn again(&mut self, now: Now, seed: u64, cause: String) -> Deed {
        if self.restart.policy == Policy::Never {
            return Deed::GiveUp { cause: format!("{cause}; `monitor.guard.restart.policy` is `never`") };
        }
        match self.restarts.next(now, &self.restart, seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            RestartVerdict::RestartIn { delay_ms } => Deed::StartIn { delay: Duration::from_millis(delay_ms), cause },
            RestartVerdict::GiveUp { restarts } => {
                let within_s = self.restart.within_ms / 1000;
                Deed::GiveUp { cause: format!("{cause}; gave up after {restarts} restarts within {within_s} s") }
            }
        }
    }
}

fn restart_of(config: &RestartConfig) -> Restart {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    Restart {
        policy: if config.policy == RestartPolicy::Never { Policy::Never } else { Policy::Always },
        backoff_min_ms: millis(config.backoff_min),
        backoff_max_ms: millis(config.backoff_max),
        restarts_max: config.max_restarts,
        within_ms: millis(config.within),
        reset_after_ms: millis(config.reset_after),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(max_restarts: u32) -> Plan {
        let restart = RestartConfig { max_restarts, ..RestartConfig::default() };
        Plan::new(&GuardConfig { restart, ..GuardConfig::default() })
    }

    fn at(second: u64) -> Now {
        Now::from_ms(second * 1000)
    }

    fn delay_s(deed: &Deed) -> Option<u64> {
        match deed {
            Deed::StartIn { delay, .. } => Some((delay.as_millis() as u64 + 500) / 1000),
            _ => None,
        }
    }

    /// MONI-15
    #[test]
    fn falls_are_waited_out_longer_each_time_and_in_the_end_given_up() {
        let mut plan = plan(3);
        plan.runs(at(0), false);
        let mut delays = Vec::new();
        for second in [10, 20, 30] {
            delays.push(delay_s(&plan.fell(at(second), 7)));
            plan.runs(at(second + 5), true);
        }
        assert_eq!(delays, [Some(1), Some(2), Some(4)]);
        let Deed::GiveUp { cause } = plan.fell(at(40), 7) else { panic!("goes on") };
        assert!(cause.contains("process 7 ended") && cause.contains("gave up after 3 restarts"), "{cause}");
        // Started by hand, she is guarded anew.
        plan.runs(at(50), false);
        assert_eq!((plan.restarts(), delay_s(&plan.fell(at(60), 8))), (0, Some(1)));
    }

    /// MONI-15
    #[test]
    fn an_hour_without_a_fall_is_a_new_beginning() {
        let mut plan = plan(5);
        plan.runs(at(0), false);
        assert_eq!(delay_s(&plan.fell(at(1), 7)), Some(1));
        plan.runs(at(2), true);
        assert_eq!(delay_s(&plan.fell(at(3000), 7)), Some(2));
        plan.runs(at(3002), true);
        assert_eq!(plan.asked(at(3002 + 3600), Ok(())), Deed::Watch);
        assert_eq!((plan.restarts(), delay_s(&plan.fell(at(7000), 7))), (0, Some(1)));
    }

    /// MONI-16
    #[test]
    fn only_failures_in_a_row_end_her() {
        let mut plan = plan(5);
        plan.runs(at(0), false);
        let no = || Err("time is over".to_owned());
        for answer in [no(), no(), Ok(()), no(), no()] {
            assert_eq!(plan.asked(at(1), answer), Deed::Watch);
        }
        let Deed::End { cause } = plan.asked(at(2), no()) else { panic!("goes on") };
        assert!(cause.contains("3 times in a row: time is over"), "{cause}");
        let Deed::StartIn { cause: told, .. } = plan.fell(at(3), 7) else { panic!("left down") };
        assert_eq!(told, cause, "the reason is why she was ended, not that she ended");
    }

    /// MONI-15
    #[test]
    fn a_start_that_fails_counts_and_a_stop_by_intention_forgets() {
        let mut plan = plan(2);
        plan.runs(at(0), false);
        assert_eq!(delay_s(&plan.fell(at(1), 7)), Some(1));
        assert_eq!(delay_s(&plan.start_failed(at(2), "the port is taken")), Some(2));
        let Deed::GiveUp { cause } = plan.start_failed(at(3), "the port is taken") else { panic!("goes on") };
        assert!(cause.contains("could not be started: the port is taken"), "{cause}");
        plan.rests();
        plan.runs(at(4), false);
        assert_eq!(delay_s(&plan.fell(at(5), 7)), Some(1));
    }

    #[test]
    fn never_means_never() {
        let restart = RestartConfig { policy: RestartPolicy::Never, ..RestartConfig::default() };
        let mut plan = Plan::new(&GuardConfig { restart, ..GuardConfig::default() });
        plan.runs(at(0), false);
        assert!(matches!(plan.fell(at(1), 7), Deed::GiveUp { .. }));
    }
}
