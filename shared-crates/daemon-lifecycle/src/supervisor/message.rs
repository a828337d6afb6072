//! What reaches the owner task: wishes of callers, and reports of the jobs it started.

use std::sync::Arc;

use supervision::{Event, ExitHow, Incarnation, StopMode, UnitName};
use tokio::sync::oneshot;

use super::Result;
use super::history::History;
use super::spec::UnitSpec;
use super::status::UnitStatus;
use super::telling::UnitEvents;
use crate::listen::ListenSocket;
use crate::logs::Logs;
use crate::process::Process;
use crate::run::RunError;
use crate::state_file::RunState;

/// A wish, and where its answer goes.
#[derive(Debug)]
pub(super) enum Request {
    Apply(Vec<Arc<UnitSpec>>, oneshot::Sender<Result<()>>),
    /// An event that concerns one unit.
    Tell(UnitName, Event, oneshot::Sender<Result<()>>),
    /// Answered once whatever was asked of the unit is done or has failed.
    Settled(UnitName, oneshot::Sender<Result<UnitStatus>>),
    Logs(UnitName, oneshot::Sender<Result<Logs>>),
    Listen(oneshot::Sender<Result<UnitEvents>>),
    Why(UnitName, oneshot::Sender<Result<History>>),
    /// Only whether there is an answer.
    Answer(oneshot::Sender<Result<()>>),
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
    Spawned(std::result::Result<Box<Begun>, StartFailure>),
    /// The process and its tree are gone, and its files with them.
    Exited {
        how: ExitHow,
        log_tail: Vec<String>,
    },
    Ready,
    Health(Health),
}

/// What a health probe found.
#[derive(Debug)]
pub(super) enum Health {
    /// It is well; the JSON that came along, if any.
    Well(Option<serde_json::Value>),
    /// It is not.
    Bad {
        /// Why.
        reason: String,
        /// The JSON that came along, if any.
        body: Option<serde_json::Value>,
    },
    /// It did not answer in time, but works or writes: too busy, as far as anybody can tell.
    Busy,
}

/// A run that has begun.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) process: Process,
    pub(super) state: RunState,
    pub(super) socket: Option<ListenSocket>,
}

/// A run that has not; nothing of it is left.
#[derive(Debug)]
pub(super) enum StartFailure {
    Run(RunError),
    /// A forking daemon did not do as it shall; what it did instead.
    Fork(String),
}
