//! Which file of the run and log directories stands for what.

use std::path::{Path, PathBuf};

use super::config::SupervisorConfig;
use crate::logs::{LogConfig, LogPolicy};
use crate::run::RunFiles;

/// A unit's name is part of file names, and of socket and FIFO paths with their own limits.
const NAME_BYTES_MAX: usize = 128;

/// Extension of state files.
pub(super) const STATE_EXTENSION: &str = "state";

/// The files of one supervisor.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    pub(super) run_dir: PathBuf,
    pub(super) log_dir: PathBuf,
    pub(super) lock: PathBuf,
    pub(super) notify: PathBuf,
}

impl Paths {
    pub(super) fn new(config: &SupervisorConfig) -> Self {
        Self {
            run_dir: config.run_dir.clone(),
            log_dir: config.log_dir.clone(),
            lock: config.run_dir.join("supervisor.lock"),
            notify: config.run_dir.join("notify.sock"),
        }
    }

    pub(super) fn run_files(&self, unit: &str, pid_file: Option<&Path>) -> RunFiles {
        RunFiles {
            pid: pid_file.map_or_else(|| self.run_dir.join(format!("{unit}.pid")), Path::to_owned),
            state: self.state_file(unit),
        }
    }

    pub(super) fn state_file(&self, unit: &str) -> PathBuf {
        self.run_dir.join(format!("{unit}.{STATE_EXTENSION}"))
    }

    /// A unit's FIFOs: its output, then its errors.
    pub(super) fn fifos(&self, unit: &str) -> [PathBuf; 2] {
        [self.run_dir.join(format!("{unit}.out")), self.run_dir.join(format!("{unit}.err"))]
    }

    pub(super) fn log_file(&self, unit: &str) -> PathBuf {
        self.log_dir.join(format!("{unit}.log"))
    }

    pub(super) fn log_config(&self, unit: &str, policy: LogPolicy, writer: Option<u32>) -> LogConfig {
        let [out, err] = self.fifos(unit);
        LogConfig { out, err, file: self.log_file(unit), policy, writer }
    }

    /// What the log thread needs to go on where a dead one stopped.
    pub(super) fn log_journal(&self) -> PathBuf {
        self.run_dir.join("logs.journal")
    }
}

/// What is wrong with a unit's name, if anything.
pub(super) fn name_problem(name: &str) -> Option<&'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() {
        Some("its name is empty")
    } else if name.len() > NAME_BYTES_MAX {
        Some("its name is longer than 128 bytes")
    } else if !name.chars().all(allowed) {
        Some("its name may hold letters, digits, `-`, `_` and `.` only")
    } else if !name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
        Some("its name must begin with a letter or a digit")
    } else if matches!(name, "supervisor" | "notify") {
        Some("its name is that of a file of the supervisor")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_the_directory_are_refused() {
        for good in ["a", "smollm2.0", "redis-1_b"] {
            assert_eq!(name_problem(good), None, "{good}");
        }
        for bad in ["", ".", "..", ".a", "a/b", "a b", "ä", "-x", "supervisor", &"a".repeat(129)] {
            assert!(name_problem(bad).is_some(), "{bad}");
        }
    }
}
