//! The tables and keys of `rbee.toml` with their defaults. Unknown keys are errors everywhere.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use model_store::{ModelSource, Sha256Digest};
use serde::{Deserialize, Serialize};

use super::container::ContainerConfig;
use super::hooks::{HooksConfig, OnConfig};
use super::monitor::{MonitorConfig, ThresholdsConfig};
use super::queen::QueenConfig;
use super::restart::RestartConfig;
use super::values::{PortRange, Probe, Ready, StopSignal, duration, optional_duration};

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What this machine starts by itself.
    pub role: Role,
    /// Which set of workers starts; absent: all.
    pub profile: Option<String>,
    /// `[queen]`.
    pub queen: QueenConfig,
    /// `[hive]`.
    pub hive: HiveConfig,
    /// `[keeper]`.
    pub keeper: KeeperConfig,
    /// `[monitor]`.
    pub monitor: MonitorConfig,
    /// `[model.NAME]`.
    pub model: BTreeMap<String, ModelConfig>,
    /// `[worker.NAME]`.
    pub worker: BTreeMap<String, WorkerConfig>,
    /// `[on]`: commands for what happens to any daemon, queen and hives too.
    pub on: OnConfig,
    /// `[hooks]`.
    pub hooks: HooksConfig,
    /// `[profiles]`: names of workers for each profile; `*` means all.
    pub profiles: BTreeMap<String, Vec<String>>,
}

/// What a machine starts by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Queen and hive.
    #[default]
    Master,
    /// The hive only.
    Worker,
    /// Nothing.
    Leecher,
}

/// `[keeper]`: the command line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeeperConfig {
    /// Whether a command that finds queen crashed starts her again. Default true; `--no-recover` and `RBEE_NO_RECOVER`
    /// say no for once.
    pub recover: bool,
}

impl Default for KeeperConfig {
    fn default() -> Self {
        Self { recover: true }
    }
}

/// `[hive]`: this machine's pool manager.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HiveConfig {
    /// Unique in the fleet. Default `local`.
    pub name: String,
    /// Where it listens. Default `127.0.0.1:7835`; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Starts with `up`, whatever the role says.
    pub auto_start: Option<bool>,
    /// Queen's URL. Absent: the hive stands alone and runs this file's workers. A hive that queen starts is told
    /// queen's URL by her.
    pub queen: Option<String>,
    /// Ports of workers. Default `7855-7899`; `0` takes any free ones.
    pub ports: PortRange,
    /// Free-form labels, for placement.
    pub labels: BTreeMap<String, String>,
    /// As [`QueenConfig::hosts`].
    pub hosts: Vec<String>,
    /// Largest request body. Default 1 MiB.
    pub max_body: ByteSize,
    /// How long requests in flight may take to end when it stops. Default 30 s.
    #[serde(with = "duration")]
    pub drain_timeout: Duration,
    /// Workers that may be on their way up at once, so that twenty model loads do not begin in the same second.
    /// Absent: twice the cores, at least 4. A worker that is `started` as soon as it is spawned holds no place.
    pub starts_max: Option<u32>,
    /// Where the container engine listens: `unix:///PATH`. `DOCKER_HOST` of the hive's environment comes first; absent:
    /// `unix:///var/run/docker.sock`.
    pub docker: Option<String>,
    /// How long a container engine that does not answer is waited for. Default 10 s.
    #[serde(with = "duration")]
    pub docker_timeout: Duration,
    /// Replicas that it takes at most, all workers together. Default 16384.
    pub workers_max: u32,
}

impl Default for HiveConfig {
    fn default() -> Self {
        Self {
            name: "local".to_owned(),
            listen: loopback(rbee_api::HIVE_PORT),
            auto_start: None,
            queen: None,
            ports: PortRange { first: 7855, last: 7899 },
            labels: BTreeMap::new(),
            hosts: Vec::new(),
            max_body: ByteSize::mib(1),
            drain_timeout: Duration::from_secs(30),
            starts_max: None,
            docker: None,
            docker_timeout: Duration::from_secs(10),
            workers_max: 16_384,
        }
    }
}

/// `[model.NAME]`: a model file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Where it comes from.
    pub source: ModelSource,
    /// What it must hash to. Absent: not checked.
    pub sha256: Option<Sha256Digest>,
}

/// `[worker.NAME]`: our engine, or any command.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WorkerConfig {
    /// The model it serves, by its table's name. With a command: the command takes part in inference routing.
    pub model: Option<String>,
    /// Program and arguments; `{port} {model_path} {name} {replica} {run_dir} {state_dir}` are filled in. Absent: our engine.
    pub command: Option<Vec<String>>,
    /// What is run in a container instead. Keys of the worker go for it too: `env`, `limits`, `stop_signal`, `ready`, `health`;
    /// an `exec:` probe is run inside, and `working_dir` is a folder of the container.
    pub container: Option<ContainerConfig>,
    /// How many of it. Default 1.
    pub replicas: u32,
    /// Our engine: requests served at the same time. Default 4.
    pub slots: u32,
    /// Our engine: tokens of context each slot has. Default 2048.
    pub context: u32,
    /// Our engine: threads. Absent: chosen from model size and free cores.
    pub threads: Option<u32>,
    /// Unload all replicas when unused for so long; the next request loads them again. With `auto_start = false` the first
    /// request loads them. For a worker with a model, in a fleet: queen sees the requests. Absent: never.
    #[serde(with = "optional_duration")]
    pub idle_ttl: Option<Duration>,
    /// Our engine: the same tokens alone, in a batch and after a resume; slower prefill.
    pub deterministic: bool,
    /// Our engine: the model is never swapped out; it needs a limit for locked memory of its size. Default false.
    pub mlock: bool,
    /// Our engine: the model's file is mapped, and shared by all replicas; `false` reads it into memory of each. Default true.
    pub mmap: bool,
    /// Our engine: most of what each replica made of recent conversations that is kept on disk over its restarts, whole
    /// MiB; `0B` keeps nothing. Default 512 MiB.
    pub cache_max: ByteSize,
    /// Environment added to the hive's.
    pub env: BTreeMap<String, String>,
    /// Working folder. Absent: the hive's.
    pub working_dir: Option<PathBuf>,
    /// PID file. Absent: in the run folder. With `forking`: where the command itself writes its daemon's.
    pub pid_file: Option<PathBuf>,
    /// The command ends and leaves a daemon behind, whose PID it writes to `pid_file`.
    pub forking: bool,
    /// A socket that the hive opens, keeps over restarts and passes on as `LISTEN_FDS`: `ADDR:PORT`, where `{port}` is
    /// a port of the hive's range.
    pub listen: Option<String>,
    /// It must say `WATCHDOG=1` over `sd_notify` at least this often; absent: it need not.
    #[serde(with = "optional_duration")]
    pub watchdog: Option<Duration>,
    /// Profiles it belongs to, besides those of `[profiles]` that name it.
    pub profiles: Vec<String>,
    /// Machines that start it by themselves, by their role. Default: master and worker.
    pub roles: Vec<Role>,
    /// Workers that must be ready before it starts.
    pub depends_on: Vec<String>,
    /// Starts by itself, whatever role and profile say.
    pub auto_start: Option<bool>,
    /// How long it may take to get ready. Absent: 30 s for a command, 2 min for our engine, and 16 s more for each GiB of
    /// its model.
    #[serde(with = "optional_duration")]
    pub start_timeout: Option<Duration>,
    /// How long it may take to end before it is killed. Default 10 s.
    #[serde(with = "duration")]
    pub stop_timeout: Duration,
    /// Signal that asks it to end. Default TERM.
    pub stop_signal: StopSignal,
    /// How it proves that it is ready. Absent: `notify` for our engine; for a command `tcp` if it is given
    /// `{port}`, else `started`.
    pub ready: Option<Ready>,
    /// Health probe. Absent: `http:/health` for our engine, none for a command.
    pub health: Option<HealthConfig>,
    /// Lock files removed before a start when nobody holds them.
    pub stale_locks: Vec<PathBuf>,
    /// When it is restarted.
    pub restart: RestartConfig,
    /// What it may use.
    pub limits: LimitsConfig,
    /// What it may use before somebody is told, or it is restarted. Absent: nothing is looked at.
    pub thresholds: Option<ThresholdsConfig>,
    /// How its log is kept.
    pub log: LogConfig,
    /// Commands for what happens to it.
    pub on: OnConfig,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self {
            model: None,
            command: None,
            container: None,
            replicas: 1,
            slots: 4,
            context: 2048,
            threads: None,
            idle_ttl: None,
            deterministic: false,
            mlock: false,
            mmap: true,
            cache_max: ByteSize::mib(512),
            env: BTreeMap::new(),
            working_dir: None,
            pid_file: None,
            forking: false,
            listen: None,
            watchdog: None,
            profiles: Vec::new(),
            roles: vec![Role::Master, Role::Worker],
            depends_on: Vec::new(),
            auto_start: None,
            start_timeout: None,
            stop_timeout: Duration::from_secs(10),
            stop_signal: StopSignal::default(),
            ready: None,
            health: None,
            stale_locks: Vec::new(),
            restart: RestartConfig::default(),
            limits: LimitsConfig::default(),
            thresholds: None,
            log: LogConfig::default(),
            on: OnConfig::default(),
        }
    }
}

/// `health = { … }`: probed for as long as the worker runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthConfig {
    /// The probe. Default `http:/health`.
    pub probe: Probe,
    /// Time between probes. Default 30 s.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// How long one probe may take. Default 5 s.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Failures in a row that restart the worker. Default 3.
    pub failures: u32,
}

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            probe: Probe::Http { path: "/health".to_owned() },
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(5),
            failures: 3,
        }
    }
}

/// Class of disk access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IoClass {
    /// After everybody else.
    Low,
    /// As everybody.
    Normal,
    /// Before everybody else.
    High,
}

impl IoClass {
    /// The word of the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        }
    }
}

/// `limits = { … }`; absent keys limit nothing.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Memory it never gets more than.
    pub memory_max: Option<ByteSize>,
    /// Memory at which it is restarted in order.
    pub memory_restart: Option<ByteSize>,
    /// Share of processors; 2.0 is two of them.
    pub cpus: Option<f64>,
    /// Open files.
    pub nofile: Option<u64>,
    /// Processes and threads.
    pub nproc: Option<u64>,
    /// Scheduling niceness, -20 to 19.
    pub nice: Option<i8>,
    /// Disk access.
    pub io: Option<IoClass>,
}

/// `log = { … }`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Size at which a new file is begun. Default 10 MiB.
    pub max_size: ByteSize,
    /// Old files kept. Default 5.
    pub keep: u32,
    /// Age at which old files go. Default 7 days.
    #[serde(with = "duration")]
    pub max_age: Duration,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { max_size: ByteSize::mib(10), keep: 5, max_age: Duration::from_secs(7 * 24 * 3600) }
    }
}

pub(super) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}
