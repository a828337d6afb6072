//! A process that answers one question and is gone with it: a probe's command, a binary that is tried out.

use std::os::fd::BorrowedFd;

use crate::launch::{Launch, RunSetup};
use crate::process::{ChildLimits, Output, Process};

/// Ends with the question, answered or not.
#[derive(Debug)]
pub(crate) struct Question(pub(crate) Process);

impl Question {
    /// Starts it, marked as a run of that name. Blocks until it executes its program.
    ///
    /// # Errors
    /// Why it could not be started, in one line.
    pub(crate) fn ask(launch: &Launch, run_id: &str, stdout: Output<'_>, stderr: Output<'_>) -> Result<Self, String> {
        Self::ask_with(launch, run_id, None, stdout, stderr)
    }

    /// The same, and it reads this.
    pub(crate) fn ask_with(
        launch: &Launch,
        run_id: &str,
        stdin: Option<BorrowedFd<'_>>,
        stdout: Output<'_>,
        stderr: Output<'_>,
    ) -> Result<Self, String> {
        let setup = RunSetup { stdin, stdout, stderr, sockets: Vec::new(), notify_socket: None, run_id };
        let spawned = launch.command(setup).spawn(&[], None, &ChildLimits::default());
        spawned.map(Self).map_err(|error| error.full_text())
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill_and_reap() {
            tracing::warn!(%error, pid = self.0.pid(), "cannot end a process that was to answer a question");
        }
    }
}
