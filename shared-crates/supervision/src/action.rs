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
