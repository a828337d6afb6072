//! The gateway's bounds, from the configuration.

use std::time::Duration;

use rbee_runtime::config::QueenConfig;
use rbee_runtime::http::ConnectionLimits;
use rustix::process::{Resource, getrlimit};

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest request body, in bytes.
    pub body_bytes_max: usize,
    /// How long a body may take to come.
    pub body_timeout: Duration,
    /// Requests that may wait for a worker, by model.
    pub max_queue: u32,
    /// How long each of them may wait.
    pub queue_timeout: Duration,
    /// How long our engine may be silent within an answer.
    pub stall_timeout: Duration,
    /// How long another engine may be silent within an answer.
    pub command_stall_timeout: Duration,
    /// How long another engine may take to begin a stream.
    pub first_event_timeout: Duration,
    /// Silence towards the client after which it gets a comment.
    pub comment_interval: Duration,
    /// Deaths of workers in a row that a request may meet without getting any further.
    pub attempts_max: u32,
}

/// No engine is busy with others for longer.
const FIRST_EVENT_TIMEOUT: Duration = Duration::from_secs(3600);

impl Limits {
    /// As `[queen]` has them.
    #[must_use]
    pub fn new(config: &QueenConfig) -> Self {
        Self {
            body_bytes_max: usize::try_from(config.max_body.as_u64()).unwrap_or(usize::MAX),
            body_timeout: config.body_timeout,
            max_queue: config.max_queue,
            queue_timeout: config.queue_timeout,
            stall_timeout: config.stall_timeout,
            command_stall_timeout: config.command_stall_timeout,
            first_event_timeout: FIRST_EVENT_TIMEOUT,
            comment_interval: config.comment_interval,
            attempts_max: config.attempts_max,
        }
    }
}

/// Of queen's server: each request may need a connection to a worker, too.
#[must_use]
pub fn connection_limits(config: &QueenConfig) -> ConnectionLimits {
    let files = getrlimit(Resource::Nofile).current;
    let files = files.and_then(|files| usize::try_from(files).ok()).unwrap_or(usize::MAX);
    ConnectionLimits {
        connections_max: (config.max_connections as usize).min(files / 2).max(16),
        idle_timeout: config.idle_timeout,
    }
}
