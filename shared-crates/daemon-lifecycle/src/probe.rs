//! What a probe is: the questions a supervisor can put to a daemon that does not speak the notify protocol.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One question to a daemon; "yes" is success within the time limit.
///
/// `address: None` means the unit's own listening address ([`UnitSpec::listen`](crate::UnitSpec::listen)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// A TCP connection is accepted.
    Tcp {
        /// Where to connect.
        address: Option<SocketAddr>,
    },
    /// `GET path` answers with a 2xx status.
    Http {
        /// Where to connect.
        address: Option<SocketAddr>,
        /// The path asked for, with its leading slash.
        path: String,
    },
    /// `GET path` over a unix stream socket answers with a 2xx status.
    HttpUnix {
        /// The socket's path.
        socket: PathBuf,
        /// The path asked for, with its leading slash.
        path: String,
    },
    /// A unix stream socket accepts a connection.
    Unix {
        /// The socket's path.
        path: PathBuf,
    },
    /// A command (no shell) exits with code 0.
    Exec {
        /// The program and its arguments.
        command: Vec<String>,
    },
}

/// How a supervisor learns that a started daemon is ready for work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Readiness {
    /// The daemon says `READY=1` on its `NOTIFY_SOCKET`.
    Notify,
    /// The first probe that succeeds makes it ready.
    Probe(Probe),
    /// A successful exec is all that is asked.
    #[default]
    Started,
}

/// A probe put again and again to a ready daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthProbe {
    /// The question.
    pub probe: Probe,
    /// Time from the end of one probe to the start of the next.
    pub interval: Duration,
    /// A probe that takes longer has failed.
    pub timeout: Duration,
}

impl HealthProbe {
    /// A probe every 30 s with a 5 s limit. How many failures in a row restart the unit is the policy's matter.
    #[must_use]
    pub fn new(probe: Probe) -> Self {
        Self { probe, interval: Duration::from_secs(30), timeout: Duration::from_secs(5) }
    }
}
