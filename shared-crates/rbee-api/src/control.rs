//! The control API, `/api/v1/`: the same verbs on queen and on a hive that stands alone.
//!
//! | method and path | body | answer |
//! |---|---|---|
//! | `GET /api/v1/status` | | [`crate::FleetStatus`] |
//! | `POST /api/v1/workers/{name}/{verb}?replica=&hive=` | [`VerbRequest`] | [`VerbReply`] |
//! | `POST /api/v1/workers/{name}/scale` | [`ScaleRequest`] | [`VerbReply`] |
//! | `GET /api/v1/workers/{name}/logs?replica=&hive=&lines=&follow=` | | `text/plain`, streamed |
//! | `POST /api/v1/shutdown` | [`ShutdownRequest`] | 202; the process ends when all is stopped |
//! | `POST /api/v1/hives/{name}/heartbeat` (queen) | [`crate::Heartbeat`] | [`crate::HeartbeatReply`] |
//! | `GET /api/v1/hives/{name}/assignment?fleet=&generation=&wait_ms=` (queen) | | [`crate::Assignment`], or 204 |

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::WorkerStatus;

/// What can be asked of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verb {
    /// Run it; nothing changes where it runs.
    Start,
    /// Drain, then end it.
    Stop,
    /// End it and run it again.
    Restart,
    /// End it with SIGKILL; it stays down.
    Kill,
    /// Try a failed one again; with `force`, its restart count is reset.
    Retry,
}

impl Verb {
    /// The word in the path.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Kill => "kill",
            Self::Retry => "retry",
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that names no verb.
#[derive(Debug, thiserror::Error)]
#[error("`{word}` is no verb")]
pub struct UnknownVerb {
    /// What was given.
    pub word: String,
}

impl FromStr for Verb {
    type Err = UnknownVerb;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        [Self::Start, Self::Stop, Self::Restart, Self::Kill, Self::Retry]
            .into_iter()
            .find(|verb| verb.as_str() == word)
            .ok_or_else(|| UnknownVerb { word: word.to_owned() })
    }
}

/// Body of a verb. An empty body means the defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VerbRequest {
    /// How long the answer may wait for the workers to settle. 0: answer at once. On running out: error
    /// `timeout`; what was asked for stays asked for.
    pub wait_ms: u64,
    /// Skip what takes time for others' sake (drain).
    pub now: bool,
    /// With `retry`: reset the restart count.
    pub force: bool,
}

impl Default for VerbRequest {
    fn default() -> Self {
        Self { wait_ms: 60_000, now: false, force: false }
    }
}

/// Body of `scale`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScaleRequest {
    /// How many replicas shall run.
    pub replicas: u32,
    /// As in [`VerbRequest::wait_ms`].
    #[serde(default = "default_wait_ms")]
    pub wait_ms: u64,
}

fn default_wait_ms() -> u64 {
    VerbRequest::default().wait_ms
}

/// Body of `shutdown`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShutdownRequest {
    /// Leave what is below running (queen: its hives; hive: its workers) for the next process to adopt.
    pub keep_children: bool,
    /// Do not wait for requests in flight.
    pub now: bool,
}

/// Answer to a verb: the workers it named, as they are now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerbReply {
    /// False where everything was as asked already.
    pub changed: bool,
    /// The workers named, each with its hive.
    pub workers: Vec<WorkerOnHive>,
}

/// A worker and where it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerOnHive {
    /// Name of its hive.
    pub hive: String,
    /// Its status.
    #[serde(flatten)]
    pub worker: WorkerStatus,
}

/// Which log lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LogQuery {
    /// Only this replica; the lowest one if absent.
    pub replica: Option<u32>,
    /// Only on this hive.
    pub hive: Option<String>,
    /// How many of the newest lines first.
    pub lines: u32,
    /// Then go on with new ones.
    pub follow: bool,
}

impl Default for LogQuery {
    fn default() -> Self {
        Self { replica: None, hive: None, lines: 100, follow: false }
    }
}
