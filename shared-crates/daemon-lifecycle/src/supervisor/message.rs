//! What reaches the owner task: wishes of callers, and reports of the jobs it started.

use std::io;

use supervision::{Event, ExitHow, Incarnation, StopMode, UnitName};
use tokio::sync::oneshot;

use super::Result;
use super::history::History;
use super::spec::UnitSpec;
use crate::listen::ListenSocket;
use crate::logs::Logs;
use crate::process::Process;
use crate::run::RunError;
use crate::state_file::RunState;

/// A wish, and where its answer goes.
#[derive(Debug)]
pub(super) enum Request {
    Apply(Vec<UnitSpec>, oneshot::Sender<Result<()>>),
    /// An event that concerns one unit.
    Tell(UnitName, Event, oneshot::Sender<Result<()>>),
    Logs(UnitName, oneshot::Sender<Result<Logs>>),
    Why(UnitName, oneshot::Sender<Result<History>>),
    Shutdown(StopMode, oneshot::Sender<Result<()>>),
    Detach(oneshot::Sender<Result<()>>),
}

/// What a job found out about one run of one unit.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) unit: UnitName,
    pub(super) incarnation: Incarnation,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    Spawned(Box<std::result::Result<Begun, RunError>>),
    /// The process and its tree are gone.
    Exited {
        how: ExitHow,
        log_tail: Vec<String>,
    },
    /// Nobody can wait for the process any more.
    Lost(io::Error),
    Ready,
    Health(std::result::Result<Option<serde_json::Value>, String>),
}

/// A run that has begun.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) process: Process,
    pub(super) state: RunState,
    pub(super) socket: Option<ListenSocket>,
}
