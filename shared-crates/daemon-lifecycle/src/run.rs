//! One run of a daemon, from its order to its files: what is started is written down before it executes anything.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use supervision::{Incarnation, SpawnErrorKind, Stage};

use crate::files;
use crate::launch::{Launch, RunSetup, new_run_id};
use crate::listen::ListenSocket;
use crate::pid_file::PidFile;
use crate::process::{Process, SpawnError, StopSignal, kill_session_of_dead};
use crate::state_file::RunState;

/// How long a dead run's leftovers may take to disappear after SIGKILL.
const LEFTOVERS_WAIT: Duration = Duration::from_secs(5);

/// The files that stand for one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunFiles {
    pub(crate) pid: PathBuf,
    pub(crate) state: PathBuf,
}

impl RunFiles {
    /// Removes both. The PID file goes first: a state without a PID file is still a state, the reverse is a riddle.
    pub(crate) fn remove(&self) -> io::Result<()> {
        files::remove(&self.pid)?;
        files::remove(&self.state)
    }
}

/// What shall run, and with what.
#[derive(Debug)]
pub(crate) struct RunOrder<'a> {
    pub(crate) unit: &'a str,
    pub(crate) incarnation: Incarnation,
    pub(crate) restarts: u32,
    pub(crate) launch: &'a Launch,
    pub(crate) launch_fingerprint: u64,
    pub(crate) stop_signal: StopSignal,
    pub(crate) stop_timeout_ms: u64,
    pub(crate) files: &'a RunFiles,
    pub(crate) log_file: Option<&'a Path>,
    pub(crate) stdout: BorrowedFd<'a>,
    pub(crate) stderr: BorrowedFd<'a>,
    pub(crate) socket: Option<&'a ListenSocket>,
    pub(crate) notify_socket: Option<&'a Path>,
}

/// A run did not begin; nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    #[error("cannot write {}", path.display())]
    Record {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot listen on {address}")]
    Listen {
        address: std::net::SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("cannot open {} for its output", path.display())]
    Output {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl RunError {
    /// Whether trying again can help.
    pub(crate) const fn kind(&self) -> SpawnErrorKind {
        match self {
            Self::Spawn(error) => error.kind(),
            Self::Record { .. } | Self::Listen { .. } | Self::Output { .. } => SpawnErrorKind::Failed,
        }
    }

    /// The operating system's error below, where there is one.
    pub(crate) fn into_source(self) -> Option<io::Error> {
        match self {
            Self::Spawn(SpawnError::Step { source, .. })
            | Self::Record { source, .. }
            | Self::Listen { source, .. }
            | Self::Output { source, .. } => Some(source),
            Self::Spawn(_) => None,
        }
    }

    /// The whole story in one line, sources included.
    pub(crate) fn full_text(&self) -> String {
        match self {
            Self::Spawn(error) => error.full_text(),
            Self::Record { source, .. } | Self::Listen { source, .. } | Self::Output { source, .. } => {
                format!("{self}: {source}")
            }
        }
    }
}

impl RunOrder<'_> {
    /// Forks, records, releases.
    pub(crate) fn begin(&self) -> Result<(Process, RunState), RunError> {
        let run_id =
            new_run_id(self.unit).map_err(|source| RunError::Record { path: self.files.state.clone(), source })?;
        let command = self.launch.command(RunSetup {
            stdout: self.stdout,
            stderr: self.stderr,
            sockets: self.socket.iter().map(|socket| socket.as_fd()).collect(),
            notify_socket: self.notify_socket,
            run_id: &run_id,
        });
        let gated = command.spawn()?;
        let state = RunState {
            version: RunState::VERSION,
            unit: self.unit.to_owned(),
            process: gated.identity().clone(),
            incarnation: self.incarnation.get(),
            restarts: self.restarts,
            stage: Stage::Starting,
            launch_fingerprint: self.launch_fingerprint,
            run_id,
            started_at: jiff::Timestamp::now(),
            listen: self.socket.map(ListenSocket::address),
            pid_file: self.files.pid.clone(),
            log_file: self.log_file.map(Path::to_owned),
            stop_signal: self.stop_signal,
            stop_timeout_ms: self.stop_timeout_ms,
        };
        let begun = self.record(&state).and_then(|()| Ok(gated.release()?));
        if begun.is_err() {
            // The error that counts is the first.
            let _ = self.files.remove();
        }
        Ok((begun?, state))
    }

    fn record(&self, state: &RunState) -> Result<(), RunError> {
        let record = |path: &Path, result: io::Result<()>| {
            result.map_err(|source| RunError::Record { path: path.to_owned(), source })
        };
        record(&self.files.state, state.write(&self.files.state))?;
        record(&self.files.pid, PidFile::write(&self.files.pid, state.process.pid))
    }
}

/// Ends what a run left behind whose main process is gone, and removes its files.
pub(crate) fn clear_dead_run(files: &RunFiles, state: Option<&RunState>) -> io::Result<()> {
    if let Some(state) = state
        && !kill_session_of_dead(&state.process, &state.run_id, LEFTOVERS_WAIT)?
    {
        tracing::warn!(unit = state.unit, session = state.process.pid, "a dead run's processes survive SIGKILL");
    }
    files.remove()
}
