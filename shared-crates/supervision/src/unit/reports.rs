//! What the process layer and the clock report of a unit.

use super::{Abort, EXTENSION_MS_MAX, KILL_AGAIN_MS, Reload, State, Then, Unit, Vitals, Watchdog};
use crate::action::{Action, What};
use crate::cause::Cause;
use crate::event::{ExitHow, SpawnErrorKind, Stage, StopMode};
use crate::mutants::mutant;
use crate::restart::RestartHistory;
use crate::why::Fate;
use crate::{Excess, Incarnation, Now, Policy};

impl Unit {
    pub(crate) fn adopted(
        &mut self,
        now: Now,
        incarnation: Incarnation,
        stage: Stage,
        restarts: u32,
        out: &mut Vec<Action>,
    ) {
        if self.is_live() || mutant!(AdoptionIgnored) {
            return;
        }
        self.incarnation = self.incarnation.max(incarnation);
        self.history = RestartHistory::adopted(restarts);
        // One that was ending stays down unless its owner wishes otherwise: nobody remembers what for.
        self.wanted = stage != Stage::Ending;
        self.vitals = Vitals::default();
        self.tell(What::Adopted, out);
        if stage == Stage::Ending {
            self.fall(now, Fate::Stopped, Cause::Adopted, None);
        }
        match stage {
            Stage::Ending => self.begin_stopping(now, StopMode::Graceful, Then::StayDown, Cause::Adopted, out),
            Stage::Starting if self.spec.proves_ready => self.await_ready(now, Cause::Adopted, out),
            Stage::Starting | Stage::Ready => self.run(now, Cause::Adopted, out),
        }
    }

    pub(crate) fn spawned(&mut self, now: Now, out: &mut Vec<Action>) {
        match &self.state {
            State::Spawning { abort: Some(abort) } => {
                let Abort { mode, then, cause } = abort.clone();
                self.hold_or_stop(now, mode, then, cause, out);
            }
            State::Spawning { abort: None } if self.spec.proves_ready => self.await_ready(now, Cause::Requested, out),
            State::Spawning { abort: None } => self.run(now, Cause::Ready, out),
            _ => {}
        }
    }

    pub(crate) fn spawn_failed(&mut self, now: Now, kind: SpawnErrorKind, reason: String, out: &mut Vec<Action>) {
        let State::Spawning { abort } = &self.state else { return };
        let abort = abort.clone();
        out.push(Action::Cleanup { unit: self.name.clone(), incarnation: self.incarnation });
        let cause = Cause::SpawnFailed { reason };
        match (abort, kind) {
            (Some(Abort { then: Then::StayDown, .. }), _) => return self.settle_down(now, ExitHow::Unknown, out),
            (Some(Abort { then: Then::RunAgain(cause), .. }), _) => return self.spawn(cause, out),
            _ => self.fall(now, Fate::Restarted, cause.clone(), None),
        }
        match kind {
            SpawnErrorKind::Unavailable if !mutant!(UnavailableRetried) => {
                self.settle(now, State::Unavailable, cause, out)
            }
            _ => self.restart_by_policy(now, cause, out),
        }
    }

    pub(crate) fn ready(&mut self, now: Now, out: &mut Vec<Action>) {
        match &mut self.state {
            State::Starting { .. } => self.run(now, Cause::Ready, out),
            State::Running { reloading, .. } => *reloading = None,
            _ => {}
        }
    }

    /// A second one before it is ready again does not lengthen the first.
    pub(crate) fn reloading(&mut self, now: Now) {
        let timeout_ms = if mutant!(ReloadForEver) { u64::MAX } else { self.spec.start_timeout_ms };
        let deadline = now.plus_ms(timeout_ms);
        if let State::Running { reloading: reloading @ None, .. } = &mut self.state {
            *reloading = Some(Reload { began: now, deadline });
            self.vitals = Vitals { watchdog: self.vitals.watchdog, ..Vitals::default() };
        }
    }

    pub(crate) fn extend_timeout(&mut self, now: Now, by_ms: u64) {
        if mutant!(ExtensionUnheard) {
            return;
        }
        let until = now.plus_ms(by_ms.min(EXTENSION_MS_MAX));
        match &mut self.state {
            State::Starting { deadline }
            | State::Running { reloading: Some(Reload { deadline, .. }), .. }
            | State::Stopping { kill_at: deadline, killed: false, .. } => *deadline = (*deadline).max(until),
            _ => {}
        }
    }

    pub(crate) fn health_ok(&mut self) {
        if mutant!(HealthNeverGood) {
            return;
        }
        self.vitals = Vitals { watchdog: self.vitals.watchdog, ..Vitals::default() };
    }

    pub(crate) fn health_failed(&mut self, now: Now, reason: String, out: &mut Vec<Action>) {
        let limit = self.spec.health_failures_max;
        if !matches!(self.state, State::Running { reloading: None, .. }) {
            return;
        }
        self.vitals.failures = self.vitals.failures.saturating_add(1);
        let (in_a_row, cause) = (self.vitals.failures, Cause::Unhealthy { reason });
        // Where none restarts it they may go on for ever: the first of a row is told.
        if limit > 0 || in_a_row == 1 {
            self.tell(What::HealthFailed { cause: cause.clone(), in_a_row, limit }, out);
        }
        if limit > 0 && in_a_row >= limit {
            self.fail_over(now, cause, out);
        }
    }

    /// Busy is not ill, but busy for ever is hung: see decision 004.
    pub(crate) fn health_busy(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.spec.health_busy_max == 0 {
            return self.health_failed(now, "no answer in time".to_owned(), out);
        }
        if self.spec.health_failures_max == 0 || !matches!(self.state, State::Running { reloading: None, .. }) {
            return;
        }
        self.vitals.busy = self.vitals.busy.saturating_add(1);
        if self.vitals.busy >= self.spec.health_busy_max && !mutant!(BusyForEver) {
            let in_a_row = self.vitals.busy;
            let cause = Cause::Hung { busy_probes: in_a_row };
            self.tell(What::HealthFailed { cause: cause.clone(), in_a_row, limit: self.spec.health_busy_max }, out);
            self.fail_over(now, cause, out);
        }
    }

    pub(crate) fn watchdog_armed(&mut self, now: Now, timeout_ms: u64) {
        let due = now.plus_ms(timeout_ms);
        self.vitals.watchdog = (timeout_ms > 0).then_some(Watchdog { timeout_ms, due });
    }

    pub(crate) fn watchdog_ping(&mut self, now: Now) {
        if let (Some(Watchdog { timeout_ms, due }), false) = (&mut self.vitals.watchdog, mutant!(PingUnheard)) {
            *due = (*due).max(now.plus_ms(*timeout_ms));
        }
    }

    pub(crate) fn memory_high(&mut self, now: Now, bytes: u64, limit: u64, out: &mut Vec<Action>) {
        if matches!(self.state, State::Starting { .. } | State::Running { .. }) && !mutant!(MemoryUnseen) {
            let cause = Cause::MemoryHigh { bytes, limit };
            self.tell(What::Threshold { cause: cause.clone(), restarts: true }, out);
            self.fail_over(now, cause, out);
        }
    }

    pub(crate) fn over_threshold(&mut self, now: Now, excess: Excess, restarts: bool, out: &mut Vec<Action>) {
        if !matches!(self.state, State::Starting { .. } | State::Running { .. }) {
            return;
        }
        let cause = Cause::OverThreshold(excess);
        self.tell(What::Threshold { cause: cause.clone(), restarts }, out);
        if restarts && !mutant!(ThresholdUnanswered) {
            self.fail_over(now, cause, out);
        }
    }

    pub(crate) fn exited(&mut self, now: Now, how: ExitHow, out: &mut Vec<Action>) {
        if !self.is_live() {
            return;
        }
        if !mutant!(CleanupSkipped) {
            out.push(Action::Cleanup { unit: self.name.clone(), incarnation: self.incarnation });
        }
        if matches!(self.state, State::Spawning { abort: None } | State::Starting { .. } | State::Running { .. }) {
            self.fall(now, Fate::Restarted, Cause::Exited(how), None);
        }
        self.falls.ended(how);
        match self.state.clone() {
            State::Stopping { then, .. }
            | State::Holding { then, .. }
            | State::Spawning { abort: Some(Abort { then, .. }) } => match then {
                Then::StayDown => self.settle_down(now, how, out),
                Then::RunAgain(cause) => self.spawn(cause, out),
                Then::RestartByPolicy(cause) => self.restart_by_policy(now, cause, out),
            },
            State::Running { since, .. } => {
                if now.ms_since(since) >= self.spec.restart.reset_after_ms {
                    self.history.reset();
                }
                if how.is_success() && self.spec.restart.policy != Policy::Always {
                    self.settle(now, State::Stopped, Cause::Exited(how), out);
                } else {
                    self.restart_by_policy(now, Cause::Exited(how), out);
                }
            }
            // Whoever ends before it is ready has not done its work, whatever its exit code.
            _ => self.restart_by_policy(now, Cause::Exited(how), out),
        }
    }

    /// It ended, and said why it cannot run. One that ran all the same is gone like any other.
    pub(crate) fn unavailable(&mut self, now: Now, how: ExitHow, reason: String, out: &mut Vec<Action>) {
        let is_starting = matches!(self.state, State::Spawning { abort: None } | State::Starting { .. });
        if !is_starting || !self.wanted || mutant!(UnavailableRetried) {
            return self.exited(now, how, out);
        }
        out.push(Action::Cleanup { unit: self.name.clone(), incarnation: self.incarnation });
        let cause = Cause::SpawnFailed { reason };
        self.fall(now, Fate::Unavailable, cause.clone(), None);
        self.falls.ended(how);
        self.settle(now, State::Unavailable, cause, out);
    }

    pub(crate) fn tick(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        match &mut self.state {
            State::Starting { .. } => {
                self.fail_over(now, Cause::StartTimedOut { after_ms: self.spec.start_timeout_ms }, out);
            }
            State::Stopping { kill_at, killed, .. } => {
                if !mutant!(TickStuck) {
                    *kill_at = now.plus_ms(KILL_AGAIN_MS);
                }
                *killed = true;
                if mutant!(KillForgotten) {
                    return;
                }
                out.push(Action::Kill { unit: self.name.clone(), incarnation: self.incarnation });
            }
            State::Restarting { .. } => self.spawn(Cause::BackoffOver, out),
            State::Running { since, reloading } => {
                let (since, reloading) = (*since, *reloading);
                self.tick_running(now, since, reloading, out);
            }
            State::Stopped
            | State::Waiting
            | State::Holding { .. }
            | State::Spawning { .. }
            | State::Failed
            | State::Unavailable => {}
        }
    }

    fn tick_running(&mut self, now: Now, since: Now, reloading: Option<Reload>, out: &mut Vec<Action>) {
        if now.ms_since(since) >= self.spec.restart.reset_after_ms && !mutant!(CountKept) {
            self.history.reset();
        }
        if let Some(reload) = reloading.filter(|reload| reload.deadline <= now) {
            return self.fail_over(now, Cause::ReloadTimedOut { after_ms: now.ms_since(reload.began) }, out);
        }
        let Some(Watchdog { timeout_ms, due }) = self.vitals.watchdog.filter(|watchdog| watchdog.due <= now) else {
            return;
        };
        if now.ms_since(due) > timeout_ms || mutant!(SilenceUnseen) {
            // So late is this tick that the supervisor itself stood still: it cannot say who was silent meanwhile.
            self.vitals.watchdog = Some(Watchdog { timeout_ms, due: now.plus_ms(timeout_ms) });
        } else {
            let cause = Cause::WatchdogMissed { timeout_ms };
            self.tell(What::HealthFailed { cause: cause.clone(), in_a_row: 1, limit: 1 }, out);
            self.fail_over(now, cause, out);
        }
    }
}
