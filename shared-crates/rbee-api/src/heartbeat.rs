//! What a hive tells queen of itself, and her answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Event, ProcessUsage, WorkerStatus};

/// What a hive tells queen: at once on change, else every third of its lease.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Distinguishes two machines that claim one name.
    pub machine_id: String,
    /// Where the hive's API can be reached.
    pub url: String,
    /// Process id on its machine.
    pub pid: u32,
    /// Version of its binary.
    pub version: String,
    /// Seconds since the hive's process started.
    pub uptime_s: f64,
    /// Free-form labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Cores of the machine.
    pub cores: u32,
    /// Memory of the machine.
    pub memory_bytes: u64,
    /// Fleet of the assignment it works on.
    pub fleet_id: Option<String>,
    /// Generation of the assignment it has applied: every worker has been told. 0: none yet.
    pub generation: u64,
    /// It takes no new work and is about to end.
    #[serde(default)]
    pub stopping: bool,
    /// What its own process uses, as last sampled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<ProcessUsage>,
    /// What is wrong with its history.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history_trouble: Option<String>,
    /// Its workers.
    pub workers: Vec<WorkerStatus>,
    /// The last upgrade it has come to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<HiveUpgrade>,
    /// What happened there after what queen said she knows, oldest first; a part of it, if it is much.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<Event>,
}

/// What came of a `hive upgrade`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HiveUpgrade {
    /// Its number.
    pub generation: u64,
    /// Version of the binary that runs now.
    pub version: String,
    /// Why it is still the old one.
    pub error: Option<String>,
}

/// Queen's answer to a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatReply {
    /// Fleet of queen's store.
    pub fleet_id: String,
    /// Newest generation for this hive.
    pub generation: u64,
    /// How long queen counts the hive as alive after this heartbeat.
    pub lease_ttl_ms: u64,
    /// Queen knows the hive's events up to this one; 0: none. Absent: she keeps none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events_known: Option<u64>,
}
