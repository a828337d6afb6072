//! A daemon's next life: a new program beside the running one, or in its place.
//!
//! ```text
//! beside:    running ── Successor::start (sockets passed on) ──▶ both ── OwnRecord::name ──▶ the files name the new one
//! in place:  running ── replace_self (same pid, same children) ──▶ the new program, else the fallback
//! ```
//!
//! What is handed over, and when, is for the daemons to agree on; here are processes, sockets and files alone.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use supervision::Stage;

use crate::launch::{HANDOVER_VARIABLE, Launch, RunSetup};
use crate::lock::{Lock, LockError};
use crate::manager::ManagedFiles;
use crate::pid_file::PidFile;
use crate::process::{self, Cgroup, ChildLimits, ExitWatch, Output, Process, new_run_id, own_run_id};
use crate::run::owner_of;
use crate::state_file::{RunState, StateFile};

/// What [`HANDOVER_VARIABLE`] begins with for a successor; its cgroup follows.
const BESIDE: &str = "beside:";
/// How often a service manager wants to hear of its daemon.
const WATCHDOG_VARIABLE: &str = "WATCHDOG_USEC";

/// A process that shall take over from this one.
#[derive(Debug)]
pub struct Successor {
    process: Process,
    run_id: String,
    cgroup: Option<Cgroup>,
}

/// A successor could not be started.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct SuccessorError {
    /// Why, in one line.
    pub reason: String,
}

impl Successor {
    /// Starts it with our output and, as fd 3 and on, these sockets. Blocks until it executes its program.
    ///
    /// It is a run of its own: the end of this process's run does not end it. Where we have a cgroup by our `record`, so has it.
    ///
    /// # Errors
    /// When it cannot be started; nothing of it is left then.
    pub fn start(
        unit: &str,
        launch: &Launch,
        sockets: Vec<BorrowedFd<'_>>,
        record: Option<&OwnRecord>,
    ) -> Result<Self, SuccessorError> {
        let run_id = new_run_id(unit);
        let has_cgroup = record.filter(|record| record.state.cgroup.is_some());
        let cgroup = has_cgroup.and_then(|record| Cgroup::create(owner_of(&record.files.run), unit));
        let mut launch = launch.clone();
        let word = cgroup.as_ref().map(|cgroup| cgroup.path().to_string_lossy().into_owned()).unwrap_or_default();
        launch.env.insert(HANDOVER_VARIABLE.to_owned(), format!("{BESIDE}{word}"));
        if let Ok(watchdog) = std::env::var(WATCHDOG_VARIABLE) {
            // A service manager that waits for our pings waits for its from then on.
            launch.env.insert(WATCHDOG_VARIABLE.to_owned(), watchdog);
        }
        let (stdout, stderr) = (io::stdout(), io::stderr());
        let notify_socket = std::env::var_os("NOTIFY_SOCKET").map(PathBuf::from);
        let setup = RunSetup {
            stdin: None,
            stdout: Output::Fd(stdout.as_fd()),
            stderr: Output::Fd(stderr.as_fd()),
            sockets,
            notify_socket: notify_socket.as_deref(),
            run_id: &run_id,
        };
        match launch.command(setup).spawn(&[], cgroup.as_ref(), &ChildLimits::default()) {
            Ok(process) => Ok(Self { process, run_id, cgroup }),
            Err(error) => {
                if let Some(cgroup) = cgroup {
                    cgroup.discard();
                }
                Err(SuccessorError { reason: error.full_text() })
            }
        }
    }

    /// Its process id.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Returns once it has ended.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub async fn ended(&self) -> io::Result<()> {
        ExitWatch::new(&self.process)?.ended().await
    }

    /// SIGKILL to it and its process group; returns when it is gone. Blocks.
    ///
    /// # Errors
    /// When it cannot be signalled.
    pub fn kill(&self) -> io::Result<()> {
        self.process.kill_and_reap()?;
        if let Some(cgroup) = &self.cgroup {
            cgroup.discard();
        }
        Ok(())
    }
}

/// Whether the process that started us shall be taken over from, by what it says in [`HANDOVER_VARIABLE`].
#[must_use]
pub fn is_successor(word: &str) -> bool {
    word.starts_with(BESIDE)
}

/// Removes the empty cgroups of runs whose files are in this directory.
pub fn sweep_cgroups(run_dir: &Path) {
    crate::run::sweep_unborn(run_dir);
}

/// The PID and state file of a daemon that a [`DaemonManager`](crate::DaemonManager) manages, held by the daemon itself: as long
/// as this lives, no manager starts or stops it.
#[derive(Debug)]
pub struct OwnRecord {
    files: ManagedFiles,
    state: Box<RunState>,
    lock: Lock,
}

/// A record cannot be held or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A manager is at work.
    #[error("{} is held{}", path.display(), holder.map(|pid| format!(" by process {pid}")).unwrap_or_default())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Its holder, as it wrote itself down.
        holder: Option<u32>,
    },
    /// A file cannot be used.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl OwnRecord {
    /// Holds the record beside this PID file; `None` where none there names process `pid`. Blocks, `timeout` at most.
    ///
    /// # Errors
    /// See [`RecordError`].
    pub fn hold(pid_file: &Path, pid: u32, timeout: Duration) -> Result<Option<Self>, RecordError> {
        let files = ManagedFiles::beside(pid_file);
        // Looked at before the lock too: a daemon that nobody manages makes no lock file.
        if names(&files.run.state, pid)?.is_none() {
            return Ok(None);
        }
        let lock = Lock::acquire_within(&files.lock, timeout).map_err(|error| match error {
            LockError::Held { holder, .. } => RecordError::Held { path: files.lock.clone(), holder },
            LockError::File(source) => RecordError::File { path: files.lock.clone(), source },
        })?;
        let state = names(&files.run.state, pid)?;
        Ok(state.map(|state| Self { files, state, lock }))
    }

    /// Writes down that this process, with that PID file, ends by intention: whoever finds it gone knows that it is no crash. A
    /// manager that is at work knows it already.
    ///
    /// # Errors
    /// When the file cannot be used.
    pub fn mark_ending(pid_file: &Path) -> Result<(), RecordError> {
        let mut record = match Self::hold(pid_file, std::process::id(), Duration::ZERO) {
            Ok(Some(record)) => record,
            Ok(None) | Err(RecordError::Held { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let path = record.files.run.state.clone();
        record.state.advance(Stage::Ending, &path).map_err(|source| RecordError::File { path, source })
    }

    /// From now on the files name this process's successor.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn name(&mut self, successor: &Successor) -> Result<(), RecordError> {
        let cgroup = successor.cgroup.as_ref().map(|cgroup| cgroup.path().to_owned());
        self.write(&successor.process, successor.run_id.clone(), cgroup)
    }

    /// From now on the files name this process, successor of the one they named before. `word`: as that one said it in
    /// [`HANDOVER_VARIABLE`].
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn name_ourselves(&mut self, word: &str) -> Result<(), RecordError> {
        let failed = |source| RecordError::File { path: self.files.run.state.clone(), source };
        let me = Process::of_pid(std::process::id()).map_err(failed)?;
        let me = me.ok_or_else(|| failed(io::ErrorKind::NotFound.into()))?;
        let run_id = own_run_id().unwrap_or_else(|| self.state.run_id.clone());
        let cgroup = word.strip_prefix(BESIDE).filter(|path| !path.is_empty()).map(PathBuf::from);
        self.write(&me, run_id, cgroup)
    }

    /// Removes the files that this process wrote itself, or the one before it whose place it has.
    pub(crate) fn remove_if_self_kept(self) -> Result<(), RecordError> {
        if !self.state.self_kept {
            return Ok(());
        }
        let path = self.files.lock.clone();
        let removed = self.files.run.remove().and_then(|()| self.lock.remove());
        removed.map_err(|source| RecordError::File { path, source })
    }

    /// The state first: a state without a PID file is still a state, the reverse is a riddle.
    fn write(&mut self, process: &Process, run_id: String, cgroup: Option<PathBuf>) -> Result<(), RecordError> {
        let (state, pid) = (&self.files.run.state, &self.files.run.pid);
        self.state.process = process.identity().clone();
        self.state.incarnation += 1;
        self.state.stage = Stage::Ready;
        self.state.started_at = jiff::Timestamp::now();
        self.state.run_id = run_id;
        self.state.cgroup = cgroup;
        self.state.write(state).map_err(|source| RecordError::File { path: state.clone(), source })?;
        PidFile::write(pid, process.pid()).map_err(|source| RecordError::File { path: pid.clone(), source })
    }
}

fn names(path: &Path, pid: u32) -> Result<Option<Box<RunState>>, RecordError> {
    match StateFile::read(path) {
        StateFile::State(state) if state.process.pid == pid => Ok(Some(state)),
        StateFile::State(_) | StateFile::Missing | StateFile::Garbage(_) => Ok(None),
        StateFile::Unreadable(source) => Err(RecordError::File { path: path.to_owned(), source }),
    }
}

/// Becomes another program: same pid, same children, and of all descriptors only these, as fd 3 and on (`LISTEN_FDS`). Returns only
/// where none of them can be executed; then this process is of no use any more and has to end.
///
/// `programs`: each with the value its variable `name` gets; the first that can be executed is. Needs one at least.
#[must_use]
pub fn replace_self(
    programs: &[(&Path, String)],
    name: &str,
    args: &[OsString],
    sockets: &[BorrowedFd<'_>],
) -> io::Error {
    process::replace_self(programs, name, args, sockets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DaemonConfig, DaemonManager, DaemonStatus};

    fn manager(pid_file: &Path) -> DaemonManager {
        DaemonManager::new(DaemonConfig {
            binary_path: "sleep".into(),
            args: vec!["1000".to_owned()],
            pid_file: pid_file.to_owned(),
            working_dir: None,
            env: std::collections::HashMap::new(),
            startup_timeout_secs: 30,
            shutdown_timeout_secs: 10,
        })
    }

    /// UPGR-04
    #[test]
    fn the_files_name_the_successor_and_no_manager_interferes_meanwhile() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("sleeper.pid");
        let manager = manager(&pid_file);
        let old = manager.start().unwrap();
        let mut record = OwnRecord::hold(&pid_file, old, Duration::ZERO).unwrap().unwrap();
        assert!(
            matches!(OwnRecord::hold(&pid_file, old, Duration::ZERO), Err(RecordError::Held { holder: Some(pid), .. })
                if pid == std::process::id())
        );
        let successor =
            Successor::start("sleeper", &Launch::new("sleep", ["1000"]), Vec::new(), Some(&record)).unwrap();
        record.name(&successor).unwrap();
        drop(record);
        assert_eq!(manager.status().unwrap(), DaemonStatus::Running(successor.pid()));
        assert_eq!(std::fs::read_to_string(&pid_file).unwrap(), format!("{}\n", successor.pid()));
        assert!(OwnRecord::hold(&pid_file, old, Duration::ZERO).unwrap().is_none());
        manager.stop().unwrap();
        assert_eq!(manager.status().unwrap(), DaemonStatus::Stopped);
        let old = Process::of_pid(old).unwrap().unwrap();
        assert!(!old.has_exited().unwrap(), "it is no part of its successor's run");
        old.kill_and_reap().unwrap();
    }

    #[test]
    fn one_that_nobody_manages_has_no_record_and_gets_no_lock_file() {
        let dir = tempfile::tempdir().unwrap();
        let pid_file = dir.path().join("sleeper.pid");
        assert!(OwnRecord::hold(&pid_file, std::process::id(), Duration::ZERO).unwrap().is_none());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
