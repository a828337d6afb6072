//! What can go wrong with one managed daemon.

use std::io;
use std::path::{Path, PathBuf};

/// An operation of a [`DaemonManager`](crate::DaemonManager) failed.
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
        source: Option<io::Error>,
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

/// Result of a manager's operations.
pub(super) type Result<T, E = DaemonError> = std::result::Result<T, E>;

impl DaemonError {
    /// A file beside the PID file could not be `doing`.
    pub(super) fn file(doing: &str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::PermissionDenied { doing: format!("{doing} {}", path.display()), source }
            }
            _ => {
                Self::PidFileError { path: path.to_owned(), reason: format!("cannot {doing} it"), source: Some(source) }
            }
        }
    }

    /// A signal to `pid` was refused.
    pub(super) fn signal(pid: u32, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::PermissionDenied => {
                Self::PermissionDenied { doing: format!("send a signal to process {pid}"), source }
            }
            _ => Self::StopFailed { pid, reason: "it cannot be signalled".to_owned(), source: Some(source) },
        }
    }
}
