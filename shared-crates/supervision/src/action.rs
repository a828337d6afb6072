//! What the shell shall do, in order.

use crate::{Cause, Incarnation, Phase, UnitName};

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
    /// Tell whoever watches: not a change of phase, or what one is about.
    Happened(Happening),
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

/// What is worth telling besides the changes of phase. One that a change follows from is told before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    /// Which unit.
    pub unit: UnitName,
    /// Which run.
    pub incarnation: Incarnation,
    /// What happened to it.
    pub what: What,
}

/// What can happen to a run besides changes of its phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It was started by an earlier supervisor and goes on under this one.
    Adopted,
    /// It has to end because what it depends on does not run any more.
    Cascade {
        /// Which one.
        dependency: UnitName,
    },
    /// A health probe failed, or it gave no sign of life for too long.
    HealthFailed {
        /// What was found.
        cause: Cause,
        /// Failures in a row, this one counted.
        in_a_row: u32,
        /// So many restart it; 0: none does.
        limit: u32,
    },
    /// It uses more of something than a threshold allows.
    Threshold {
        /// How much of what.
        cause: Cause,
        /// Whether it is restarted for that.
        restarts: bool,
    },
}
