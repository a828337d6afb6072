//! The phase of a daemon as users see it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a daemon is in its life (CONTRACT: `status --json`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Not running, and nothing asks for it.
    Stopped,
    /// Spawned, not proven ready yet.
    Starting,
    /// Ready.
    Running,
    /// Asked to end, not gone yet.
    Stopping,
    /// Ended by itself; waiting out its back-off.
    Restarting,
    /// Gave up: too many restarts, or a policy that does not restart.
    Failed,
    /// Cannot be started: its binary or a file it needs is missing.
    Unavailable,
    /// Recorded as running, but that process is gone.
    Stale,
    /// Finishes what is in flight and takes nothing new.
    Draining,
}

impl Phase {
    /// Every phase, in the order of the contract.
    pub const ALL: [Self; 9] = [
        Self::Stopped,
        Self::Starting,
        Self::Running,
        Self::Stopping,
        Self::Restarting,
        Self::Failed,
        Self::Unavailable,
        Self::Stale,
        Self::Draining,
    ];

    /// The word of the contract.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Restarting => "restarting",
            Self::Failed => "failed",
            Self::Unavailable => "unavailable",
            Self::Stale => "stale",
            Self::Draining => "draining",
        }
    }

    /// Whether nothing more happens by itself: a start that waits can answer now.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        matches!(self, Self::Stopped | Self::Running | Self::Failed | Self::Unavailable | Self::Stale)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A word that names no phase.
#[derive(Debug, thiserror::Error)]
#[error("`{word}` is no phase")]
pub struct UnknownPhase {
    /// What was given.
    pub word: String,
}

impl FromStr for Phase {
    type Err = UnknownPhase;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == word).ok_or_else(|| UnknownPhase { word: word.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_round_trip_and_equal_their_json() {
        for phase in Phase::ALL {
            assert_eq!(phase.as_str().parse::<Phase>().unwrap(), phase);
            assert_eq!(serde_json::to_string(&phase).unwrap(), format!("\"{phase}\""));
        }
        assert!("runing".parse::<Phase>().is_err());
    }
}
