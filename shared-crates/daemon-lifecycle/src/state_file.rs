//! `NAME.state`: who a running daemon is, so that whoever comes next can take it over or know that it is gone.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use supervision::Stage;

use crate::files;
use crate::process::{ProcessIdentity, StopSignal};

/// Raised when a field changes its meaning; a reader refuses what is newer than itself.
const VERSION: u32 = 1;

/// One run of one daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunState {
    pub(crate) version: u32,
    /// The unit's name.
    pub(crate) unit: String,
    /// Its main process.
    pub(crate) process: ProcessIdentity,
    /// The run's number.
    pub(crate) incarnation: u64,
    /// Restarts counted when it began.
    pub(crate) restarts: u32,
    /// How far it has come.
    pub(crate) stage: Stage,
    /// Of the launch it runs with.
    pub(crate) launch_fingerprint: u64,
    /// The mark its processes carry in their environment.
    pub(crate) run_id: String,
    /// When it was started.
    pub(crate) started_at: jiff::Timestamp,
    /// Its listening socket's address.
    pub(crate) listen: Option<SocketAddr>,
    /// Its PID file.
    pub(crate) pid_file: PathBuf,
    /// Where its output goes.
    pub(crate) log_file: Option<PathBuf>,
    /// How it wants to be stopped, for one that nobody declares any more.
    pub(crate) stop_signal: StopSignal,
    /// How long it may take to stop, for the same.
    pub(crate) stop_timeout_ms: u64,
}

/// What a state file says.
#[derive(Debug)]
pub(crate) enum StateFile {
    Missing,
    State(Box<RunState>),
    /// No state of ours; what is wrong with it.
    Garbage(String),
    Unreadable(io::Error),
}

impl StateFile {
    pub(crate) fn read(path: &Path) -> Self {
        let text = match fs::read(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::Missing,
            Err(error) => return Self::Unreadable(error),
            Ok(text) => text,
        };
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        match serde_json::from_slice::<Versioned>(&text) {
            Ok(Versioned { version }) if version > VERSION => {
                Self::Garbage(format!("written by a newer program (version {version}, this one knows {VERSION})"))
            }
            Ok(_) => match serde_json::from_slice(&text) {
                Ok(state) => Self::State(state),
                Err(error) => Self::Garbage(error.to_string()),
            },
            Err(error) => Self::Garbage(error.to_string()),
        }
    }
}

impl RunState {
    pub(crate) const VERSION: u32 = VERSION;

    /// Writes down how far the run has come, unless that stands there already.
    pub(crate) fn advance(&mut self, stage: Stage, path: &Path) -> io::Result<()> {
        if self.stage == stage {
            return Ok(());
        }
        self.stage = stage;
        self.write(path)
    }

    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        files::replace(path, &serde_json::to_vec_pretty(self)?, 0o600)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> RunState {
        RunState {
            version: VERSION,
            unit: "a.0".to_owned(),
            process: ProcessIdentity { pid: 7, start_time_ticks: 9, boot_id: "b".to_owned() },
            incarnation: 3,
            restarts: 1,
            stage: Stage::Ready,
            launch_fingerprint: u64::MAX,
            run_id: "a.0:x".to_owned(),
            started_at: jiff::Timestamp::UNIX_EPOCH,
            listen: Some(([127, 0, 0, 1], 7855).into()),
            pid_file: "a.0.pid".into(),
            log_file: None,
            stop_signal: StopSignal::Int,
            stop_timeout_ms: 10_000,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.0.state");
        assert!(matches!(StateFile::read(&path), StateFile::Missing));
        state().write(&path).unwrap();
        assert!(matches!(StateFile::read(&path), StateFile::State(read) if *read == state()));
    }

    #[test]
    fn a_newer_or_broken_file_is_refused_with_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.state");
        fs::write(&path, r#"{"version": 99}"#).unwrap();
        assert!(matches!(StateFile::read(&path), StateFile::Garbage(why) if why.contains("newer program")));
        for garbage in ["", "{", "[]", r#"{"version": 1}"#] {
            fs::write(&path, garbage).unwrap();
            assert!(matches!(StateFile::read(&path), StateFile::Garbage(_)), "{garbage:?}");
        }
        assert!(matches!(StateFile::read(dir.path()), StateFile::Unreadable(_)));
    }
}
