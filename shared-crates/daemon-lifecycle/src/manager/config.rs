//! What a manager manages, what it says about it, and which files stand for it.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::run::RunFiles;

/// What a [`DaemonManager`](crate::DaemonManager) manages.
#[derive(Clone)]
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

impl fmt::Debug for DaemonConfig {
    /// Without the values of the environment, which may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DaemonConfig")
            .field("binary_path", &self.binary_path)
            .field("args", &self.args)
            .field("pid_file", &self.pid_file)
            .field("working_dir", &self.working_dir)
            .field("env", &self.env.keys())
            .field("startup_timeout_secs", &self.startup_timeout_secs)
            .field("shutdown_timeout_secs", &self.shutdown_timeout_secs)
            .finish()
    }
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

/// The files of one managed daemon.
#[derive(Debug, Clone)]
pub(crate) struct ManagedFiles {
    pub(crate) run: RunFiles,
    pub(crate) lock: PathBuf,
    pub(crate) notify: PathBuf,
    /// Why the last start failed.
    pub(crate) failed: PathBuf,
}

impl ManagedFiles {
    pub(crate) fn beside(pid_file: &Path) -> Self {
        let with = |extension: &str| {
            let replaced = pid_file.with_extension(extension);
            if replaced != pid_file {
                return replaced;
            }
            let mut appended = pid_file.as_os_str().to_owned();
            appended.push(".");
            appended.push(extension);
            PathBuf::from(appended)
        };
        Self {
            run: RunFiles { pid: pid_file.to_owned(), state: with("state") },
            lock: with("lock"),
            notify: with("notify"),
            failed: with("failed"),
        }
    }
}
