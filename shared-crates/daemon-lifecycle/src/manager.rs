//! `DaemonManager`: one daemon, managed by a program that does not stay.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::probe::Readiness;

/// What a [`DaemonManager`] manages.
#[derive(Debug, Clone)]
pub struct DaemonConfig {
    /// Path to the daemon's binary; a bare name is looked up on `PATH`.
    pub binary_path: PathBuf,
    /// Command-line arguments.
    pub args: Vec<String>,
    /// PID file. The state file, the lock and the notify socket stand beside it with the extensions `state`, `lock`, `notify`.
    pub pid_file: PathBuf,
    /// Working directory; the caller's own when absent.
    pub working_dir: Option<PathBuf>,
    /// Environment variables, over those of the caller.
    pub env: HashMap<String, String>,
    /// How long the daemon may take to get ready (seconds).
    pub startup_timeout_secs: u64,
    /// How long the daemon may take to stop before it is killed (seconds).
    pub shutdown_timeout_secs: u64,
}

/// State of the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DaemonStatus {
    /// It runs with this pid.
    Running(u32),
    /// It does not run.
    Stopped,
    /// Its last start failed, for this reason.
    Failed(String),
    /// A PID file names this pid, but the process it stood for is gone (the number may be another process's by now).
    Stale(u32),
}

/// An operation of a [`DaemonManager`] failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DaemonError {
    /// The daemon could not be started, or ended before it was ready.
    #[error("{} did not start: {reason}", binary.display())]
    StartFailed {
        /// The binary.
        binary: PathBuf,
        /// What happened, for people.
        reason: String,
        /// Whether the binary (or another needed file) is missing, so that trying again cannot help.
        unavailable: bool,
        /// The last lines it logged, oldest first.
        log_tail: Vec<String>,
        /// The error below, where there is one.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The daemon could not be stopped.
    #[error("process {pid} did not stop: {reason}")]
    StopFailed {
        /// Its pid.
        pid: u32,
        /// What happened, for people.
        reason: String,
        /// The error below, where there is one.
        #[source]
        source: Option<io::Error>,
    },
    /// The PID file, or a file beside it, cannot be used.
    #[error("cannot use {}: {reason}", path.display())]
    PidFileError {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
        /// The error below, where there is one.
        #[source]
        source: Option<io::Error>,
    },
    /// The process is not there (any more).
    #[error("process {pid} is not running")]
    ProcessNotFound {
        /// Its pid.
        pid: u32,
    },
    /// Waiting took too long.
    #[error("timed out after {after_secs} s: {waiting_for}")]
    Timeout {
        /// What was waited for.
        waiting_for: String,
        /// How long (seconds).
        after_secs: u64,
        /// The last lines the daemon logged, oldest first.
        log_tail: Vec<String>,
    },
    /// The operating system refused.
    #[error("permission denied: cannot {doing}")]
    PermissionDenied {
        /// What was tried.
        doing: String,
        /// The refusal.
        #[source]
        source: io::Error,
    },
}

/// Starts, stops and watches one daemon without staying resident. Every method may be called by several processes at once.
#[derive(Debug, Clone)]
pub struct DaemonManager {
    config: DaemonConfig,
    log_file: Option<PathBuf>,
    readiness: Readiness,
    listen: Option<SocketAddr>,
    clean_env: bool,
}

#[expect(clippy::todo, reason = "signatures first; the bodies are the next commit")]
impl DaemonManager {
    /// A manager for this daemon. Nothing is touched yet.
    #[must_use]
    pub fn new(config: DaemonConfig) -> Self {
        Self { config, log_file: None, readiness: Readiness::Started, listen: None, clean_env: false }
    }

    /// Appends the daemon's output to this file; without it the output is dropped.
    #[must_use]
    pub fn with_log_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.log_file = Some(path.into());
        self
    }

    /// How the daemon proves that it is ready; [`Readiness::Started`] without this.
    #[must_use]
    pub fn with_readiness(mut self, readiness: Readiness) -> Self {
        self.readiness = readiness;
        self
    }

    /// Binds this address and passes the socket to the daemon as fd 3 (`LISTEN_FDS`).
    #[must_use]
    pub fn with_listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// Gives the daemon only the variables of [`DaemonConfig::env`], none of the caller's.
    #[must_use]
    pub fn with_clean_env(mut self) -> Self {
        self.clean_env = true;
        self
    }

    /// Starts the daemon and waits until it is ready; returns its pid. If it runs already, that pid.
    ///
    /// # Errors
    /// [`DaemonError::StartFailed`] or [`DaemonError::Timeout`] with the last log lines; nothing of it is left running then.
    pub fn start(&self) -> Result<u32, DaemonError> {
        todo!()
    }

    /// SIGTERM, wait, SIGKILL after the shutdown timeout; then removes the files. Stopping what does not run is fine.
    ///
    /// # Errors
    /// [`DaemonError::StopFailed`], [`DaemonError::PermissionDenied`], [`DaemonError::PidFileError`].
    pub fn stop(&self) -> Result<(), DaemonError> {
        todo!()
    }

    /// SIGKILL to the daemon and its process group at once; then removes the files.
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    pub fn kill(&self) -> Result<(), DaemonError> {
        todo!()
    }

    /// What is true now: the recorded process is verified by its start time, not by its pid alone.
    ///
    /// # Errors
    /// [`DaemonError::PidFileError`] when the PID file is garbage or unreadable.
    pub fn status(&self) -> Result<DaemonStatus, DaemonError> {
        todo!()
    }

    /// Stops and starts; returns the new pid.
    ///
    /// # Errors
    /// As [`stop`](Self::stop) and [`start`](Self::start).
    pub fn restart(&self) -> Result<u32, DaemonError> {
        todo!()
    }

    /// Waits until the daemon, started by anybody, is ready.
    ///
    /// # Errors
    /// [`DaemonError::Timeout`]; [`DaemonError::StartFailed`] when it is not running or ends meanwhile.
    pub fn wait_ready(&self, _timeout_secs: u64) -> Result<(), DaemonError> {
        todo!()
    }

    /// The running daemon's pid; `None` when it does not run.
    ///
    /// # Errors
    /// [`DaemonError::PidFileError`] when the PID file is garbage or unreadable.
    pub fn get_pid(&self) -> Result<Option<u32>, DaemonError> {
        todo!()
    }

    /// Whether the daemon runs; false also when that cannot be told.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self.status(), Ok(DaemonStatus::Running(_)))
    }

    /// The address the running daemon's socket is bound to, with the real port.
    ///
    /// # Errors
    /// [`DaemonError::PidFileError`] when the state file is garbage or unreadable.
    pub fn listen_address(&self) -> Result<Option<SocketAddr>, DaemonError> {
        todo!()
    }

    /// Removes the files of a daemon that is gone. A running daemon's files are left alone.
    ///
    /// # Errors
    /// [`DaemonError::PidFileError`] when they cannot be removed.
    pub fn cleanup_stale(&self) -> Result<(), DaemonError> {
        todo!()
    }
}
