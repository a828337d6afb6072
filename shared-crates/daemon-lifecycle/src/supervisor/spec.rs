//! What a unit is told to be: its command, its socket, how it proves readiness and health, and its policy.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use supervision::Spec;

use crate::probe::{HealthProbe, Readiness};

/// A command to run, without a shell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Launch {
    /// The program. With a slash it is a path (a relative one counts from `working_dir`); without one it is looked up on `PATH`.
    pub program: PathBuf,
    /// Its arguments, without the program's own name.
    pub args: Vec<String>,
    /// Variables set for it, over what it inherits.
    pub env: BTreeMap<String, String>,
    /// Whether it starts from the supervisor's own environment (true in most cases) or from an empty one.
    pub inherit_env: bool,
    /// Its working directory; the supervisor's own when absent.
    pub working_dir: Option<PathBuf>,
}

impl Launch {
    /// A command that inherits environment and working directory.
    pub fn new(program: impl Into<PathBuf>, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            program: program.into(),
            args: args.into_iter().map(Into::into).collect(),
            inherit_env: true,
            ..Self::default()
        }
    }
}

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
            policy: Spec::default(),
        }
    }
}
