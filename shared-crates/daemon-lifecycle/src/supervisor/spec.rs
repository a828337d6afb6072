//! What a unit is told to be: its command, its socket, how it proves readiness and health, and its policy.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use supervision::Spec;

use crate::after_exit::AfterExit;
use crate::launch::Launch;
use crate::limits::Limits;
use crate::logs::LogPolicy;
use crate::probe::{HealthProbe, Readiness};
use crate::process::StopSignal;

/// Everything a supervisor needs to know about one unit.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitSpec {
    /// The unit's name: letters, digits, `-`, `_` and `.`, at most 128 bytes; its files carry it.
    pub name: String,
    /// What is run.
    pub launch: Launch,
    /// A socket the supervisor binds, keeps over restarts and passes as fd 3 (`LISTEN_FDS`). Port 0 lets the kernel choose;
    /// the port chosen is kept and reported in [`UnitStatus::listen`](crate::UnitStatus::listen).
    pub listen: Option<SocketAddr>,
    /// How it proves that it is ready.
    pub readiness: Readiness,
    /// How it proves, from then on, that it is well.
    pub health: Option<HealthProbe>,
    /// The daemon has to say `WATCHDOG=1` at least this often, once it is ready; it is told so by `WATCHDOG_USEC`.
    pub watchdog: Option<Duration>,
    /// Its PID file; `NAME.pid` in the run directory when absent. Of a forking daemon: the one it writes itself.
    pub pid_file: Option<PathBuf>,
    /// The command forks a daemon, names it in `pid_file` and ends: what it names is then the main process.
    pub forking: bool,
    /// What it may use of the machine.
    pub limits: Limits,
    /// Lock files of its own that are removed before a start when nobody holds them.
    pub stale_locks: Vec<PathBuf>,
    /// How much of its output is kept.
    pub log: LogPolicy,
    /// It is given a notify socket, also where nothing it says there is waited for.
    pub notifies: bool,
    /// Run after each end of it: ends what it has outside of its own processes.
    pub after_exit: Option<AfterExit>,
    /// The signal that asks it to stop.
    pub stop_signal: StopSignal,
    /// Restarts, back-off and timeouts. The supervisor itself fills in `proves_ready` and `launch_fingerprint`.
    pub policy: Spec,
}

impl UnitSpec {
    /// A unit that is ready once it is executed, with the default policy, no socket and no health probe.
    pub fn new(name: impl Into<String>, launch: Launch) -> Self {
        Self {
            name: name.into(),
            launch,
            listen: None,
            readiness: Readiness::default(),
            health: None,
            watchdog: None,
            pid_file: None,
            forking: false,
            limits: Limits::default(),
            stale_locks: Vec::new(),
            log: LogPolicy::default(),
            notifies: false,
            after_exit: None,
            stop_signal: StopSignal::Term,
            policy: Spec::default(),
        }
    }
}
