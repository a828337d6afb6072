//! What the files and the kernel say about the daemon, taken together.

use super::error::Result;
use super::{DaemonError, DaemonManager};
use crate::pid_file::PidFile;
use crate::process::Process;
use crate::run::clear_dead_run;
use crate::state_file::{RunState, StateFile};

/// The truth about the daemon.
#[derive(Debug)]
pub(super) enum Observed {
    /// This process, verified.
    Running { process: Process, state: Box<RunState> },
    /// Recorded, but that process is not there any more (its pid may be another's).
    Gone { pid: u32, state: Option<Box<RunState>> },
    /// Nothing is recorded.
    Nothing,
}

impl DaemonManager {
    pub(super) fn observe(&self) -> Result<Observed> {
        let path = &self.files.run.state;
        match StateFile::read(path) {
            StateFile::State(state) => match Process::open(&state.process) {
                Ok(Some(process)) => Ok(Observed::Running { process, state }),
                Ok(None) => Ok(Observed::Gone { pid: state.process.pid, state: Some(state) }),
                Err(source) => Err(DaemonError::StopFailed {
                    pid: state.process.pid,
                    reason: "it cannot be looked at".to_owned(),
                    source: Some(source),
                }),
            },
            StateFile::Garbage(problem) => Err(DaemonError::PidFileError {
                path: path.clone(),
                reason: format!("it holds no daemon's state: {problem}"),
                source: None,
            }),
            StateFile::Unreadable(source) => Err(DaemonError::PidFileError {
                path: path.clone(),
                reason: "it cannot be read".to_owned(),
                source: Some(source),
            }),
            StateFile::Missing => self.observe_pid_file(),
        }
    }

    /// Without a state, a PID file proves nothing about the process it names: that one is not ours to touch.
    fn observe_pid_file(&self) -> Result<Observed> {
        let path = &self.files.run.pid;
        match PidFile::read(path) {
            PidFile::Missing => Ok(Observed::Nothing),
            PidFile::Pid(pid) => Ok(Observed::Gone { pid, state: None }),
            PidFile::Garbage(text) => Err(DaemonError::PidFileError {
                path: path.clone(),
                reason: format!("it holds {text:?}, not a pid; remove it if no daemon runs"),
                source: None,
            }),
            PidFile::Unreadable(source) => Err(DaemonError::PidFileError {
                path: path.clone(),
                reason: "it cannot be read".to_owned(),
                source: Some(source),
            }),
        }
    }

    pub(super) fn clear_dead(&self, state: Option<&RunState>) -> Result<()> {
        let files = &self.files.run;
        let tree = state.map(RunState::tree);
        clear_dead_run(files, state.zip(tree.as_ref())).map_err(|error| DaemonError::file("remove", &files.pid, error))
    }
}
