//! One unit: a state, an intent, and what each event makes of them.
//!
//! ```text
//!              Start/Retry            Spawned             Ready
//!  ┌─────────┐         ┌──────────┐           ┌──────────┐      ┌─────────┐
//!  │ Stopped ├────────▶│ Spawning ├──────────▶│ Starting ├─────▶│ Running │
//!  └─────────┘         └─┬──▲───┬─┘           └──┬────┬──┘      └─┬─────┬─┘
//!       ▲    SpawnFailed │  │   │ Stop, then     │    │ exited    │     │
//!       │ ┌─────────────┐│  │   │ Spawned        │    ├───────────┘     │
//!       │ │ Unavailable │◀  │   ▼                │    ▼                 │ Stop, Restart,
//!       │ └─────────────┘   │ ┌──────────┐       │ ┌────────────┐       │ unhealthy,
//!       │ gone (stay down)  │ │          │◀──────┘ │ Restarting │       │ spec changed
//!       └───────────────────┼─┤ Stopping │ too slow└─┬────────┬─┘       │
//!                           │ │          │◀──────────┼────────┼─────────┘
//!                           │ └─────┬────┘           │        │ too often
//!                           │ gone, │ back-off ─────▶│        ▼
//!                           │ again │                │   ┌────────┐
//!                           └───────┴────────────────┘   │ Failed │
//!                                       back-off over    └────────┘
//! ```
//!
//! - *Spawning*: the spawn was ordered, its report is still out. A stop waits for the report, because before it
//!   there is nothing to signal.
//! - *Stopping* keeps what follows the end ([`Then`]): stay down, run again, or restart by policy.
//! - *Waiting* (shown as starting) stands before *Spawning* wherever the [`Gate`] is shut: a dependency does not run,
//!   or no start slot is free. *Holding* (shown as stopping) stands before *Stopping* while dependents are live.
//! - *Restarting* waits out the back-off; *Failed* has used up its restarts, or has a policy that allows none;
//!   *Unavailable* cannot be spawned at all. The last two leave only by a wish of the owner or a new spec.

use std::fmt;

use crate::action::{Action, Cause, Change};
use crate::event::{ExitHow, SpawnErrorKind, Stage, StopMode};
use crate::restart::{RestartHistory, Verdict, jitter_seed};
use crate::{Incarnation, Now, Policy, Spec, UnitName};

/// A process that survived a kill (uninterruptible in the kernel, or a new member of its group) is killed again
/// after so long.
const KILL_AGAIN_MS: u64 = 10_000;

/// Where a unit is in its life, as seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Not running.
    Stopped,
    /// Spawned or about to be, not ready yet.
    Starting,
    /// Ready.
    Running,
    /// Asked to end, not gone yet.
    Stopping,
    /// Waiting out a back-off.
    Restarting,
    /// Gave up.
    Failed,
    /// Cannot be spawned.
    Unavailable,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Restarting => "restarting",
            Self::Failed => "failed",
            Self::Unavailable => "unavailable",
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Stopped,
    Waiting,
    Holding { mode: StopMode, then: Then, cause: Cause },
    Spawning { abort: Option<Abort> },
    Starting { deadline: Now },
    Running { since: Now, health_failures: u32 },
    Stopping { then: Then, kill_at: Now, killed: bool },
    Restarting { until: Now },
    Failed,
    Unavailable,
}

/// What the rest of the tree says to a unit before it takes an event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Gate {
    /// The first thing a spawn would have to wait for.
    pub(crate) waits_for: Option<String>,
    /// Whether a process depends on this unit.
    pub(crate) has_live_dependents: bool,
}

/// A stop that waits for the report of a spawn.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Abort {
    mode: StopMode,
    then: Then,
}

/// What follows the end of a stopping process.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Then {
    StayDown,
    RunAgain,
    RestartByPolicy(Cause),
}

/// One supervised unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    name: UnitName,
    spec: Spec,
    state: State,
    wanted: bool,
    removing: bool,
    incarnation: Incarnation,
    history: RestartHistory,
    reason: Option<String>,
    gate: Gate,
    seed: u64,
}

impl Unit {
    pub(crate) fn new(name: UnitName, spec: Spec, last_incarnation: Incarnation, seed: u64) -> Self {
        Self {
            name,
            spec,
            state: State::Stopped,
            wanted: false,
            removing: false,
            incarnation: last_incarnation,
            history: RestartHistory::default(),
            reason: None,
            gate: Gate::default(),
            seed,
        }
    }

    /// Its policies.
    #[must_use]
    pub const fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Where it is in its life.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        match &self.state {
            State::Stopped => Phase::Stopped,
            State::Waiting | State::Spawning { abort: None } | State::Starting { .. } => Phase::Starting,
            State::Spawning { abort: Some(_) } | State::Holding { .. } | State::Stopping { .. } => Phase::Stopping,
            State::Running { .. } => Phase::Running,
            State::Restarting { .. } => Phase::Restarting,
            State::Failed => Phase::Failed,
            State::Unavailable => Phase::Unavailable,
        }
    }

    /// Whether its owner wants it to run. `Stopped` and wanted: it ended by itself and its policy leaves it so.
    #[must_use]
    pub const fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Whether a process of it exists, or may exist.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        matches!(
            self.state,
            State::Spawning { .. }
                | State::Starting { .. }
                | State::Running { .. }
                | State::Holding { .. }
                | State::Stopping { .. }
        )
    }

    /// Whether it waits for a dependency or a start slot; [`Unit::reason`] says for which.
    #[must_use]
    pub const fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting)
    }

    /// Whether it is on its way up: it holds a start slot.
    pub(crate) const fn holds_start_slot(&self) -> bool {
        matches!(self.state, State::Spawning { .. } | State::Starting { .. })
    }

    /// Whether it waits for its dependents to be gone.
    pub(crate) const fn is_holding(&self) -> bool {
        matches!(self.state, State::Holding { .. })
    }

    pub(crate) fn set_gate(&mut self, gate: Gate) {
        self.gate = gate;
    }

    /// The live run, or the last one.
    #[must_use]
    pub const fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// Restarts since the count was last reset.
    #[must_use]
    pub const fn restarts(&self) -> u32 {
        self.history.count()
    }

    /// Why it is not running; absent where it runs or was stopped on purpose.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// The moment at which it wants a tick.
    pub(crate) fn deadline(&self) -> Option<Now> {
        match &self.state {
            State::Starting { deadline } => Some(*deadline),
            State::Stopping { kill_at, .. } => Some(*kill_at),
            State::Restarting { until } => Some(*until),
            State::Running { since, .. } if self.history.count() > 0 => {
                Some(since.plus_ms(self.spec.restart.reset_after_ms))
            }
            _ => None,
        }
    }

    /// Whether it was removed and nothing of it is left to wait for.
    pub(crate) fn is_forgettable(&self) -> bool {
        self.removing && !self.is_live()
    }

    pub(crate) fn redeclare(&mut self, now: Now, spec: Spec, out: &mut Vec<Action>) {
        let relaunch = spec.launch_fingerprint != self.spec.launch_fingerprint;
        self.spec = spec;
        self.removing = false;
        if !relaunch || !self.wanted {
            return;
        }
        match self.state {
            State::Starting { .. } | State::Running { .. } | State::Spawning { .. } => {
                self.end(now, StopMode::Graceful, Then::RunAgain, Cause::SpecChanged, out);
            }
            State::Waiting => {}
            State::Failed | State::Unavailable | State::Stopped => {
                self.history.reset();
                self.spawn(Cause::SpecChanged, out);
            }
            // A stopping one that runs again, and one that waits out its back-off, will do so with the new spec.
            State::Holding { .. } | State::Stopping { .. } | State::Restarting { .. } => {}
        }
    }

    pub(crate) fn remove(&mut self, now: Now, out: &mut Vec<Action>) {
        self.removing = true;
        self.stop(now, StopMode::Graceful, out);
    }

    pub(crate) fn start(&mut self, out: &mut Vec<Action>) {
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
                if *then == Then::StayDown {
                    *then = Then::RunAgain;
                }
            }
            State::Waiting | State::Spawning { abort: None } | State::Starting { .. } | State::Running { .. } => {}
        }
    }

    pub(crate) fn stop(&mut self, now: Now, mode: StopMode, out: &mut Vec<Action>) {
        self.wanted = false;
        if self.is_live() {
            self.end(now, mode, Then::StayDown, Cause::Requested, out);
        } else {
            self.reason = None;
            self.enter(State::Stopped, Cause::Requested, out);
        }
    }

    pub(crate) fn restart(&mut self, now: Now, out: &mut Vec<Action>) {
        self.wanted = true;
        if self.is_live() {
            self.end(now, StopMode::Graceful, Then::RunAgain, Cause::Requested, out);
        } else {
            self.start(out);
        }
    }

    pub(crate) fn retry(&mut self, force: bool, out: &mut Vec<Action>) {
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
            | State::Holding { then: then @ Then::RestartByPolicy(_), .. } => *then = Then::RunAgain,
            _ => {}
        }
    }

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

    /// Ends a live process; one that is ending already can only end sooner.
    fn end(&mut self, now: Now, mode: StopMode, then: Then, cause: Cause, out: &mut Vec<Action>) {
        match &mut self.state {
            State::Spawning { abort: Some(abort) } => {
                abort.then = then;
                if patience_ms(mode, &self.spec) < patience_ms(abort.mode, &self.spec) {
                    abort.mode = mode;
                }
            }
            State::Spawning { abort: None } => {
                self.enter(State::Spawning { abort: Some(Abort { mode, then }) }, cause, out);
            }
            State::Stopping { then: following, kill_at, killed } => {
                *following = then;
                if *killed {
                    return;
                }
                *kill_at = (*kill_at).min(now.plus_ms(patience_ms(mode, &self.spec)));
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
    fn hold_or_stop(&mut self, now: Now, mode: StopMode, then: Then, cause: Cause, out: &mut Vec<Action>) {
        if !self.gate.has_live_dependents || mode == StopMode::Now {
            return self.begin_stopping(now, mode, then, cause, out);
        }
        if self.wanted {
            self.reason = Some(cause.to_string());
        }
        self.enter(State::Holding { mode, then, cause: cause.clone() }, cause, out);
    }

    fn begin_stopping(&mut self, now: Now, mode: StopMode, then: Then, cause: Cause, out: &mut Vec<Action>) {
        let (unit, incarnation) = (self.name.clone(), self.incarnation);
        let killed = mode == StopMode::Now;
        out.push(if killed { Action::Kill { unit, incarnation } } else { Action::Terminate { unit, incarnation } });
        let patience_ms = if killed { KILL_AGAIN_MS } else { patience_ms(mode, &self.spec) };
        if self.wanted {
            self.reason = Some(cause.to_string());
        }
        self.enter(State::Stopping { then, kill_at: now.plus_ms(patience_ms), killed }, cause, out);
    }

    /// A dependency is not running any more: it ends, and waits for it. That is no crash of its own.
    pub(crate) fn dependency_lost(&mut self, now: Now, dependency: &UnitName, out: &mut Vec<Action>) {
        if matches!(self.state, State::Spawning { abort: None } | State::Starting { .. } | State::Running { .. }) {
            let cause = Cause::DependencyLost { dependency: dependency.clone() };
            self.end(now, StopMode::Graceful, Then::RunAgain, cause, out);
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

    fn spawn(&mut self, cause: Cause, out: &mut Vec<Action>) {
        if let Some(waits_for) = &self.gate.waits_for {
            self.reason = Some(format!("waits for {waits_for}"));
            return self.enter(State::Waiting, cause, out);
        }
        self.incarnation = self.incarnation.next();
        out.push(Action::Spawn { unit: self.name.clone(), incarnation: self.incarnation });
        self.enter(State::Spawning { abort: None }, cause, out);
    }

    fn await_ready(&mut self, now: Now, cause: Cause, out: &mut Vec<Action>) {
        out.push(Action::AwaitReady { unit: self.name.clone(), incarnation: self.incarnation });
        self.enter(State::Starting { deadline: now.plus_ms(self.spec.start_timeout_ms) }, cause, out);
    }

    fn run(&mut self, now: Now, cause: Cause, out: &mut Vec<Action>) {
        out.push(Action::WatchHealth { unit: self.name.clone(), incarnation: self.incarnation });
        self.reason = None;
        self.enter(State::Running { since: now, health_failures: 0 }, cause, out);
    }

    fn restart_by_policy(&mut self, now: Now, cause: Cause, out: &mut Vec<Action>) {
        if !self.wanted {
            return self.settle_down(ExitHow::Unknown, out);
        }
        if self.spec.restart.policy == Policy::Never {
            return self.settle(State::Failed, cause, out);
        }
        let seed = jitter_seed(self.seed, self.name.as_str(), self.incarnation);
        match self.history.next(now, &self.spec.restart, seed) {
            Verdict::GiveUp { restarts } => {
                let within_ms = self.spec.restart.within_ms;
                let cause = Cause::TooManyRestarts { restarts, within_ms, last: Box::new(cause) };
                self.settle(State::Failed, cause, out);
            }
            Verdict::RestartIn { delay_ms } => {
                self.settle(State::Restarting { until: now.plus_ms(delay_ms) }, cause, out);
                if delay_ms == 0 {
                    self.spawn(Cause::BackoffOver, out);
                }
            }
        }
    }

    /// The end that was asked for.
    fn settle_down(&mut self, how: ExitHow, out: &mut Vec<Action>) {
        self.reason = None;
        self.enter(State::Stopped, Cause::Stopped(how), out);
    }

    /// An end that was not: the reason stays to be read.
    fn settle(&mut self, state: State, cause: Cause, out: &mut Vec<Action>) {
        self.reason = Some(cause.to_string());
        self.enter(state, cause, out);
    }

    fn enter(&mut self, state: State, cause: Cause, out: &mut Vec<Action>) {
        let from = self.phase();
        self.state = state;
        let to = self.phase();
        if from != to {
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
