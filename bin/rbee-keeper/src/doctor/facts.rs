//! What a diagnosis is made of: plain values, gathered once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rbee_runtime::config::{Config, Problem};

/// All of it.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// Whose files ours should be.
    pub(crate) uid: u32,
    pub(crate) now: SystemTime,
    pub(crate) config: ConfigFacts,
    /// Addresses that daemons of this machine are to listen on.
    pub(crate) ports: Vec<PortFact>,
    /// The workers' ports, where they have a range.
    pub(crate) worker_ports: Option<WorkerPorts>,
    pub(crate) config_file: Option<FileFact>,
    pub(crate) token: Option<FileFact>,
    /// Why the token cannot be used, if it cannot.
    pub(crate) token_problem: Option<String>,
    /// Configuration, state, log, model and run directories.
    pub(crate) dirs: Vec<DirFact>,
    pub(crate) limits: LimitFacts,
    pub(crate) cgroup: daemon_lifecycle::CgroupReach,
    pub(crate) clock: ClockFacts,
    pub(crate) programs: Vec<ProgramFact>,
    pub(crate) models: Vec<ModelFact>,
    pub(crate) runs: Vec<RunFact>,
    pub(crate) orphans: Vec<OrphanFact>,
    /// Supervisor locks that are held: what of, and by whom.
    pub(crate) locks: Vec<LockFact>,
    /// What the daemons answer, where one runs.
    pub(crate) fleet: Option<Result<rbee_api::FleetStatus, String>>,
    /// What is wrong with the records of the past.
    pub(crate) monitoring: Vec<String>,
    /// Installed services that are not as they would be installed now.
    pub(crate) services: Vec<ServiceFact>,
}

/// The configuration, and what it refers to.
#[derive(Debug, Clone)]
pub(crate) struct ConfigFacts {
    /// The file; absent: the built-in configuration holds.
    pub(crate) file: Option<PathBuf>,
    /// What holds; one that starts nothing where the file cannot be used.
    pub(crate) config: Config,
    /// What is wrong in the file.
    pub(crate) problems: Vec<Problem>,
    /// Why it cannot be read.
    pub(crate) unreadable: Option<String>,
    /// Files and programs it names that are not there: the key, and what is missing.
    pub(crate) missing: Vec<(String, String)>,
}

/// A file as it stands.
#[derive(Debug, Clone)]
pub(crate) struct FileFact {
    pub(crate) path: PathBuf,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
}

/// A directory, or the nearest one above it that exists.
#[derive(Debug, Clone)]
pub(crate) struct DirFact {
    pub(crate) what: &'static str,
    pub(crate) path: PathBuf,
    /// Mode and owner; absent where it does not exist yet.
    pub(crate) standing: Option<FileFact>,
    /// Whether we may write there, or make it.
    pub(crate) is_writable: bool,
    pub(crate) is_read_only: bool,
    pub(crate) free_bytes: u64,
    /// Free inodes; absent where the file system does not count them.
    pub(crate) free_files: Option<u64>,
    /// What our own bounds let grow there, in bytes.
    pub(crate) budget_bytes: u64,
}

/// Who has a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PortState {
    Free,
    Ours,
    /// By whom, where it can be seen.
    Taken(String),
    /// It cannot be listened on.
    Refused(String),
}

#[derive(Debug, Clone)]
pub(crate) struct PortFact {
    pub(crate) key: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) state: PortState,
}

/// The range of the workers' ports.
#[derive(Debug, Clone, Default)]
pub(crate) struct WorkerPorts {
    pub(crate) range: String,
    /// How many the wanted workers need.
    pub(crate) needed: u64,
    /// Free, or our workers' already.
    pub(crate) usable: u64,
    /// Who has some of the others.
    pub(crate) taken_by: Vec<String>,
}

/// What the kernel allows us.
#[derive(Debug, Clone)]
pub(crate) struct LimitFacts {
    pub(crate) nofile_hard: u64,
    pub(crate) nproc_soft: u64,
    /// Processes of this user now.
    pub(crate) processes: u64,
    /// Memory that may be locked, in bytes.
    pub(crate) memlock: u64,
    /// May go beyond hard limits.
    pub(crate) may_raise_limits: bool,
    /// The least nice value we may set.
    pub(crate) nice_min: i32,
}

#[derive(Debug, Clone)]
pub(crate) struct ClockFacts {
    pub(crate) is_synchronised: Option<bool>,
    /// The newest of our files, where it is newer than now.
    pub(crate) newest_file: Option<(PathBuf, SystemTime)>,
}

/// A program of ours.
#[derive(Debug, Clone)]
pub(crate) struct ProgramFact {
    pub(crate) name: &'static str,
    /// Whether this machine's configuration needs it.
    pub(crate) is_needed: bool,
    /// Where it is.
    pub(crate) path: Option<PathBuf>,
    /// What speaks against its file.
    pub(crate) refusal: Option<String>,
    /// What it says of itself.
    pub(crate) version: Option<Result<String, String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ModelState {
    /// Here, and untouched since it was checked.
    Here,
    NotHere,
    /// Something stands there that is not what was checked.
    Changed,
    /// Here, but with another digest than the configuration's.
    OtherDigest,
    /// A file of this machine that is not there, or no model.
    BadFile(String),
}

#[derive(Debug, Clone)]
pub(crate) struct ModelFact {
    pub(crate) name: String,
    pub(crate) state: ModelState,
    /// Of the file, where it is here.
    pub(crate) bytes: u64,
}

/// Which tier a run is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    Queen,
    Hive,
    Worker,
}

/// A run that files speak of.
#[derive(Debug, Clone)]
pub(crate) struct RunFact {
    pub(crate) tier: Tier,
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    pub(crate) pid: Option<u32>,
    pub(crate) condition: daemon_lifecycle::inspect::Condition,
    /// How far the clock went on its own since it was started; positive: forwards.
    pub(crate) clock_jump_s: Option<i64>,
    /// Its program's file was replaced since.
    pub(crate) is_outdated: bool,
    /// Its limits that are not in force.
    pub(crate) limits_not_in_force: Vec<String>,
}

/// A process of our installation that no record names.
#[derive(Debug, Clone)]
pub(crate) struct OrphanFact {
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) unit: String,
}

#[derive(Debug, Clone)]
pub(crate) struct LockFact {
    pub(crate) tier: Tier,
    pub(crate) path: PathBuf,
    pub(crate) holder: Option<u32>,
}

#[derive(Debug, Clone)]
pub(crate) struct ServiceFact {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    /// Its file is not there.
    pub(crate) is_missing: bool,
}

/// Two clocks this far apart differ.
pub(crate) const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);

#[cfg(test)]
impl Facts {
    /// A machine on which nothing is wrong.
    pub(crate) fn sound() -> Self {
        let file = |path: &str, mode| FileFact { path: path.into(), mode, uid: 1000 };
        Self {
            uid: 1000,
            now: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000),
            config: ConfigFacts {
                file: Some("/r/rbee.toml".into()),
                config: Config::built_in().unwrap_or_default(),
                problems: Vec::new(),
                unreadable: None,
                missing: Vec::new(),
            },
            ports: Vec::new(),
            worker_ports: Some(WorkerPorts { range: "1-9".into(), needed: 1, usable: 9, taken_by: Vec::new() }),
            config_file: Some(file("/r/rbee.toml", 0o644)),
            token: Some(file("/r/token", 0o600)),
            token_problem: None,
            dirs: vec![DirFact {
                what: "state",
                path: "/r/state".into(),
                standing: Some(file("/r/state", 0o700)),
                is_writable: true,
                is_read_only: false,
                free_bytes: 100 << 30,
                free_files: Some(1_000_000),
                budget_bytes: 1 << 30,
            }],
            limits: LimitFacts {
                nofile_hard: 1_048_576,
                nproc_soft: 100_000,
                processes: 100,
                memlock: 8 << 20,
                may_raise_limits: false,
                nice_min: 0,
            },
            cgroup: daemon_lifecycle::CgroupReach {
                base: Some("/sys/fs/cgroup/x".into()),
                can_make: true,
                controllers: ["memory", "cpu", "pids"].map(str::to_owned).into(),
            },
            clock: ClockFacts { is_synchronised: Some(true), newest_file: None },
            programs: Vec::new(),
            models: vec![ModelFact { name: "smollm2".into(), state: ModelState::Here, bytes: 100 << 20 }],
            runs: Vec::new(),
            orphans: Vec::new(),
            locks: Vec::new(),
            fleet: None,
            monitoring: Vec::new(),
            services: Vec::new(),
        }
    }

    /// As [`Facts::sound`], with this configuration.
    pub(crate) fn with_config(text: &str) -> Self {
        let mut facts = Self::sound();
        match Config::parse(text, std::path::Path::new("rbee.toml")) {
            Ok(config) => facts.config.config = config,
            Err(error) => panic!("{error}"),
        }
        facts
    }
}
