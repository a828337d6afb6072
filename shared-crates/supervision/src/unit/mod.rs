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

mod moves;
mod reports;
mod wishes;

use std::fmt;
use std::sync::Arc;

use crate::cause::Cause;
use crate::event::StopMode;
use crate::restart::RestartHistory;
use crate::why::{Falls, Fate, Link, Why};
use crate::{Incarnation, Now, Spec, UnitName};

/// A process that survived a kill (uninterruptible in the kernel, or a new member of its group) is killed again
/// after so long.
pub(crate) const KILL_AGAIN_MS: u64 = 10_000;

/// Most that one wish for more time can bring; who lives can wish again.
const EXTENSION_MS_MAX: u64 = 3_600_000;

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
    Running { since: Now, reloading: Option<Reload> },
    Stopping { then: Then, kill_at: Now, killed: bool },
    Restarting { until: Now },
    Failed,
    Unavailable,
}

/// What the rest of the tree says to a unit before it takes an event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Gate {
    /// The first thing a spawn would have to wait for.
    pub(crate) waits_for: Option<WaitsFor>,
    /// Whether a process depends on this unit.
    pub(crate) has_live_dependents: bool,
}

/// What a spawn waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WaitsFor {
    /// A dependency, and its phase if it exists.
    Dependency(UnitName, Option<Phase>),
    Slot,
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dependency(name, Some(phase)) => write!(f, "`{name}`, which is {phase}"),
            Self::Dependency(name, None) => write!(f, "`{name}`, which does not exist"),
            Self::Slot => f.write_str("a start slot"),
        }
    }
}

/// A stop that waits for the report of a spawn.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Abort {
    mode: StopMode,
    then: Then,
    cause: Cause,
}

/// What follows the end of a stopping process.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Then {
    StayDown,
    RunAgain(Cause),
    RestartByPolicy(Cause),
}

impl Then {
    const fn fate(&self) -> Fate {
        match self {
            Self::StayDown => Fate::Stopped,
            Self::RunAgain(_) | Self::RestartByPolicy(_) => Fate::Restarted,
        }
    }
}

/// A configuration being read anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reload {
    began: Now,
    deadline: Now,
}

/// Signs of life of the present run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Vitals {
    /// Failed health probes since the last good one.
    failures: u32,
    /// Health probes since the last good one that found it busy.
    busy: u32,
    watchdog: Option<Watchdog>,
}

/// Longest silence, and when it is over; the latter counts while the unit runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Watchdog {
    timeout_ms: u64,
    due: Now,
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
    vitals: Vitals,
    falls: Falls,
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
            vitals: Vitals::default(),
            falls: Falls::default(),
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

    /// Whether it reads its configuration anew; it counts as running.
    #[must_use]
    pub const fn is_reloading(&self) -> bool {
        matches!(self.state, State::Running { reloading: Some(_), .. })
    }

    /// Why its last runs ended.
    #[must_use]
    pub fn why(&self) -> Why {
        Why {
            unit: self.name.clone(),
            phase: self.phase(),
            reason: self.reason.clone(),
            episodes: self.falls.newest_first(),
        }
    }

    /// Its newest fall, for those that fall because of it.
    pub(crate) fn last_fall(&self) -> Option<&Arc<Link>> {
        self.falls.last()
    }

    /// The moment at which it wants a tick.
    pub(crate) fn deadline(&self) -> Option<Now> {
        match &self.state {
            State::Starting { deadline } => Some(*deadline),
            State::Stopping { kill_at, .. } => Some(*kill_at),
            State::Restarting { until } => Some(*until),
            State::Running { since, reloading } => {
                let stable = (self.history.count() > 0).then(|| since.plus_ms(self.spec.restart.reset_after_ms));
                let silent = self.vitals.watchdog.map(|watchdog| watchdog.due);
                let reloaded = reloading.map(|reload| reload.deadline);
                [stable, silent, reloaded].into_iter().flatten().min()
            }
            _ => None,
        }
    }

    /// Whether it was removed and nothing of it is left to wait for.
    pub(crate) fn is_forgettable(&self) -> bool {
        self.removing && matches!(self.state, State::Stopped | State::Failed | State::Unavailable)
    }
}
