//! The moves between states: the only place where a unit's state is set.

use std::sync::Arc;

use super::{Abort, KILL_AGAIN_MS, State, Then, Unit, Vitals};
use crate::action::{Action, Change, Happening, What};
use crate::cause::Cause;
use crate::event::{ExitHow, StopMode};
use crate::mutants::mutant;
use crate::restart::{Verdict, jitter_seed};
use crate::why::{Fate, Link};
use crate::{Now, Phase, Policy, Spec};

impl Unit {
    /// Ends a live process; one that is ending already can only end sooner.
    pub(super) fn end(&mut self, now: Now, mode: StopMode, then: Then, cause: Cause, out: &mut Vec<Action>) {
        self.end_because(now, mode, then, cause, None, out);
    }

    /// As [`Unit::end`], pulled down by the fall of a dependency.
    pub(super) fn end_because(
        &mut self,
        now: Now,
        mode: StopMode,
        then: Then,
        cause: Cause,
        pulled_by: Option<Arc<Link>>,
        out: &mut Vec<Action>,
    ) {
        let is_up =
            matches!(self.state, State::Spawning { abort: None } | State::Starting { .. } | State::Running { .. });
        if is_up || (self.is_live() && self.falls.is_restarting() != (then.fate() == Fate::Restarted)) {
            self.fall(now, then.fate(), cause.clone(), pulled_by);
        }
        match &mut self.state {
            State::Spawning { abort: Some(abort) } => {
                abort.then = then;
                abort.cause = cause;
                if patience_ms(mode, &self.spec) < patience_ms(abort.mode, &self.spec) {
                    abort.mode = mode;
                }
            }
            State::Spawning { abort: None } => {
                if mutant!(SpawnNotAborted) {
                    return;
                }
                let abort = Abort { mode, then, cause: cause.clone() };
                self.enter(State::Spawning { abort: Some(abort) }, cause, out);
            }
            State::Stopping { then: following, kill_at, killed } => {
                *following = then;
                if *killed {
                    return;
                }
                let by = now.plus_ms(patience_ms(mode, &self.spec));
                *kill_at = if mutant!(StopLengthened) { by } else { by.min(*kill_at) };
                if mode == StopMode::Now {
                    *killed = true;
                    *kill_at = now.plus_ms(KILL_AGAIN_MS);
                    out.push(Action::Kill { unit: self.name.clone(), incarnation: self.incarnation });
                }
            }
            State::Holding { mode: held, then: following, .. } => {
                *following = then;
                if mode == StopMode::Now {
                    let following = following.clone();
                    self.begin_stopping(now, mode, following, cause, out);
                } else if patience_ms(mode, &self.spec) < patience_ms(*held, &self.spec) {
                    *held = mode;
                }
            }
            State::Starting { .. } | State::Running { .. } => self.hold_or_stop(now, mode, then, cause, out),
            State::Stopped | State::Waiting | State::Restarting { .. } | State::Failed | State::Unavailable => {}
        }
    }

    /// Stops it, after its dependents unless it is to die at once.
    pub(super) fn hold_or_stop(&mut self, now: Now, mode: StopMode, then: Then, cause: Cause, out: &mut Vec<Action>) {
        if !self.gate.has_live_dependents || mode == StopMode::Now || mutant!(DependentsIgnored) {
            return self.begin_stopping(now, mode, then, cause, out);
        }
        if self.wanted {
            self.reason = Some(cause.to_string());
        }
        self.enter(State::Holding { mode, then, cause: cause.clone() }, cause, out);
    }

    pub(super) fn begin_stopping(&mut self, now: Now, mode: StopMode, then: Then, cause: Cause, out: &mut Vec<Action>) {
        let (unit, incarnation) = (self.name.clone(), self.incarnation);
        let killed = mode == StopMode::Now;
        out.push(if killed { Action::Kill { unit, incarnation } } else { Action::Terminate { unit, incarnation } });
        let patience_ms = if killed { KILL_AGAIN_MS } else { patience_ms(mode, &self.spec) };
        if self.wanted {
            self.reason = Some(cause.to_string());
        }
        self.enter(State::Stopping { then, kill_at: now.plus_ms(patience_ms), killed }, cause, out);
    }

    pub(super) fn spawn(&mut self, cause: Cause, out: &mut Vec<Action>) {
        if let Some(waits_for) = &self.gate.waits_for {
            self.reason = Some(format!("waits for {waits_for}"));
            return self.enter(State::Waiting, cause, out);
        }
        self.incarnation = self.incarnation.next();
        self.vitals = Vitals::default();
        out.push(Action::Spawn { unit: self.name.clone(), incarnation: self.incarnation });
        self.enter(State::Spawning { abort: None }, cause, out);
    }

    pub(super) fn await_ready(&mut self, now: Now, cause: Cause, out: &mut Vec<Action>) {
        out.push(Action::AwaitReady { unit: self.name.clone(), incarnation: self.incarnation });
        self.enter(State::Starting { deadline: now.plus_ms(self.spec.start_timeout_ms) }, cause, out);
    }

    pub(super) fn run(&mut self, now: Now, cause: Cause, out: &mut Vec<Action>) {
        out.push(Action::WatchHealth { unit: self.name.clone(), incarnation: self.incarnation });
        self.reason = None;
        self.falls.runs(self.incarnation, now);
        if let Some(watchdog) = &mut self.vitals.watchdog {
            watchdog.due = now.plus_ms(watchdog.timeout_ms);
        }
        self.enter(State::Running { since: now, reloading: None }, cause, out);
    }

    /// It runs and has to go for a fault that its policy answers.
    pub(super) fn fail_over(&mut self, now: Now, cause: Cause, out: &mut Vec<Action>) {
        self.end(now, StopMode::Graceful, Then::RestartByPolicy(cause.clone()), cause, out);
    }

    pub(super) fn tell(&self, what: What, out: &mut Vec<Action>) {
        if !(mutant!(CascadeUntold) && matches!(what, What::Cascade { .. })) {
            out.push(Action::Happened(Happening { unit: self.name.clone(), incarnation: self.incarnation, what }));
        }
    }

    /// Remembers why it goes down.
    pub(super) fn fall(&mut self, now: Now, fate: Fate, cause: Cause, because: Option<Arc<Link>>) {
        let link = Link::new(self.name.clone(), self.incarnation, now, fate, cause);
        self.falls.push(link.because_of(because));
    }

    pub(super) fn restart_by_policy(&mut self, now: Now, cause: Cause, out: &mut Vec<Action>) {
        if !self.wanted {
            return self.settle_down(now, ExitHow::Unknown, out);
        }
        if self.spec.restart.policy == Policy::Never && !mutant!(NeverRestarts) {
            return self.settle(now, State::Failed, cause, out);
        }
        let seed = jitter_seed(self.seed, self.name.as_str(), self.incarnation);
        match self.history.next(now, &self.spec.restart, seed) {
            Verdict::GiveUp { restarts } => {
                let within_ms = self.spec.restart.within_ms;
                let cause = Cause::TooManyRestarts { restarts, within_ms, last: Box::new(cause) };
                self.settle(now, State::Failed, cause, out);
            }
            Verdict::RestartIn { delay_ms } => {
                self.settle(now, State::Restarting { until: now.plus_ms(delay_ms) }, cause, out);
                if delay_ms == 0 {
                    self.spawn(Cause::BackoffOver, out);
                }
            }
        }
    }

    /// The end that was asked for.
    pub(super) fn settle_down(&mut self, now: Now, how: ExitHow, out: &mut Vec<Action>) {
        self.reason = None;
        self.falls.is_down(Fate::Stopped, None, now);
        self.enter(State::Stopped, Cause::Stopped(how), out);
    }

    /// An end that was not: the reason stays to be read.
    pub(super) fn settle(&mut self, now: Now, state: State, cause: Cause, out: &mut Vec<Action>) {
        let fate = match state {
            State::Failed => Some(Fate::Failed),
            State::Unavailable => Some(Fate::Unavailable),
            State::Stopped => Some(Fate::Stopped),
            _ => None,
        };
        if let Some(fate) = fate {
            self.falls.is_down(fate, Some(cause.clone()), now);
        }
        self.reason = Some(cause.to_string());
        self.enter(state, cause, out);
    }

    pub(super) fn enter(&mut self, state: State, cause: Cause, out: &mut Vec<Action>) {
        let from = self.phase();
        self.state = state;
        let to = self.phase();
        if from != to && !(to == Phase::Restarting && mutant!(ChangeUntold)) {
            out.push(Action::Changed(Change {
                unit: self.name.clone(),
                incarnation: self.incarnation,
                from,
                to,
                cause,
            }));
        }
    }
}

fn patience_ms(mode: StopMode, spec: &Spec) -> u64 {
    match mode {
        StopMode::Graceful => spec.stop_timeout_ms,
        StopMode::Within { timeout_ms } => timeout_ms,
        StopMode::Now => 0,
    }
}
