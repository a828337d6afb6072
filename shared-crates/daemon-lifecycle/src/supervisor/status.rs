//! What a supervisor tells about its units.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use supervision::Phase;

use super::history::Fall;

/// One unit, as last observed.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitStatus {
    /// The unit's name.
    pub name: String,
    /// Where it stands.
    pub phase: Phase,
    /// Its main process, while there is one.
    pub pid: Option<u32>,
    /// Number of its present or last run; 0 before the first.
    pub incarnation: u64,
    /// Automatic restarts within the policy's window.
    pub restarts: u32,
    /// When the present process was started.
    pub started_at: Option<jiff::Timestamp>,
    /// Whether it has proven that it is ready.
    pub ready: bool,
    /// Why it is where it is, for people: the exit or error that brought it here.
    pub reason: Option<String>,
    /// The last log lines, filled in while `phase` is failed, unavailable or restarting.
    pub log_tail: Vec<String>,
    /// The body of the last HTTP health probe that had one, where it was JSON.
    pub health: Option<serde_json::Value>,
    /// `STATUS=` of the notify protocol.
    pub status_text: Option<String>,
    /// The process that does its work, where that is none of its own: a container's main process.
    pub payload: Option<u32>,
    /// The address of its listening socket, with the real port.
    pub listen: Option<SocketAddr>,
    /// Its log file.
    pub log_file: PathBuf,
    /// Whether the present process was started by an earlier supervisor.
    pub adopted: bool,
    /// What it waits for before it is started: a dependency, or a start slot.
    pub is_waiting_for: Option<String>,
    /// Its last falls and what came of them, newest first.
    pub history: Vec<Fall>,
    /// Each limit of its spec, and what enforces it on the present process: `cgroup`, `rlimit`, or `not in force` and why.
    pub limits_in_force: Vec<String>,
}

impl Default for UnitStatus {
    /// A unit of no name that never ran.
    fn default() -> Self {
        Self {
            name: String::new(),
            phase: Phase::Stopped,
            pid: None,
            incarnation: 0,
            restarts: 0,
            started_at: None,
            ready: false,
            reason: None,
            log_tail: Vec::new(),
            health: None,
            status_text: None,
            payload: None,
            listen: None,
            log_file: PathBuf::new(),
            adopted: false,
            is_waiting_for: None,
            history: Vec::new(),
            limits_in_force: Vec::new(),
        }
    }
}

impl UnitStatus {
    /// Time since the present process was started; `None` without a process.
    #[must_use]
    pub fn uptime(&self) -> Option<Duration> {
        let started_at = self.started_at?;
        Some(Duration::try_from(jiff::Timestamp::now().duration_since(started_at)).unwrap_or_default())
    }
}

/// All units by name; cheap to clone. One that nobody holds is changed in place, so let go of it soon.
pub type Snapshot = Arc<BTreeMap<String, Arc<UnitStatus>>>;
