//! For a guard that stays: one run of a daemon, to wait for its end without asking again and again.

use std::io;

use supervision::Stage;

use super::error::Result;
use super::observe::Observed;
use super::{DaemonError, DaemonManager};
use crate::process::{ExitWatch, Process};

/// A daemon that runs, verified; it stays the same process whatever becomes of its pid.
#[derive(Debug)]
pub struct Witness {
    process: Process,
    exit: ExitWatch,
}

impl Witness {
    /// Its pid.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Returns once it has ended.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub async fn ended(&self) -> io::Result<()> {
        self.exit.ended().await
    }

    /// SIGKILL to it and its process group, which counts as a crash.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&self) -> io::Result<()> {
        self.process.kill_group()
    }
}

impl DaemonManager {
    /// The daemon, where it runs and was not told to end. Must be called within a runtime.
    ///
    /// # Errors
    /// [`DaemonError::PidFileError`] when the state file is garbage or unreadable.
    pub fn witness(&self) -> Result<Option<Witness>> {
        match self.observe()? {
            Observed::Running { process, state } if state.stage != Stage::Ending => {
                let exit = ExitWatch::new(&process).map_err(|source| DaemonError::StopFailed {
                    pid: process.pid(),
                    reason: "it cannot be waited for".to_owned(),
                    source: Some(source),
                })?;
                Ok(Some(Witness { process, exit }))
            }
            _ => Ok(None),
        }
    }
}
