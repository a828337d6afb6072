//! Why a unit's phase changed: as a fragment for a log line, and as a clause that follows "because".

use std::fmt;

use crate::excess::Mebibytes;
use crate::{Excess, ExitHow, UnitName};

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
    /// It began to read its configuration anew and was not ready again in time.
    ReloadTimedOut {
        /// The time it had.
        after_ms: u64,
    },
    /// Its health probes failed.
    Unhealthy {
        /// What the last one said.
        reason: String,
    },
    /// It was too busy to answer its health probes for too long.
    Hung {
        /// Probes in a row that got no answer.
        busy_probes: u32,
    },
    /// It was silent for longer than its watchdog allows.
    WatchdogMissed {
        /// Longest silence allowed.
        timeout_ms: u64,
    },
    /// It used more memory than the threshold at which it is restarted.
    MemoryHigh {
        /// What it used.
        bytes: u64,
        /// The threshold.
        limit: u64,
    },
    /// It used more of something, for longer, than a threshold that restarts it allows.
    OverThreshold(Excess),
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

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Requested => f.write_str("asked for"),
            Self::SpecChanged => f.write_str("its configuration changed"),
            Self::Ready => f.write_str("ready"),
            Self::Adopted => f.write_str("taken over from an earlier supervisor"),
            Self::Exited(how) => write!(f, "ended with {how}"),
            Self::StartTimedOut { after_ms } => write!(f, "not ready within {} s", seconds(*after_ms)),
            Self::ReloadTimedOut { after_ms } => write!(f, "reload not done within {} s", seconds(*after_ms)),
            Self::Unhealthy { reason } => write!(f, "unhealthy: {reason}"),
            Self::Hung { busy_probes } => write!(f, "too busy to answer {busy_probes} health probes in a row"),
            Self::WatchdogMissed { timeout_ms } => {
                write!(f, "no sign of life within its watchdog's {} s", seconds(*timeout_ms))
            }
            Self::MemoryHigh { bytes, limit } => {
                write!(f, "used {} of memory, more than {}", Mebibytes(*bytes), Mebibytes(*limit))
            }
            Self::OverThreshold(excess) => excess.fmt(f),
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

impl Cause {
    /// The same as a clause: what stands after "because".
    #[must_use]
    pub fn clause(&self) -> String {
        match self {
            Self::Requested | Self::GateOpened | Self::BackoffOver | Self::Stopped(_) => {
                "that was asked for".to_owned()
            }
            Self::Ready => "it got ready".to_owned(),
            Self::Adopted => "it was being ended when its supervisor died".to_owned(),
            Self::Exited(ExitHow::Code(code)) => format!("it exited with code {code}"),
            Self::Exited(ExitHow::Signal(number)) => format!("signal {number} ended it"),
            Self::Exited(ExitHow::OutOfMemory) => "the kernel killed it for want of memory".to_owned(),
            Self::Exited(ExitHow::Unknown) => "it ended, and nobody can say how".to_owned(),
            Self::SpecChanged | Self::DependencyLost { .. } => self.to_string(),
            Self::ReloadTimedOut { .. } => format!("it had its {self}"),
            Self::WatchdogMissed { .. } => format!("it gave {self}"),
            Self::SpawnFailed { .. } | Self::MemoryHigh { .. } | Self::OverThreshold(_) => format!("it {self}"),
            Self::StartTimedOut { .. } | Self::Unhealthy { .. } | Self::Hung { .. } => format!("it was {self}"),
            Self::TooManyRestarts { restarts, within_ms, last } => {
                format!("{} and gave up after {restarts} restarts within {} s", last.clause(), within_ms / 1000)
            }
        }
    }
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
