//! What a caller is told when a start did not end in a running daemon: the cause, and the last lines of this very run.

use std::io;

use supervision::{Cause, SpawnErrorKind};

use super::DaemonError;
use super::session::Session;
use crate::log_tail::last_lines;
use crate::probe::Readiness;

/// Log lines an error carries.
const LOG_TAIL_LINES: usize = 20;

impl Session<'_> {
    /// Why the start did not end in a running daemon.
    pub(super) fn start_error(&mut self) -> DaemonError {
        if let Some(Cause::StartTimedOut { after_ms }) = self.last_cause {
            return self.not_ready(after_ms / 1000);
        }
        let binary = self.manager.config.binary_path.clone();
        let log_tail = self.log_tail();
        if let Some(error) = self.spawn_error.take() {
            let unavailable = error.kind() == SpawnErrorKind::Unavailable;
            let reason = error.to_string();
            let source = error.into_source();
            return DaemonError::StartFailed { binary, reason, unavailable, log_tail, source };
        }
        let unit = self.core.unit(&self.unit);
        let reason = unit.and_then(supervision::Unit::reason).unwrap_or("it was stopped").to_owned();
        DaemonError::StartFailed { binary, reason, unavailable: false, log_tail, source: None }
    }

    pub(super) fn not_ready(&self, after_secs: u64) -> DaemonError {
        let binary = self.manager.config.binary_path.display();
        let waiting_for = match &self.manager.readiness {
            Readiness::Notify => format!("{binary} did not say that it is ready"),
            Readiness::Probe(_) => format!("{binary} did not answer its readiness probe"),
            Readiness::Started => format!("{binary} did not start"),
        };
        DaemonError::Timeout { waiting_for, after_secs, log_tail: self.log_tail() }
    }

    pub(super) fn start_failed(&self, reason: &str, source: io::Error) -> DaemonError {
        let binary = self.manager.config.binary_path.clone();
        let reason = format!("{reason} failed");
        DaemonError::StartFailed { binary, reason, unavailable: false, log_tail: Vec::new(), source: Some(source) }
    }

    fn log_tail(&self) -> Vec<String> {
        let lines = self.manager.log_file.as_deref().map(|path| last_lines(path, LOG_TAIL_LINES, self.log_from));
        lines.and_then(io::Result::ok).unwrap_or_default()
    }
}
