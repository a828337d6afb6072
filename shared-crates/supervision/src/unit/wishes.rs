//! What the owner of a unit, or its neighbours in the tree, want of it.

use std::sync::Arc;

use super::{Abort, State, Then, Unit};
use crate::action::{Action, What};
use crate::cause::Cause;
use crate::event::StopMode;
use crate::mutants::mutant;
use crate::why::{Fate, Link};
use crate::{Now, Spec, UnitName};

impl Unit {
    pub(crate) fn redeclare(&mut self, now: Now, spec: Spec, out: &mut Vec<Action>) {
        let relaunch = spec.launch_fingerprint != self.spec.launch_fingerprint;
        self.spec = spec;
        self.removing = false;
        if !relaunch || !self.wanted {
            return;
        }
        match self.state {
            State::Starting { .. } | State::Running { .. } | State::Spawning { abort: None } => {
                self.end(now, StopMode::Graceful, Then::RunAgain(Cause::SpecChanged), Cause::SpecChanged, out);
            }
            State::Waiting => {}
            State::Failed | State::Unavailable | State::Stopped => {
                self.history.reset();
                self.spawn(Cause::SpecChanged, out);
            }
            // A stopping one that runs again, and one that waits out its back-off, will do so with the new spec.
            State::Spawning { abort: Some(_) }
            | State::Holding { .. }
            | State::Stopping { .. }
            | State::Restarting { .. } => {}
        }
    }

    pub(crate) fn remove(&mut self, now: Now, out: &mut Vec<Action>) {
        self.removing = true;
        self.stop(now, StopMode::Graceful, out);
    }

    /// One that is to be forgotten is declared again first.
    pub(crate) fn start(&mut self, out: &mut Vec<Action>) {
        if self.removing {
            return;
        }
        self.wanted = true;
        match &mut self.state {
            State::Stopped => self.spawn(Cause::Requested, out),
            State::Failed | State::Unavailable => {
                self.history.reset();
                self.spawn(Cause::Requested, out);
            }
            State::Restarting { .. } => self.spawn(Cause::Requested, out),
            State::Stopping { then, .. }
            | State::Holding { then, .. }
            | State::Spawning { abort: Some(Abort { then, .. }) } => {
                if *then == Then::StayDown && !mutant!(StartDuringStopLost) {
                    *then = Then::RunAgain(Cause::Requested);
                }
            }
            State::Starting { .. } if mutant!(StartSpawnsTwice) => self.spawn(Cause::Requested, out),
            State::Waiting | State::Spawning { abort: None } | State::Starting { .. } | State::Running { .. } => {}
        }
    }

    pub(crate) fn stop(&mut self, now: Now, mode: StopMode, out: &mut Vec<Action>) {
        self.wanted = false;
        if self.is_live() {
            self.end(now, mode, Then::StayDown, Cause::Requested, out);
        } else {
            if self.falls.is_restarting() {
                self.fall(now, Fate::Stopped, Cause::Requested, None);
                self.falls.is_down(Fate::Stopped, None, now);
            }
            self.reason = None;
            self.enter(State::Stopped, Cause::Requested, out);
        }
    }

    pub(crate) fn restart(&mut self, now: Now, out: &mut Vec<Action>) {
        if self.removing {
            return;
        }
        self.wanted = true;
        self.end(now, StopMode::Graceful, Then::RunAgain(Cause::Requested), Cause::Requested, out);
    }

    pub(crate) fn retry(&mut self, force: bool, out: &mut Vec<Action>) {
        if self.removing {
            return;
        }
        if force {
            self.history.reset();
        }
        match &mut self.state {
            State::Failed | State::Unavailable | State::Restarting { .. } => {
                self.wanted = true;
                self.spawn(Cause::Requested, out);
            }
            // A failing one on its way down is tried as soon as it is gone, without asking its policy.
            State::Stopping { then: then @ Then::RestartByPolicy(_), .. }
            | State::Holding { then: then @ Then::RestartByPolicy(_), .. } => *then = Then::RunAgain(Cause::Requested),
            _ => {}
        }
    }

    /// A dependency is not running any more: it ends, and waits for it. That is no crash of its own.
    pub(crate) fn dependency_lost(
        &mut self,
        now: Now,
        dependency: &UnitName,
        its_fall: Option<Arc<Link>>,
        out: &mut Vec<Action>,
    ) {
        let is_up =
            matches!(self.state, State::Spawning { abort: None } | State::Starting { .. } | State::Running { .. });
        if is_up && !mutant!(CascadeSkipped) {
            let its_fall = its_fall.filter(|_| !mutant!(RootForgotten));
            self.tell(What::Cascade { dependency: dependency.clone() }, out);
            let cause = Cause::DependencyLost { dependency: dependency.clone() };
            let then = if mutant!(CascadeStaysDown) { Then::StayDown } else { Then::RunAgain(cause.clone()) };
            self.end_because(now, StopMode::Graceful, then, cause, its_fall, out);
        }
    }

    /// Its dependents are gone: the stop that waited for them goes on.
    pub(crate) fn dependents_gone(&mut self, now: Now, out: &mut Vec<Action>) {
        if let State::Holding { mode, then, cause } = &self.state {
            let (mode, then, cause) = (*mode, then.clone(), cause.clone());
            self.begin_stopping(now, mode, then, cause, out);
        }
    }

    /// Looks at the gate again.
    pub(crate) fn gate_moved(&mut self, out: &mut Vec<Action>) {
        if self.is_waiting() && self.gate.waits_for.is_none() {
            self.reason = None;
            self.spawn(Cause::GateOpened, out);
        } else if let (true, Some(waits_for)) = (self.is_waiting(), &self.gate.waits_for) {
            self.reason = Some(format!("waits for {waits_for}"));
        }
    }
}
