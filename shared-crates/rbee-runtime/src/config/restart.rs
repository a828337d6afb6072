//! `restart = { … }`: when a worker that ended is started again.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::values::duration;

/// When a worker that ended is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// However it ended.
    #[default]
    Always,
    /// Only when it ended with an error or a signal.
    OnFailure,
    /// Not at all.
    Never,
}

impl RestartPolicy {
    /// The word of the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::OnFailure => "on-failure",
            Self::Never => "never",
        }
    }
}

/// `restart = { … }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RestartConfig {
    /// When. Default `always`.
    pub policy: RestartPolicy,
    /// First delay; doubles each time. Default 1 s.
    #[serde(with = "duration")]
    pub backoff_min: Duration,
    /// Longest delay. Default 60 s.
    #[serde(with = "duration")]
    pub backoff_max: Duration,
    /// Restarts within `within` before it counts as failed. Default 5.
    pub max_restarts: u32,
    /// The window in which restarts count. Default 1 h.
    #[serde(with = "duration")]
    pub within: Duration,
    /// Stability after which the count starts anew. Default 1 h.
    #[serde(with = "duration")]
    pub reset_after: Duration,
}

impl Default for RestartConfig {
    fn default() -> Self {
        Self {
            policy: RestartPolicy::default(),
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            max_restarts: 5,
            within: Duration::from_secs(3600),
            reset_after: Duration::from_secs(3600),
        }
    }
}
