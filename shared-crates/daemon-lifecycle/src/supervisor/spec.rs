//! What a unit is told to be: its command, its socket, how it proves readiness and health, and its policy.

use std::net::SocketAddr;
use std::path::PathBuf;

use supervision::Spec;

use crate::launch::Launch;
use crate::probe::{HealthProbe, Readiness};
use crate::process::StopSignal;

/// Everything a supervisor needs to know about one unit.
#[derive(Debug, Clone)]
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
    /// Its PID file; `NAME.pid` in the run directory when absent.
    pub pid_file: Option<PathBuf>,
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
            pid_file: None,
            stop_signal: StopSignal::Term,
            policy: Spec::default(),
        }
    }
}
