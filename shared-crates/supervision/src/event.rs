//! What can happen to units: wishes of the owner, reports of the process layer, time.

use crate::{Excess, Incarnation, Spec, UnitName};

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The unit exists with this spec from now on. Declaring it again replaces the spec; a live unit whose
    /// launch fingerprint changes is restarted.
    Declare {
        /// Which unit.
        unit: UnitName,
        /// Its policies.
        spec: Spec,
        /// The last run known from before this supervisor; ignored for a unit that exists.
        last_incarnation: Incarnation,
    },
    /// The unit shall be stopped and forgotten.
    Remove {
        /// Which unit.
        unit: UnitName,
    },
    /// The unit shall run. Clears a failure; changes nothing where it runs.
    Start {
        /// Which unit.
        unit: UnitName,
    },
    /// The unit shall not run. Repeating it can shorten the time until the kill, never lengthen it.
    Stop {
        /// Which unit.
        unit: UnitName,
        /// How patiently.
        mode: StopMode,
    },
    /// No unit shall run.
    StopAll {
        /// How patiently.
        mode: StopMode,
    },
    /// The unit shall end and run anew, whatever its phase; one that is down is started, with what it needs.
    Restart {
        /// Which unit.
        unit: UnitName,
    },
    /// A unit that waits, failed or was unavailable shall be tried now.
    Retry {
        /// Which unit.
        unit: UnitName,
        /// Also forget its restarts.
        force: bool,
    },
    /// A live process of the unit was found that an earlier supervisor had started.
    Adopted {
        /// Which unit.
        unit: UnitName,
        /// Which run.
        incarnation: Incarnation,
        /// How far it had come.
        stage: Stage,
        /// Restarts the earlier supervisor had counted.
        restarts: u32,
    },
    /// Every live process of an earlier supervisor has been reported: from now on, one that lives without what it
    /// depends on is ended.
    AdoptionDone,
    /// [`crate::Action::Spawn`] succeeded.
    Spawned {
        /// Which unit.
        unit: UnitName,
        /// Which run.
        incarnation: Incarnation,
    },
    /// [`crate::Action::Spawn`] failed: there is no process.
    SpawnFailed {
        /// Which unit.
        unit: UnitName,
        /// Which run.
        incarnation: Incarnation,
        /// Whether trying again can help.
        kind: SpawnErrorKind,
        /// For people.
        reason: String,
    },
    /// The process proved that it is ready.
    Ready {
        /// Which unit.
        unit: UnitName,
        /// Which run.
        incarnation: Incarnation,
    },
    /// The process asks for more time to start or stop.
    ExtendTimeout {
        /// Which unit.
        unit: UnitName,
        /// Which run.
        incarnation: Incarnation,
        /// From now.
        by_ms: u64,
    },
    /// A health probe succeeded.
    HealthOk {
        /// Which unit.
        unit: UnitName,
        /// Which run.
        incarnation: Incarnation,
    },
    /// A health probe failed.
    HealthFailed {
        /// Which unit.
        unit: UnitName,
        /// Which run.
        incarnation: Incarnation,
        /// For people.
        reason: String,
    },
    /// A health probe got no answer in time, but the process shows signs of life: too busy to answer, as far as
    /// anybody can tell. Bounded by [`Spec::health_busy_max`].
    HealthBusy {
        /// Which unit.
        unit: UnitName,
        /// Which run.
        incarnation: Incarnation,
    },
    /// The process asked for a watchdog: from the moment it runs, it must send a sign of life within each `timeout_ms`.
    /// 0 takes the watchdog away. Repeated after an adoption.
    WatchdogArmed {
        /// Which unit.
        unit: UnitName,
        /// Which run.
        incarnation: Incarnation,
        /// Longest silence.
        timeout_ms: u64,
    },
    /// The process sent its sign of life.
    WatchdogPing {
        /// Which unit.
        unit: UnitName,
        /// Which run.
        incarnation: Incarnation,
    },
    /// The process says that it reads its configuration anew: probes do not count until the next
    /// [`Event::Ready`], for which it has its start timeout.
    Reloading {
        /// Which unit.
        unit: UnitName,
        /// Which run.
        incarnation: Incarnation,
    },
    /// The unit's processes use more memory than the threshold at which it shall be restarted.
    MemoryHigh {
        /// Which unit.
        unit: UnitName,
        /// Which run.
        incarnation: Incarnation,
        /// What they use.
        bytes: u64,
        /// The threshold.
        limit: u64,
    },
    /// The unit's processes have used more of something, for long enough, than a threshold allows. Told once each time
    /// it is crossed.
    OverThreshold {
        /// Which unit.
        unit: UnitName,
        /// Which run.
        incarnation: Incarnation,
        /// How much of what.
        excess: Excess,
        /// Whether it shall be restarted for that; else it is only told.
        restarts: bool,
    },
    /// The process is gone.
    Exited {
        /// Which unit.
        unit: UnitName,
        /// Which run.
        incarnation: Incarnation,
        /// How it ended.
        how: ExitHow,
    },
    /// The process is gone, and said before that what it needs is not there, such as an image or an engine: if it was not
    /// running yet, trying again is of no use.
    Unavailable {
        /// Which unit.
        unit: UnitName,
        /// Which run.
        incarnation: Incarnation,
        /// How it ended.
        how: ExitHow,
        /// What is missing, for people.
        reason: String,
    },
    /// [`crate::Core::deadline`] has come. Reports that wait to be taken come first: a sign of life must not be late
    /// because the clock was looked at before it.
    Tick,
}

/// How far an adopted process had come, as its state file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Not proven ready.
    #[default]
    Starting,
    /// Proven ready.
    Ready,
    /// A signal that ends it was on its way: recorded before [`crate::Action::Terminate`] and
    /// [`crate::Action::Kill`] are carried out. Its end says nothing about whether it is wanted.
    Ending,
}

/// How patiently to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// The polite signal, then the spec's stop timeout, then the kill.
    Graceful,
    /// The same with another time.
    Within {
        /// Until the kill.
        timeout_ms: u64,
    },
    /// The kill, at once.
    Now,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitHow {
    /// It exited with this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
    /// The kernel killed it for want of memory.
    OutOfMemory,
    /// It is gone; nobody can say how (adopted, or gone while no supervisor looked).
    Unknown,
}

impl ExitHow {
    /// Whether it is exit code 0.
    #[must_use]
    pub const fn is_success(self) -> bool {
        matches!(self, Self::Code(0))
    }
}

impl std::fmt::Display for ExitHow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => write!(f, "signal {number}"),
            Self::OutOfMemory => f.write_str("an out-of-memory kill"),
            Self::Unknown => f.write_str("an unknown exit"),
        }
    }
}

/// Whether trying a failed spawn again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpawnErrorKind {
    /// The binary or a file it needs is not there or cannot be run: trying again is of no use.
    Unavailable,
    /// Anything else, such as a lack of memory or process ids: treated like a crash.
    Failed,
}
