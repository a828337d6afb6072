//! Desired state: what queen wants of a hive.
//!
//! Level-triggered: a hive reconciles towards the newest [`Assignment`] it has seen, so any message may be
//! lost. An older generation of the same fleet never wins.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::container::ContainerSpec;
use crate::{ApiError, ErrorCode, EventKind, ReplicaId};

/// Everything one hive shall run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// Identity of queen's store. Generations of different fleets do not compare: a queen that lost its
    /// store starts a new fleet, whose first assignment is taken.
    pub fleet_id: String,
    /// Grows with each change.
    pub generation: u64,
    /// One entry a replica.
    pub workers: Vec<WorkerAssignment>,
    /// Grows with each `hive upgrade`: a hive that has come to a smaller number becomes the binary that is there now, once.
    #[serde(default)]
    pub upgrade_generation: u64,
}

impl Assignment {
    /// Whether this one replaces `current`.
    #[must_use]
    pub fn supersedes(&self, current: Option<&Self>) -> bool {
        current.is_none_or(|c| c.fleet_id != self.fleet_id || self.generation > c.generation)
    }
}

/// One replica a hive shall run or keep stopped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerAssignment {
    /// Which replica.
    #[serde(flatten)]
    pub id: ReplicaId,
    /// How to run it. Shared by all who keep the orders.
    pub spec: Arc<WorkerSpec>,
    /// The model it needs, if any.
    pub model: Option<ModelSpec>,
    /// Run or stay stopped.
    pub desired: Desired,
    /// Grows with each `worker restart`: a hive that has carried out a smaller number restarts the replica once.
    pub restart_generation: u64,
    /// Grows with each `worker retry`: a replica that gave up or waits out its back-off is tried again once.
    #[serde(default)]
    pub retry_generation: u64,
    /// The `retry_generation` of the last `worker retry --force`: that try also forgets the restarts counted.
    #[serde(default)]
    pub forced_generation: u64,
    /// The `restart_generation` of the last `worker restart --clean`: what was kept from before it is not used again.
    #[serde(default)]
    pub clean_generation: u64,
}

impl WorkerAssignment {
    /// An order without a past: nobody has restarted the replica by hand, or had it tried again.
    #[must_use]
    pub const fn new(id: ReplicaId, spec: Arc<WorkerSpec>, model: Option<ModelSpec>, desired: Desired) -> Self {
        Self {
            id,
            spec,
            model,
            desired,
            restart_generation: 0,
            retry_generation: 0,
            forced_generation: 0,
            clean_generation: 0,
        }
    }

    /// The spec to change; others that share it keep theirs.
    pub fn spec_mut(&mut self) -> &mut WorkerSpec {
        Arc::make_mut(&mut self.spec)
    }
}

/// What a replica shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Desired {
    /// Up and ready.
    Running,
    /// Down, drained first.
    Stopped,
    /// Down at once (SIGKILL).
    Killed,
}

/// A model as the config names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSpec {
    /// Name of the model's table in the config.
    pub name: String,
    /// `pypi:…`, `hf:…`, `https://…` or `file:…`.
    pub source: String,
    /// Expected digest, lower-case hex.
    pub sha256: Option<String>,
}

/// How to run a worker: the `[worker.NAME]` table, resolved against defaults, as queen sends it to a hive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerSpec {
    /// What is run.
    pub engine: Engine,
    /// Extra environment.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Where it is run; a hive's own directory if absent.
    pub working_dir: Option<String>,
    /// Where its PID file stands; the run directory if absent.
    pub pid_file: Option<String>,
    /// How long it may take to get ready.
    pub start_timeout_ms: u64,
    /// `start_timeout_ms` is a default: it grows with the size of the model.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub start_timeout_grows: bool,
    /// How long it may take to end before it is killed.
    pub stop_timeout_ms: u64,
    /// Signal that asks it to end, such as `TERM`.
    pub stop_signal: String,
    /// How it proves that it is ready: `notify`, `tcp`, `http:/path`, `http://unix:SOCKET:/path`, `unix:SOCKET`,
    /// `exec:CMD`, `started`.
    pub ready: String,
    /// The health probe, if there is one.
    pub health: Option<HealthSpec>,
    /// When and how often it is restarted.
    pub restart: RestartSpec,
    /// Names of workers of which every replica on its hive must be ready before it starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
    /// What it may use.
    #[serde(default, skip_serializing_if = "LimitsSpec::is_empty")]
    pub limits: LimitsSpec,
    /// Lock files removed before a start when nobody holds them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stale_locks: Vec<String>,
    /// How its log is kept.
    #[serde(default)]
    pub log: LogSpec,
    /// The command ends and leaves a daemon behind, which writes `pid_file` itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub forking: bool,
    /// A socket (`ADDR:PORT`) that the hive opens, keeps over restarts and passes as `LISTEN_FDS`; `{port}` in it is the
    /// replica's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen: Option<String>,
    /// It must say `WATCHDOG=1` at least this often once it is ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watchdog_ms: Option<u64>,
    /// Commands that its hive runs when something of these kinds happens to it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub on: BTreeMap<EventKind, Vec<String>>,
    /// What it may use before somebody is told, or it is restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thresholds: Option<ThresholdsSpec>,
}

impl WorkerSpec {
    /// Whether its replicas keep something over their restarts, which a clean restart drops: our engine does, and a command
    /// that is told where (`{state_dir}`).
    #[must_use]
    pub fn keeps_state(&self) -> bool {
        let own: Vec<&String> = match &self.engine {
            Engine::Llm { .. } => return true,
            Engine::Command { command } => command.iter().collect(),
            Engine::Container(container) => container.texts().collect(),
        };
        let probe = self.health.as_ref().map(|health| &health.probe);
        let paths = self.working_dir.iter().chain(&self.pid_file).chain(&self.stale_locks);
        let mut texts = own.into_iter().chain(self.env.values()).chain(paths).chain(probe).chain([&self.ready]);
        texts.any(|text| text.contains(STATE_DIR))
    }

    /// Refuses a clean restart of a worker that has nothing to drop.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidParameter`] with what to do instead.
    pub fn check_clean(&self, name: &str) -> Result<(), ApiError> {
        if self.keeps_state() {
            return Ok(());
        }
        let message = format!(
            "worker `{name}` keeps nothing that a clean restart could drop: give its command a folder with `{STATE_DIR}`, \
             or restart it plainly"
        );
        Err(ApiError::new(ErrorCode::InvalidParameter, message).with_param("clean"))
    }
}

/// What a worker may use; absent fields limit nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LimitsSpec {
    /// Memory it never gets more than.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_max_bytes: Option<u64>,
    /// Memory at which it is restarted in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_restart_bytes: Option<u64>,
    /// Share of processors; 2.0 is two of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<f64>,
    /// Open files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nofile: Option<u64>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nproc: Option<u64>,
    /// Scheduling niceness, -20 to 19.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nice: Option<i8>,
    /// Disk access: `low`, `normal` or `high`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub io: Option<String>,
}

impl LimitsSpec {
    /// Whether it limits nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a worker's processes may use, as samples show it; absent fields are not looked at.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ThresholdsSpec {
    /// Percent of one core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<u64>,
    /// Resident memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Open files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fds: Option<u64>,
    /// How long it must be above without a break.
    pub for_ms: u64,
    /// Whether it is restarted then; else it is only told.
    pub restarts: bool,
}

/// How a worker's log is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSpec {
    /// Size at which a new file is begun.
    pub file_bytes_max: u64,
    /// Old files kept.
    pub files_kept: u32,
    /// Age at which old files go.
    pub age_max_ms: u64,
}

impl Default for LogSpec {
    fn default() -> Self {
        Self { file_bytes_max: 10 << 20, files_kept: 5, age_max_ms: 7 * 24 * 3_600_000 }
    }
}

/// Stands for the folder in which a replica of a command keeps what survives its restarts.
const STATE_DIR: &str = "{state_dir}";

/// What orders say that were kept by a release before there was a choice.
const fn cache_bytes_max() -> u64 {
    512 << 20
}

/// What a worker runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Engine {
    /// Our llm-worker-rbee.
    Llm {
        /// Requests served at the same time.
        slots: u32,
        /// Tokens of context a slot.
        context: u32,
        /// Threads of the engine; chosen from model size and free cores if absent.
        threads: Option<u32>,
        /// Batch-invariant numbers.
        deterministic: bool,
        /// Most that is kept on disk over restarts.
        #[serde(default = "cache_bytes_max")]
        cache_bytes_max: u64,
        /// The model is never swapped out.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        mlock: bool,
        /// The model is read into memory of its own, not mapped.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        no_mmap: bool,
    },
    /// Any other command; `{port} {model_path} {name} {replica} {run_dir} {state_dir}` are filled in by the hive.
    Command {
        /// The program and its arguments.
        command: Vec<String>,
    },
    /// A container, by the engine of the hive's machine.
    Container(Box<ContainerSpec>),
}

/// The health probe of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthSpec {
    /// `http:/path`, `http://unix:SOCKET:/path`, `tcp`, `unix:SOCKET` or `exec:CMD`.
    pub probe: String,
    /// Time between probes.
    pub interval_ms: u64,
    /// How long one probe may take.
    pub timeout_ms: u64,
    /// Failures in a row that restart the worker.
    pub failures: u32,
}

/// Restart policy of a worker (seed 003).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartSpec {
    /// `always`, `on-failure` or `never`.
    pub policy: String,
    /// First delay.
    pub backoff_min_ms: u64,
    /// Longest delay.
    pub backoff_max_ms: u64,
    /// Restarts allowed within `within_ms`.
    pub max_restarts: u32,
    /// The window in which restarts count.
    pub within_ms: u64,
    /// Stability after which the count starts anew.
    pub reset_after_ms: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment(fleet: &str, generation: u64) -> Assignment {
        Assignment { fleet_id: fleet.into(), generation, workers: Vec::new(), upgrade_generation: 0 }
    }

    #[test]
    fn a_command_keeps_what_it_is_told_where_to() {
        let command = |words: &[&str]| {
            WorkerSpec {
            engine: Engine::Command { command: words.iter().map(|word| (*word).to_owned()).collect() },
            ..serde_json::from_value(serde_json::json!({"engine": {"kind": "command", "command": []}, "env": {},
                "start_timeout_ms": 1, "stop_timeout_ms": 1, "stop_signal": "TERM", "ready": "started", "health": null,
                "restart": {"policy": "always", "backoff_min_ms": 1, "backoff_max_ms": 1, "max_restarts": 1, "within_ms": 1,
                "reset_after_ms": 1}})).unwrap()
        }
        };
        let plain = command(&["x", "--port", "{port}"]);
        assert!(!plain.keeps_state());
        assert!(plain.check_clean("x").unwrap_err().message.contains("{state_dir}"));
        assert!(command(&["x", "--cache={state_dir}/c"]).keeps_state());
        let mut by_env = command(&["x"]);
        by_env.env.insert("CACHE".into(), "{state_dir}".into());
        assert!(by_env.keeps_state());
        let engine = Engine::Llm {
            slots: 1,
            context: 16,
            threads: None,
            deterministic: false,
            cache_bytes_max: 0,
            mlock: false,
            no_mmap: false,
        };
        assert!(WorkerSpec { engine, ..command(&["x"]) }.keeps_state());
    }

    #[test]
    fn an_older_generation_never_wins_within_a_fleet() {
        let current = assignment("a", 5);
        for (candidate, wins) in [(("a", 4), false), (("a", 5), false), (("a", 6), true), (("b", 1), true)] {
            assert_eq!(assignment(candidate.0, candidate.1).supersedes(Some(&current)), wins, "{candidate:?}");
        }
        assert!(assignment("a", 0).supersedes(None));
    }
}
