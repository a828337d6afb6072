//! One run of a daemon, from its order to its files: what is started has written itself down before it executes anything.

use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use supervision::{Incarnation, SpawnErrorKind, Stage};

use crate::after_exit::AfterExit;
use crate::files;
use crate::launch::{Launch, RunSetup};
use crate::limits::Limits;
use crate::listen::ListenSocket;
use crate::pid_file::PidFile;
use crate::process::{
    Cgroup, ChildLimits, Output, Process, ProcessIdentity, Record, SpawnError, StopSignal, Tree, new_run_id,
};
use crate::stale_lock;
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
        files::remove_plain(&self.pid)?;
        files::remove_plain(&self.state)
    }

    /// The same, with what an interrupted write left beside them.
    fn remove_all(&self) -> io::Result<()> {
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
    pub(crate) stdout: Output<'a>,
    pub(crate) stderr: Output<'a>,
    pub(crate) socket: Option<&'a ListenSocket>,
    pub(crate) notify_socket: Option<&'a Path>,
    pub(crate) limits: &'a Limits,
    /// Lock files to remove first, where nobody holds them.
    pub(crate) stale_locks: &'a [PathBuf],
    /// The command forks a daemon, which names itself in `files.pid`: that file is not ours to write.
    pub(crate) forking: bool,
    /// Into a cgroup of its own, where the machine lets us.
    pub(crate) in_cgroup: bool,
    /// What is run after its end.
    pub(crate) after_exit: Option<&'a AfterExit>,
    /// What is recorded at first: one that need not prove that it is ready, is.
    pub(crate) stage: Stage,
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
            Self::Spawn(
                SpawnError::Step { source, .. }
                | SpawnError::Record { source, .. }
                | SpawnError::LimitRefused { source, .. },
            )
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
    /// Starts it. Before it executes anything, it is recorded.
    pub(crate) fn begin(&self) -> Result<(Process, RunState), RunError> {
        for path in self.stale_locks {
            stale_lock::clear(self.unit, path, self.launch);
        }
        if self.forking {
            // What an earlier run wrote there would be taken for this one's word.
            let path = &self.files.pid;
            files::remove(path).map_err(|source| RunError::Record { path: path.clone(), source })?;
        }
        let cgroup = if self.in_cgroup { Cgroup::create(owner_of(self.files), self.unit) } else { None };
        let begun = self.begin_in(cgroup.as_ref());
        if begun.is_err() {
            // The error that counts is the first.
            let _ = self.files.remove_all();
            if let Some(cgroup) = cgroup {
                cgroup.discard();
            }
        }
        begun
    }

    fn begin_in(&self, cgroup: Option<&Cgroup>) -> Result<(Process, RunState), RunError> {
        let run_id = new_run_id(self.unit);
        let limits = ChildLimits::new(self.limits, cgroup);
        let command = self.launch.command(RunSetup {
            stdin: None,
            stdout: self.stdout,
            stderr: self.stderr,
            sockets: self.socket.iter().map(|socket| socket.as_fd()).collect(),
            notify_socket: self.notify_socket,
            run_id: &run_id,
        });
        let mut state = RunState {
            version: RunState::VERSION,
            unit: self.unit.to_owned(),
            process: ProcessIdentity::of_this_boot(0, 0)
                .map_err(|source| RunError::Record { path: self.files.state.clone(), source })?,
            incarnation: self.incarnation.get(),
            restarts: self.restarts,
            stage: self.stage,
            launch_fingerprint: self.launch_fingerprint,
            run_id: run_id.clone(),
            cgroup: cgroup.map(|cgroup| cgroup.path().to_owned()),
            forking: self.forking,
            limits_in_force: limits.in_force(),
            started_at: jiff::Timestamp::now(),
            listen: self.socket.map(ListenSocket::address),
            pid_file: self.files.pid.clone(),
            log_file: self.log_file.map(Path::to_owned),
            after_exit: self.after_exit.cloned(),
            payload: None,
            stop_signal: self.stop_signal,
            stop_timeout_ms: self.stop_timeout_ms,
            self_kept: false,
        };
        let process = command.spawn(&self.records(&state)?, cgroup, &limits)?;
        state.process = process.identity().clone();
        Ok((process, state))
    }

    /// The state first: a state without a PID file is still a state, the reverse is a riddle.
    fn records(&self, state: &RunState) -> Result<Vec<Record<'_>>, RunError> {
        let path = &self.files.state;
        let state = state.record(path).map_err(|source| RunError::Record { path: path.clone(), source })?;
        Ok(if self.forking { vec![state] } else { vec![state, PidFile::record(&self.files.pid)] })
    }
}

/// A number for whoever keeps his runs' files in that directory.
pub(crate) fn owner_of(files: &RunFiles) -> u64 {
    owner_of_dir(files.state.parent().unwrap_or(Path::new("")))
}

fn owner_of_dir(dir: &Path) -> u64 {
    crate::launch::hash_of(dir.as_os_str().as_encoded_bytes())
}

/// Removes what a supervisor that died left of runs that never began. Only for who holds the directory's lock.
pub(crate) fn sweep_unborn(run_dir: &Path) {
    Cgroup::sweep(owner_of_dir(run_dir));
}

/// Ends what a run left behind whose main process is gone, and removes its files. The tree: asked for when it was gone already.
pub(crate) fn clear_dead_run(files: &RunFiles, run: Option<(&RunState, &Tree)>) -> io::Result<()> {
    if let Some((state, tree)) = run
        && !tree.kill_rest_of_dead(&state.process, LEFTOVERS_WAIT)?
    {
        tracing::warn!(unit = state.unit, main = state.process.pid, "a dead run's processes survive SIGKILL");
    }
    files.remove_all()
}
