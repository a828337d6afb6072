//! What `status --json` prints (CONTRACT): the tree queen → hives → workers.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Phase;

/// The whole tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FleetStatus {
    /// Absent where a hive stands alone.
    pub queen: Option<QueenStatus>,
    /// Every hive known.
    pub hives: Vec<HiveStatus>,
}

/// The orchestrator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueenStatus {
    /// Its phase.
    pub phase: Phase,
    /// Process id, where it runs.
    pub pid: Option<u32>,
    /// Where it listens.
    pub url: String,
    /// Of the running binary.
    pub version: Option<String>,
    /// Seconds since this process started.
    pub uptime_s: f64,
    /// Times it was started again after a crash.
    pub restarts: u32,
    /// What her process uses, as last sampled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<ProcessUsage>,
    /// What is wrong with her history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_trouble: Option<String>,
}

/// One machine's pool manager.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HiveStatus {
    /// Unique in the fleet.
    pub name: String,
    /// Its phase; `unavailable` when it has not been heard of for longer than its lease.
    pub phase: Phase,
    /// Process id, where it runs.
    pub pid: Option<u32>,
    /// Where it listens.
    pub url: String,
    /// The generation of desired state it has applied.
    pub generation: u64,
    /// Seconds since this process started.
    pub uptime_s: f64,
    /// Times it was started again after a crash.
    pub restarts: u32,
    /// Why it is not running, where it is not.
    #[serde(default)]
    pub reason: Option<String>,
    /// What its own process uses, as last sampled; its workers are not counted in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<ProcessUsage>,
    /// What is wrong with its history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_trouble: Option<String>,
    /// Its workers, by name and replica.
    pub workers: Vec<WorkerStatus>,
}

/// One replica of a worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    /// Name of the worker's table in the config.
    pub name: String,
    /// Counted from 0.
    pub replica: u32,
    /// Its phase.
    pub phase: Phase,
    /// Process id, where it runs.
    pub pid: Option<u32>,
    /// Where it listens.
    pub port: Option<u16>,
    /// The model it serves, if it takes part in inference routing.
    pub model: Option<String>,
    /// Number of this run.
    pub incarnation: u64,
    /// Restarts since the count was last reset.
    pub restarts: u32,
    /// Seconds since this incarnation started.
    pub uptime_s: f64,
    /// Resident memory.
    pub rss_bytes: u64,
    /// Share of one core since the sample before.
    pub cpu_percent: f64,
    /// What its processes use, as last sampled; absent before the first sample, and where none are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<ProcessUsage>,
    /// What the last health probe said.
    pub health: Option<Health>,
    /// Why it is not running, where it is not.
    pub reason: Option<String>,
    /// The last lines it wrote; only where it failed or never got ready.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub last_log_lines: Vec<String>,
    /// The restart order it has carried out (see [`crate::WorkerAssignment::restart_generation`]).
    #[serde(default)]
    pub restart_generation: u64,
    /// Whether it is our own engine: it gets the fleet's token, other commands do not.
    #[serde(default)]
    pub own_engine: bool,
    /// What it waits for before it can start, such as `cache/0, which is starting`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// The limits set for it, each with how it is kept: by cgroup, by rlimit, or not in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<String>,
    /// How long a start of it may take, its model's size considered; 0 where that is not known.
    #[serde(default)]
    pub start_timeout_ms: u64,
    /// It is not loaded because nobody uses it; the next request for its model loads it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unloaded: bool,
    /// It runs as it was told before: what it needs for its newest orders is not here yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub behind: bool,
}

/// What a daemon's processes used when they were last sampled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProcessUsage {
    /// When.
    pub at: Timestamp,
    /// How many processes it has.
    pub processes: u64,
    /// What they use together.
    #[serde(flatten)]
    pub figures: Figures,
}

/// What the processes of one daemon use together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Share of one core since the sample before, in percent; may exceed 100.
    pub cpu_percent: f64,
    /// Resident memory; pages shared with others count in full.
    pub rss_bytes: u64,
    /// Proportional memory, where shared pages count in part; absent where the system does not tell, or was not asked yet.
    pub pss_bytes: Option<u64>,
    /// Open files; absent for a process of somebody else.
    pub fds: Option<u64>,
    /// Threads.
    pub threads: u64,
    /// Bytes read from disks since it started; absent for a process of somebody else.
    pub read_bytes: Option<u64>,
    /// Bytes written to disks since it started.
    pub written_bytes: Option<u64>,
    /// What its logs and what it keeps take on disk.
    pub disk_bytes: u64,
    /// Memory of graphics cards; absent without cards.
    pub gpu_bytes: Option<u64>,
}

/// The health body of seed 003.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Whether the daemon says it can work.
    pub healthy: bool,
    /// When it last did work.
    pub last_activity: Option<Timestamp>,
    /// Requests that wait.
    #[serde(default)]
    pub queue_depth: u64,
    /// Errors since its start.
    #[serde(default)]
    pub error_count: u64,
    /// Share of prompt tokens that it knew already, 0 to 1; only our engine's workers say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_hit_rate: Option<f64>,
}

impl FleetStatus {
    /// All workers with the name of their hive.
    pub fn workers(&self) -> impl Iterator<Item = (&str, &WorkerStatus)> {
        self.hives.iter().flat_map(|hive| hive.workers.iter().map(move |worker| (hive.name.as_str(), worker)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_one_flat_object() {
        let text = r#"{"at":"1970-01-01T00:00:00Z","processes":2,"cpu_percent":1.5,"rss_bytes":3,"pss_bytes":null,"fds":4,"threads":5,"read_bytes":6,"written_bytes":7,"disk_bytes":8,"gpu_bytes":null}"#;
        let usage: ProcessUsage = serde_json::from_str(text).unwrap();
        assert_eq!((usage.processes, usage.figures.fds, usage.figures.disk_bytes), (2, Some(4), 8));
        assert_eq!(serde_json::to_string(&usage).unwrap(), text);
    }
}
