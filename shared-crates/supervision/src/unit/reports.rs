//! What the process layer and the clock report of a unit.

use super::{Abort, KILL_AGAIN_MS, State, Then, Unit};
use crate::action::{Action, Cause};
use crate::event::{ExitHow, SpawnErrorKind, Stage, StopMode};
use crate::restart::RestartHistory;
use crate::{Incarnation, Now, Policy};

impl Unit {
    pub(crate) fn adopted(
        &mut self,
        now: Now,
        incarnation: Incarnation,
        stage: Stage,
        restarts: u32,
        out: &mut Vec<Action>,
    ) {
        if self.is_live() {
            return;
        }
        self.incarnation = self.incarnation.max(incarnation);
        self.history = RestartHistory::adopted(restarts);
        // One that was ending stays down unless its owner wishes otherwise: nobody remembers what for.
        self.wanted = stage != Stage::Ending;
        match stage {
            Stage::Ending => self.begin_stopping(now, StopMode::Graceful, Then::StayDown, Cause::Adopted, out),
            Stage::Starting if self.spec.proves_ready => self.await_ready(now, Cause::Adopted, out),
            Stage::Starting | Stage::Ready => self.run(now, Cause::Adopted, out),
        }
    }

    pub(crate) fn spawned(&mut self, now: Now, out: &mut Vec<Action>) {
        match &self.state {
            State::Spawning { abort: Some(abort) } => {
                let Abort { mode, then } = abort.clone();
                self.hold_or_stop(now, mode, then, Cause::Requested, out);
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
            (Some(Abort { then: Then::StayDown, .. }), _) => self.settle_down(ExitHow::Unknown, out),
            (Some(Abort { then: Then::RunAgain, .. }), _) => self.spawn(Cause::Requested, out),
            (_, SpawnErrorKind::Unavailable) => self.settle(State::Unavailable, cause, out),
            (_, SpawnErrorKind::Failed) => self.restart_by_policy(now, cause, out),
        }
    }

    pub(crate) fn ready(&mut self, now: Now, out: &mut Vec<Action>) {
        if matches!(self.state, State::Starting { .. }) {
            self.run(now, Cause::Ready, out);
        }
    }

    pub(crate) fn extend_timeout(&mut self, now: Now, by_ms: u64) {
        match &mut self.state {
            State::Starting { deadline } => *deadline = (*deadline).max(now.plus_ms(by_ms)),
            State::Stopping { kill_at, killed: false, .. } => *kill_at = (*kill_at).max(now.plus_ms(by_ms)),
            _ => {}
        }
    }

    pub(crate) fn health_ok(&mut self) {
        if let State::Running { health_failures, .. } = &mut self.state {
            *health_failures = 0;
        }
    }

    pub(crate) fn health_failed(&mut self, now: Now, reason: String, out: &mut Vec<Action>) {
        let limit = self.spec.health_failures_max;
        let State::Running { health_failures, .. } = &mut self.state else { return };
        *health_failures = health_failures.saturating_add(1);
        if limit > 0 && *health_failures >= limit {
            let cause = Cause::Unhealthy { reason };
            self.end(now, StopMode::Graceful, Then::RestartByPolicy(cause.clone()), cause, out);
        }
    }

    pub(crate) fn exited(&mut self, now: Now, how: ExitHow, out: &mut Vec<Action>) {
        if !self.is_live() {
            return;
        }
        out.push(Action::Cleanup { unit: self.name.clone(), incarnation: self.incarnation });
        match self.state.clone() {
            State::Stopping { then, .. }
            | State::Holding { then, .. }
            | State::Spawning { abort: Some(Abort { then, .. }) } => match then {
                Then::StayDown => self.settle_down(how, out),
                Then::RunAgain => self.spawn(Cause::Requested, out),
                Then::RestartByPolicy(cause) => self.restart_by_policy(now, cause, out),
            },
            State::Running { since, .. } => {
                if now.ms_since(since) >= self.spec.restart.reset_after_ms {
                    self.history.reset();
                }
                if how.is_success() && self.spec.restart.policy != Policy::Always {
                    self.settle(State::Stopped, Cause::Exited(how), out);
                } else {
                    self.restart_by_policy(now, Cause::Exited(how), out);
                }
            }
            // Whoever ends before it is ready has not done its work, whatever its exit code.
            _ => self.restart_by_policy(now, Cause::Exited(how), out),
        }
    }

    pub(crate) fn tick(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        match &mut self.state {
            State::Starting { .. } => {
                let cause = Cause::StartTimedOut { after_ms: self.spec.start_timeout_ms };
                self.end(now, StopMode::Graceful, Then::RestartByPolicy(cause.clone()), cause, out);
            }
            State::Stopping { kill_at, killed, .. } => {
                *kill_at = now.plus_ms(KILL_AGAIN_MS);
                *killed = true;
                out.push(Action::Kill { unit: self.name.clone(), incarnation: self.incarnation });
            }
            State::Restarting { .. } => self.spawn(Cause::BackoffOver, out),
            State::Running { .. } => self.history.reset(),
            State::Stopped
            | State::Waiting
            | State::Holding { .. }
            | State::Spawning { .. }
            | State::Failed
            | State::Unavailable => {}
        }
    }
}
