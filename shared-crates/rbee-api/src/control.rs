//! The control API, `/api/v1/`: the same verbs on queen and on a hive that stands alone.
//!
//! | method and path | body | answer |
//! |---|---|---|
//! | `GET /api/v1/status` | | [`crate::FleetStatus`] |
//! | `POST /api/v1/workers/{name}/{verb}?replica=&hive=` | [`VerbRequest`] | [`VerbReply`] |
//! | `POST /api/v1/workers/{name}/scale` | [`ScaleRequest`] | [`VerbReply`] |
//! | `GET /api/v1/workers/{name}/logs?replica=&hive=&lines=&follow=` | | `text/plain`, streamed |
//! | `GET /api/v1/workers/{name}/why?replica=&hive=` | | [`WhyReply`] |
//! | `POST /api/v1/reload` | [`ReloadRequest`] | [`ReloadReply`] |
//! | `POST /api/v1/hives/{name}/drain`, `…/undrain` (queen) | [`DrainRequest`] | [`DrainReply`] |
//! | `POST /api/v1/upgrade` (queen) | [`UpgradeRequest`] | [`UpgradeReply`] |
//! | `POST /api/v1/hives/{name}/upgrade` | [`HiveUpgradeRequest`] | [`HiveUpgradeReply`]; 202 from a hive that stands alone |
//! | `GET /api/v1/hives/{name}/upgrade?generation=` (hive that stands alone) | | [`HiveUpgradeReply`], once it is known |
//! | `GET /api/v1/events?since=&kind=&daemon=&limit=&follow=` | | [`crate::EventsReply`], or a stream of [`crate::Event`] |
//! | `GET /api/v1/usage?since=` (queen) | | [`crate::usage::UsageReply`] |
//! | `GET /api/v1/reports?period=hour\|day\|week` | | [`crate::report::Report`] |
//! | `POST /api/v1/shutdown` | [`ShutdownRequest`] | 202; the process ends when all is stopped |
//! | `POST /api/v1/hives/{name}/heartbeat` (queen) | [`crate::Heartbeat`] | [`crate::HeartbeatReply`] |
//! | `GET /api/v1/hives/{name}/assignment?fleet=&generation=&wait_ms=` (queen) | | [`crate::Assignment`], or 204 |

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{HiveStatus, HiveUpgrade, WorkerStatus};

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
    /// Give it no new work; what is in flight is finished, and it goes on running.
    Drain,
    /// Give it work again.
    Undrain,
}

impl Verb {
    /// Every verb.
    pub const ALL: [Self; 7] =
        [Self::Start, Self::Stop, Self::Restart, Self::Kill, Self::Retry, Self::Drain, Self::Undrain];

    /// The word in the path.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Kill => "kill",
            Self::Retry => "retry",
            Self::Drain => "drain",
            Self::Undrain => "undrain",
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
        Self::ALL.into_iter().find(|verb| verb.as_str() == word).ok_or_else(|| UnknownVerb { word: word.to_owned() })
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
    /// With `restart`: one replica after the other, each relieved by another one first.
    pub rolling: bool,
    /// With `restart`: what was kept from before (saved caches) is dropped.
    pub clean: bool,
}

impl Default for VerbRequest {
    fn default() -> Self {
        Self { wait_ms: 60_000, now: false, force: false, rolling: false, clean: false }
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

/// Body of `upgrade`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpgradeRequest {
    /// The new binary, on the daemon's machine; absent: what stands now where the running one was started from.
    pub binary: Option<PathBuf>,
}

/// Answer to `upgrade`: another process serves now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeReply {
    /// The new process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// The process before; it ends when its last answer is written.
    pub previous_pid: u32,
    /// Its version.
    pub previous_version: String,
}

/// Body of `upgrade` of a hive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HiveUpgradeRequest {
    /// As in [`VerbRequest::wait_ms`].
    pub wait_ms: u64,
}

impl Default for HiveUpgradeRequest {
    fn default() -> Self {
        Self { wait_ms: default_wait_ms() }
    }
}

/// Answer to `upgrade` of a hive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HiveUpgradeReply {
    /// The hive.
    pub hive: String,
    /// Its process, the same as before.
    pub pid: u32,
    /// Which upgrade it was.
    #[serde(flatten)]
    pub upgrade: HiveUpgrade,
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

/// Body of `reload`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReloadRequest {
    /// As in [`VerbRequest::wait_ms`]; counts once the file is read and taken.
    pub wait_ms: u64,
}

impl Default for ReloadRequest {
    fn default() -> Self {
        Self { wait_ms: default_wait_ms() }
    }
}

/// What a reload did, by replica (`NAME/REPLICA`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReply {
    /// New in the file.
    pub added: Vec<String>,
    /// Not in the file any more: stopped and forgotten.
    pub removed: Vec<String>,
    /// Changed so that another process runs now, or none.
    pub restarted: Vec<String>,
    /// Changed in what needs no new process: time limits, probes, policy.
    pub updated: Vec<String>,
    /// How many are as they were.
    pub untouched: usize,
    /// Keys that changed and are read only when the hive starts.
    #[serde(default)]
    pub needs_hive_restart: Vec<String>,
    /// Keys that changed and are read only when queen starts.
    #[serde(default)]
    pub needs_queen_restart: Vec<String>,
}

/// Body of `drain` and `undrain` of a hive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DrainRequest {
    /// As in [`VerbRequest::wait_ms`]; a drain has settled when nothing is in flight on the hive any more.
    pub wait_ms: u64,
}

impl Default for DrainRequest {
    fn default() -> Self {
        Self { wait_ms: default_wait_ms() }
    }
}

/// Answer to `drain` and `undrain` of a hive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrainReply {
    /// False where it was so already.
    pub changed: bool,
    /// The hive, as it is now.
    pub hive: HiveStatus,
}

/// Answer to `why`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct WhyReply {
    /// The workers named.
    pub workers: Vec<WorkerWhy>,
}

/// How one worker came to be as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerWhy {
    /// Its status now.
    #[serde(flatten)]
    pub worker: WorkerOnHive,
    /// The last times it fell, newest first; a bounded number.
    pub falls: Vec<WhyFall>,
}

/// One end of a run: what led to it, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyFall {
    /// When it began.
    pub at: Timestamp,
    /// The run that fell.
    pub incarnation: u64,
    /// The whole chain of causes as one sentence, from the worker to the root.
    pub summary: String,
    /// The workers of that chain (`NAME/REPLICA`): this one first, then the dependency that pulled it down, and so on.
    pub chain: Vec<String>,
    /// How its process ended, once it has.
    pub ended: Option<String>,
    /// What came of it.
    pub outcome: WhyOutcome,
    /// Since when that is so, where it is settled.
    pub since: Option<Timestamp>,
}

/// What came of a fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhyOutcome {
    /// Nothing yet: it is ending, waits out its back-off, or waits for what it needs.
    Pending,
    /// It runs again.
    Running,
    /// It is down.
    Down,
    /// It fell again, or was told otherwise, before anything was settled.
    Overtaken,
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
