//! What the shell shall do, in order.

use crate::{ExitHow, Incarnation, Phase, UnitName};

/// Something to carry out. An action that names an incarnation concerns that run alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Start a process; report `Spawned` or `SpawnFailed`, later `Exited`.
    Spawn {
        /// Which unit.
        unit: UnitName,
        /// The run it will be.
        incarnation: Incarnation,
    },
    /// Watch for the proof of readiness; report `Ready`.
    AwaitReady {
        /// Which unit.
        unit: UnitName,
        /// Which run.
        incarnation: Incarnation,
    },
    /// It is ready: begin the health probes, if it has any.
    WatchHealth {
        /// Which unit.
        unit: UnitName,
        /// Which run.
        incarnation: Incarnation,
    },
    /// Send the polite signal; probes of this run end.
    Terminate {
        /// Which unit.
        unit: UnitName,
        /// Which run.
        incarnation: Incarnation,
    },
    /// Kill the whole process tree.
    Kill {
        /// Which unit.
        unit: UnitName,
        /// Which run.
        incarnation: Incarnation,
    },
    /// The process is gone: kill what it left behind, remove this run's PID, state and socket files.
    Cleanup {
        /// Which unit.
        unit: UnitName,
        /// Which run.
        incarnation: Incarnation,
    },
    /// The unit was removed and nothing of it runs: drop everything kept for it.
    Forget {
        /// Which unit.
        unit: UnitName,
    },
    /// Tell whoever watches.
    Changed(Change),
}

/// One change of phase, with its cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which unit.
    pub unit: UnitName,
    /// The run concerned; the last one where none is live.
    pub incarnation: Incarnation,
    /// Phase before.
    pub from: Phase,
    /// Phase now.
    pub to: Phase,
    /// Why.
    pub cause: Cause,
}

/// Why a phase changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// Its owner wished so.
    Requested,
    /// Its declaration changed.
    SpecChanged,
    /// It proved that it is ready.
    Ready,
    /// An earlier supervisor's process was taken over.
    Adopted,
    /// Its process ended by itself.
    Exited(ExitHow),
    /// It did not get ready in time.
    StartTimedOut {
        /// The time it had.
        after_ms: u64,
    },
    /// Its health probes failed.
    Unhealthy {
        /// What the last one said.
        reason: String,
    },
    /// It could not be spawned.
    SpawnFailed {
        /// What the OS said.
        reason: String,
    },
    /// A unit it depends on is not running any more.
    DependencyLost {
        /// Which one.
        dependency: UnitName,
    },
    /// What it waited for is there: its dependencies run, and a start slot is free.
    GateOpened,
    /// Its back-off is over.
    BackoffOver,
    /// It ended too often; what came last stands in `last`.
    TooManyRestarts {
        /// Restarts counted in the window.
        restarts: u32,
        /// The window.
        within_ms: u64,
        /// What happened last.
        last: Box<Cause>,
    },
    /// The stop that was asked for is done.
    Stopped(ExitHow),
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Requested => f.write_str("asked for"),
            Self::SpecChanged => f.write_str("its configuration changed"),
            Self::Ready => f.write_str("ready"),
            Self::Adopted => f.write_str("taken over from an earlier supervisor"),
            Self::Exited(how) => write!(f, "ended with {how}"),
            Self::StartTimedOut { after_ms } => write!(f, "not ready within {} s", *after_ms as f64 / 1000.0),
            Self::Unhealthy { reason } => write!(f, "unhealthy: {reason}"),
            Self::SpawnFailed { reason } => write!(f, "could not be started: {reason}"),
            Self::DependencyLost { dependency } => write!(f, "its dependency `{dependency}` is not running"),
            Self::GateOpened => f.write_str("what it waited for is there"),
            Self::BackoffOver => f.write_str("back-off over"),
            Self::TooManyRestarts { restarts, within_ms, last } => {
                write!(f, "{last}; gave up after {restarts} restarts within {} s", within_ms / 1000)
            }
            Self::Stopped(how) => write!(f, "stopped with {how}"),
        }
    }
}
