//! The record of a daemon that nobody of ours started (a service manager, a shell): it writes itself down where a manager would
//! have, so that whoever asks there is told the truth.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use supervision::Stage;

use crate::files;
use crate::lock::{Lock, LockError};
use crate::manager::ManagedFiles;
use crate::pid_file::PidFile;
use crate::process::{Process, ProcessIdentity, StopSignal, new_run_id};
use crate::run::clear_dead_run;
use crate::state_file::{RunState, StateFile};
use crate::successor::{OwnRecord, RecordError};

/// How long a manager that is at work there may hold us up.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// This process, as it is to be written down once it is ready.
#[derive(Debug, Clone)]
pub struct SelfRecord {
    /// Where a manager would write it.
    pub pid_file: PathBuf,
    /// The daemon's name.
    pub unit: String,
    /// Where it listens.
    pub listen: Option<SocketAddr>,
    /// How long it may take to stop.
    pub stop_timeout: Duration,
}

impl SelfRecord {
    /// Writes it down, unless whoever started us has. For who holds the lock of its own life alone: no other may be the daemon.
    /// Blocks, 10 s at most while a manager is at work. Whether it was written.
    ///
    /// # Errors
    /// [`RecordError`]; [`RecordError::Held`] also where the record names another process that lives.
    pub fn write(&self) -> Result<bool, RecordError> {
        let files = ManagedFiles::beside(&self.pid_file);
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| RecordError::File { path, source }
        };
        let me = ourselves().map_err(failed(&files.run.state))?;
        if matches!(StateFile::read(&files.run.state), StateFile::State(state) if state.process == me) {
            return Ok(false);
        }
        if let Some(dir) = self.pid_file.parent() {
            files::make_private_dir(dir).map_err(failed(dir))?;
        }
        let _lock = Lock::acquire_within(&files.lock, LOCK_TIMEOUT).map_err(|error| match error {
            LockError::Held { holder, .. } => RecordError::Held { path: files.lock.clone(), holder },
            LockError::File(source) => RecordError::File { path: files.lock.clone(), source },
        })?;
        let (mut incarnation, mut restarts) = (1, 0);
        if let StateFile::State(last) = StateFile::read(&files.run.state) {
            if let Some(other) = Process::open(&last.process).map_err(failed(&files.run.state))? {
                return Err(RecordError::Held { path: files.run.state, holder: Some(other.pid()) });
            }
            incarnation = last.incarnation + 1;
            restarts = last.restarts + u32::from(last.stage != Stage::Ending);
            let tree = last.tree();
            clear_dead_run(&files.run, Some((&last, &tree))).map_err(failed(&files.run.state))?;
        }
        files::remove(&files.failed).map_err(failed(&files.failed))?;
        let state = RunState {
            version: RunState::VERSION,
            unit: self.unit.clone(),
            process: me,
            incarnation,
            restarts,
            stage: Stage::Ready,
            launch_fingerprint: 0,
            // No process bears this mark: of our own run nobody but we ourselves is known.
            run_id: new_run_id(&self.unit),
            cgroup: None,
            forking: false,
            limits_in_force: Vec::new(),
            started_at: jiff::Timestamp::now(),
            listen: self.listen,
            pid_file: self.pid_file.clone(),
            log_file: None,
            after_exit: None,
            payload: None,
            stop_signal: StopSignal::Term,
            stop_timeout_ms: u64::try_from(self.stop_timeout.as_millis()).unwrap_or(u64::MAX),
            self_kept: true,
        };
        // The state first: a state without a PID file is still a state, the reverse is a riddle.
        state.write(&files.run.state).map_err(failed(&files.run.state))?;
        PidFile::write(&self.pid_file, state.process.pid).map_err(failed(&self.pid_file))?;
        Ok(true)
    }

    /// Removes what was written down of this process by itself, as the last it does. What a manager wrote is that one's to remove,
    /// and so is what a manager that is at work here waits for.
    ///
    /// # Errors
    /// When the files cannot be removed.
    pub fn remove(pid_file: &Path) -> Result<(), RecordError> {
        let state = ManagedFiles::beside(pid_file).run.state;
        // Looked at before the lock too: where others keep the record there may be no lock file, and none is to be left.
        if !matches!(StateFile::read(&state), StateFile::State(state) if state.self_kept) {
            return Ok(());
        }
        match OwnRecord::hold(pid_file, std::process::id(), Duration::ZERO) {
            Ok(Some(record)) => record.remove_if_self_kept(),
            Ok(None) | Err(RecordError::Held { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn ourselves() -> std::io::Result<ProcessIdentity> {
    let me = Process::of_pid(std::process::id())?;
    me.map(|me| me.identity().clone()).ok_or_else(|| std::io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DaemonConfig, DaemonManager, DaemonStatus};

    fn record(dir: &Path) -> (SelfRecord, DaemonManager) {
        let pid_file = dir.join("self.pid");
        let listen = "127.0.0.1:9".parse().ok();
        let manager = DaemonManager::new(DaemonConfig {
            binary_path: "sleep".into(),
            args: vec!["1000".to_owned()],
            pid_file: pid_file.clone(),
            working_dir: None,
            env: std::collections::HashMap::new(),
            startup_timeout_secs: 30,
            shutdown_timeout_secs: 10,
        });
        (SelfRecord { pid_file, unit: "self".to_owned(), listen, stop_timeout: Duration::from_secs(1) }, manager)
    }

    fn files(dir: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(dir).unwrap();
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }

    /// SERV-20
    #[test]
    fn one_that_nobody_started_is_known_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (record, manager) = record(dir.path());
        assert!(record.write().unwrap());
        assert!(!record.write().unwrap(), "it stands there already");
        assert_eq!(manager.status().unwrap(), DaemonStatus::Running(std::process::id()));
        assert_eq!(manager.listen_address().unwrap(), record.listen);
        SelfRecord::remove(&record.pid_file).unwrap();
        assert_eq!(files(dir.path()), Vec::<String>::new());
    }

    /// SERV-20
    #[test]
    fn what_a_manager_wrote_stays_and_a_crash_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (record, manager) = record(dir.path());
        let pid = manager.start().unwrap();
        assert!(matches!(record.write(), Err(RecordError::Held { holder: Some(other), .. }) if other == pid));
        assert_eq!(manager.status().unwrap(), DaemonStatus::Running(pid));
        let process = Process::of_pid(pid).unwrap().unwrap();
        process.kill_and_reap().unwrap();
        assert!(manager.has_crashed().unwrap());
        assert!(record.write().unwrap());
        let StateFile::State(state) = StateFile::read(&dir.path().join("self.state")) else { panic!("no state") };
        assert_eq!((state.restarts, state.self_kept), (1, true));
        // Kept by others, such as a supervisor with a lock of another name: untouched.
        let others = crate::state_file::RunState { self_kept: false, ..(*state).clone() };
        others.write(&dir.path().join("self.state")).unwrap();
        std::fs::remove_file(dir.path().join("self.lock")).unwrap();
        SelfRecord::remove(&record.pid_file).unwrap();
        assert!(!dir.path().join("self.lock").exists() && dir.path().join("self.state").exists());
        state.write(&dir.path().join("self.state")).unwrap();
        SelfRecord::remove(&record.pid_file).unwrap();
        assert_eq!(manager.status().unwrap(), DaemonStatus::Stopped);
    }
}
