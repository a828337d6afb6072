//! What a supervisor tells about its units.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use supervision::Phase;

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
    /// The body of the last successful HTTP health probe, where it was JSON.
    pub health: Option<serde_json::Value>,
    /// `STATUS=` of the notify protocol.
    pub status_text: Option<String>,
    /// The address of its listening socket, with the real port.
    pub listen: Option<SocketAddr>,
    /// Its log file.
    pub log_file: PathBuf,
    /// Whether the present process was started by an earlier supervisor.
    pub adopted: bool,
}

impl UnitStatus {
    /// Time since the present process was started; `None` without a process.
    #[must_use]
    pub fn uptime(&self) -> Option<Duration> {
        let started_at = self.started_at?;
        Some(Duration::try_from(jiff::Timestamp::now().duration_since(started_at)).unwrap_or_default())
    }
}

/// All units by name; cheap to clone.
pub type Snapshot = Arc<BTreeMap<String, UnitStatus>>;
