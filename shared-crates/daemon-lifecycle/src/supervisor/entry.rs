//! What the owner keeps of one unit beside its place in the core.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use supervision::{Phase, Spec, Unit};

use super::jobs::Job;
use super::spec::UnitSpec;
use super::status::UnitStatus;
use crate::listen::ListenSocket;
use crate::logs::Logs;
use crate::probe::Readiness;
use crate::process::Process;
use crate::run::RunFiles;
use crate::state_file::RunState;

/// One unit.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) spec: Arc<UnitSpec>,
    pub(super) files: RunFiles,
    pub(super) log_file: PathBuf,
    pub(super) logs: Logs,
    pub(super) live: Option<Live>,
    /// Kept over restarts, so that connections made meanwhile wait.
    pub(super) socket: Option<ListenSocket>,
    pub(super) listened: Option<SocketAddr>,
    pub(super) log_tail: Vec<String>,
}

/// Its present run.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) process: Process,
    pub(super) state: RunState,
    pub(super) is_adopted: bool,
    /// Readiness or health.
    pub(super) probing: Option<Job>,
    pub(super) health: Option<serde_json::Value>,
    pub(super) status_text: Option<String>,
    /// Kept to the end of the run: it is what notices it.
    pub(super) _exit_watch: Job,
}

impl Entry {
    /// The policy as the core needs it, with what only the shell knows filled in.
    pub(super) fn core_spec(spec: &UnitSpec) -> Spec {
        Spec {
            proves_ready: spec.readiness != Readiness::Started,
            launch_fingerprint: fingerprint(spec),
            ..spec.policy.clone()
        }
    }

    pub(super) fn status(&self, unit: &Unit) -> UnitStatus {
        let phase = unit.phase();
        let live = self.live.as_ref();
        let is_in_trouble = matches!(phase, Phase::Failed | Phase::Unavailable | Phase::Restarting);
        UnitStatus {
            name: self.spec.name.clone(),
            phase,
            pid: live.map(|live| live.process.pid()),
            incarnation: unit.incarnation().get(),
            restarts: unit.restarts(),
            started_at: live.map(|live| live.state.started_at),
            ready: phase == Phase::Running,
            reason: unit.reason().map(str::to_owned),
            log_tail: if is_in_trouble { self.log_tail.clone() } else { Vec::new() },
            health: live.and_then(|live| live.health.clone()),
            status_text: live.and_then(|live| live.status_text.clone()),
            listen: live.and_then(|live| live.state.listen).or_else(|| self.socket.as_ref().map(ListenSocket::address)),
            log_file: self.log_file.clone(),
            adopted: live.is_some_and(|live| live.is_adopted),
            is_waiting_for: unit.is_waiting().then(|| unit.reason()).flatten().map(waited_for),
            history: Vec::new(),
            limits_in_force: Vec::new(),
        }
    }
}

/// The core's reason of one that waits, without its first words.
fn waited_for(reason: &str) -> String {
    reason.strip_prefix("waits for ").unwrap_or(reason).to_owned()
}

pub(super) fn fingerprint(spec: &UnitSpec) -> u64 {
    spec.launch.fingerprint(spec.listen, spec.readiness == Readiness::Notify)
}
