//! What the owner keeps of one unit beside its place in the core.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use supervision::{Phase, Spec, Unit};
use tokio::sync::oneshot;

use super::Result;
use super::history::Fall;
use super::jobs::Job;
use super::spec::UnitSpec;
use super::status::UnitStatus;
use crate::launch::Launch;
use crate::limits::Limits;
use crate::listen::ListenSocket;
use crate::logs::Logs;
use crate::notify::SaidEnd;
use crate::probe::Readiness;
use crate::process::{Process, payload_memory_bytes};
use crate::state_file::RunState;

/// One unit.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) spec: Arc<UnitSpec>,
    pub(super) log_file: PathBuf,
    pub(super) logs: Logs,
    pub(super) live: Option<Live>,
    /// Dropped, it gives up a forking daemon's start.
    pub(super) giving_up: Option<oneshot::Sender<()>>,
    /// Kept over restarts, so that connections made meanwhile wait.
    pub(super) socket: Option<ListenSocket>,
    pub(super) listened: Option<SocketAddr>,
    pub(super) log_tail: Vec<String>,
    /// Those who want to know when it has settled.
    pub(super) waiting: Vec<oneshot::Sender<Result<UnitStatus>>>,
}

/// Its present run.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) process: Arc<Process>,
    pub(super) state: RunState,
    pub(super) is_adopted: bool,
    /// Readiness or health.
    pub(super) probing: Option<Job>,
    pub(super) health: Option<serde_json::Value>,
    pub(super) status_text: Option<String>,
    /// What it said of its end, before that.
    pub(super) said_end: Option<SaidEnd>,
}

impl Live {
    /// What the run uses: of one that stands for another process, that one's.
    pub(super) fn memory_bytes(&self) -> Option<u64> {
        match &self.state.payload {
            Some(payload) => payload_memory_bytes(payload),
            None => self.state.tree().memory_bytes(&self.process),
        }
    }
}

impl Entry {
    /// The policy as the core needs it, with what only the shell knows filled in.
    pub(super) fn core_spec(spec: &UnitSpec) -> Spec {
        Spec {
            proves_ready: spec.readiness != Readiness::Started,
            launch_fingerprint: spec.launch_fingerprint(),
            ..spec.policy.clone()
        }
    }

    pub(super) fn status(&self, unit: &Unit, history: Vec<Fall>) -> UnitStatus {
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
            payload: live.and_then(|live| live.state.payload.as_ref()).map(|payload| payload.pid),
            listen: live.and_then(|live| live.state.listen).or_else(|| self.socket.as_ref().map(ListenSocket::address)),
            log_file: self.log_file.clone(),
            adopted: live.is_some_and(|live| live.is_adopted),
            is_waiting_for: unit.is_waiting().then(|| unit.reason()).flatten().map(waited_for),
            history,
            limits_in_force: live.map(|live| live.state.limits_in_force.clone()).unwrap_or_default(),
        }
    }
}

/// The core's reason of one that waits, without its first words.
fn waited_for(reason: &str) -> String {
    reason.strip_prefix("waits for ").unwrap_or(reason).to_owned()
}

impl UnitSpec {
    /// Whether it is given a notify socket.
    pub(super) fn is_notifying(&self) -> bool {
        self.notifies || self.readiness == Readiness::Notify || self.watchdog.is_some()
    }

    /// The command as it is run, with what the notify protocol tells by variables.
    pub(super) fn whole_launch(&self) -> Launch {
        let mut launch = self.launch.clone();
        if let Some(watchdog) = self.watchdog {
            launch.env.insert("WATCHDOG_USEC".to_owned(), watchdog.as_micros().to_string());
        }
        launch
    }

    /// Changes with everything that only a restart can change.
    pub(super) fn launch_fingerprint(&self) -> u64 {
        let mut launch = self.whole_launch();
        let limits = Limits { memory_restart_bytes: None, ..self.limits };
        if limits != Limits::default() || self.forking {
            // No variable has such a name: what it stands for is not passed on, only compared.
            launch.env.insert("=".to_owned(), format!("{limits:?} {}", self.forking));
        }
        launch.fingerprint(self.listen, self.is_notifying())
    }
}
