//! Daemons that fork: the started command ends with code 0, and a PID file names the process that stays.
//!
//! ```text
//!  command runs ──ends with 0──▶ PID file is waited for ──names one of the run──▶ that is the main process
//!        │ another end                   │ out of time │ names a stranger, or nobody
//!        └──────────────┬────────────────┴─────────────┘
//!                       ▼
//!             everything of the run is killed; the start failed, in words
//! ```
//!
//! All this is part of the spawn: its report comes at the end. A stop meanwhile gives it up.

use std::path::Path;
use std::time::Duration;

use supervision::ExitHow;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::message::{Begun, StartFailure};
use crate::pid_file::PidFile;
use crate::process::{ExitWatch, Process};
use crate::run::RunFiles;
use crate::state_file::RunState;

/// First pause between two looks at the PID file; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(1);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// What a forking start needs to come to its end.
#[derive(Debug)]
pub(super) struct ForkOrder {
    pub(super) files: RunFiles,
    pub(super) timeout: Duration,
    pub(super) kill_wait: Duration,
    /// Its other end is dropped when the start is given up.
    pub(super) given_up: oneshot::Receiver<()>,
}

impl ForkOrder {
    /// From the started command to its daemon.
    pub(super) async fn follow(mut self, begun: Begun) -> Result<Box<Begun>, StartFailure> {
        let Begun { process, mut state, socket } = begun;
        let until = Instant::now() + self.timeout;
        let timeout_s = self.timeout.as_secs_f64();
        let found = tokio::select! {
            found = find_daemon(&process, &state, &self.files.pid) => found,
            () = tokio::time::sleep_until(until) => Err(self.too_late(&process, timeout_s)),
            _ = &mut self.given_up => Err("given up before its daemon was known".to_owned()),
        };
        let recorded = found.and_then(|daemon| {
            state.process = daemon.identity().clone();
            let written = state.write(&self.files.state);
            written.map_err(|error| format!("cannot write {}: {error}", self.files.state.display()))?;
            Ok(daemon)
        });
        match recorded {
            Ok(daemon) => Ok(Box::new(Begun { process: daemon, state, socket })),
            Err(reason) => {
                self.clear(process, state).await;
                Err(StartFailure::Fork(reason))
            }
        }
    }

    fn too_late(&self, process: &Process, timeout_s: f64) -> String {
        let path = self.files.pid.display();
        if !process.has_exited().unwrap_or(false) {
            return format!(
                "the started command still runs after {timeout_s} s; a forking daemon's ends once it has forked"
            );
        }
        match PidFile::read(&self.files.pid) {
            PidFile::Garbage(text) => format!("its PID file {path} says {text:?} after {timeout_s} s, which is no pid"),
            PidFile::Unreadable(error) => format!("its PID file {path} cannot be read: {error}"),
            PidFile::Missing | PidFile::Pid(_) => format!("its PID file {path} did not appear within {timeout_s} s"),
        }
    }

    /// Nothing of the run stays.
    async fn clear(self, process: Process, state: RunState) {
        let cleared = tokio::task::spawn_blocking(move || {
            process.kill_and_reap()?;
            let is_gone = state.tree().kill_rest_of_dead(process.identity(), self.kill_wait)?;
            self.files.remove()?;
            Ok::<bool, std::io::Error>(is_gone)
        });
        match cleared.await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => tracing::warn!("processes of a start that failed survive SIGKILL"),
            Ok(Err(error)) => tracing::error!(%error, "cannot end what a failed start left behind"),
            Err(error) => tracing::error!(%error, "cannot end what a failed start left behind"),
        }
    }
}

async fn find_daemon(command: &Process, state: &RunState, pid_file: &Path) -> Result<Process, String> {
    let watch = ExitWatch::new(command).map_err(|error| format!("it cannot be watched: {error}"))?;
    watch.ended().await.map_err(|error| format!("it cannot be watched: {error}"))?;
    match command.exit_how() {
        ExitHow::Code(0) | ExitHow::Unknown => {}
        how => return Err(format!("the started command ended with {how}, before its daemon was known")),
    }
    let mut pause = PAUSE_MIN;
    loop {
        if let PidFile::Pid(pid) = PidFile::read(pid_file) {
            return daemon_of(pid, state).map_err(|problem| format!("its PID file {} {problem}", pid_file.display()));
        }
        // Not there, or half written.
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// The process a PID file names, if it is the run's own.
pub(super) fn daemon_of(pid: u32, state: &RunState) -> Result<Process, String> {
    let cannot = |error| format!("names process {pid}, which cannot be looked at: {error}");
    let dead = || format!("names process {pid}, which does not run");
    let process = Process::of_pid(pid).map_err(cannot)?.ok_or_else(dead)?;
    if process.has_exited().map_err(cannot)? {
        return Err(dead());
    }
    // Asked behind the open: what is held is what was asked about.
    if !state.tree().holds(pid) {
        return Err(format!("names process {pid}, which is none of its own"));
    }
    process.await_exit();
    Ok(process)
}
