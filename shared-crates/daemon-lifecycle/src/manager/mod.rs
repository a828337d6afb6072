//! `DaemonManager`: one daemon, managed by a program that does not stay.
//!
//! ```text
//!                 start: lock, spawn, wait until ready
//!  ┌─────────┐ ─────────────────────────────────────────▶ ┌─────────┐
//!  │ Stopped │                                            │ Running │
//!  └─────────┘ ◀───────────────────────────────────────── └────┬────┘
//!    ▲  ▲  │              stop, kill: lock, signal, wait       │ ends by itself
//!    │  │  │ start fails                                       ▼
//!    │  │  └──────────▶ ┌────────┐                         ┌───────┐
//!    │  └───────────────┤ Failed │                         │ Stale │
//!    │     cleanup      └────────┘                         └───┬───┘
//!    └─────────────────────────────────────────────────────────┘
//!                  cleanup_stale, stop, or the next start
//! ```
//!
//! Nothing is kept in memory between two calls: the state file says who the daemon is, and the kernel whether it is still there.
//! Whoever changes something holds the lock file, so two managers (in two programs, too) never start two daemons.

mod config;
mod error;
mod failure;
mod observe;
mod readiness;
mod session;
mod witness;

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use supervision::{Event, Phase, Stage, StopMode};

pub(crate) use config::ManagedFiles;
pub use config::{DaemonConfig, DaemonStatus};
pub use error::DaemonError;
use error::Result;
use observe::Observed;
use session::Session;
pub use witness::Witness;

use crate::files;
use crate::lock::{Lock, LockError};
use crate::probe::Readiness;
use crate::process::{StopSignal, readable_until};

/// Starts, stops and watches one daemon without staying resident. Every method may be called by several processes at once.
///
/// ```
/// use std::collections::HashMap;
/// use daemon_lifecycle::{DaemonConfig, DaemonManager, DaemonStatus};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let dir = tempfile::tempdir()?;
/// let manager = DaemonManager::new(DaemonConfig {
///     binary_path: "sleep".into(),
///     args: vec!["1000".to_owned()],
///     pid_file: dir.path().join("sleeper.pid"),
///     working_dir: None,
///     env: HashMap::new(),
///     startup_timeout_secs: 30,
///     shutdown_timeout_secs: 10,
/// });
///
/// let pid = manager.start()?;
/// assert_eq!(manager.start()?, pid, "starting what runs changes nothing");
/// assert_eq!(manager.status()?, DaemonStatus::Running(pid));
/// manager.stop()?;
/// assert_eq!(manager.status()?, DaemonStatus::Stopped);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct DaemonManager {
    config: DaemonConfig,
    files: ManagedFiles,
    log_file: Option<PathBuf>,
    readiness: Readiness,
    listen: Option<SocketAddr>,
    clean_env: bool,
    stop_signal: StopSignal,
}

impl DaemonManager {
    /// A manager for this daemon. Nothing is touched yet.
    #[must_use]
    pub fn new(config: DaemonConfig) -> Self {
        Self {
            files: ManagedFiles::beside(&config.pid_file),
            config,
            log_file: None,
            readiness: Readiness::Started,
            listen: None,
            clean_env: false,
            stop_signal: StopSignal::Term,
        }
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

    /// The signal that asks the daemon to stop; SIGTERM without this.
    #[must_use]
    pub fn with_stop_signal(mut self, signal: StopSignal) -> Self {
        self.stop_signal = signal;
        self
    }

    /// Starts the daemon and waits until it is ready; returns its pid. If it runs already, that pid.
    ///
    /// # Errors
    /// [`DaemonError::StartFailed`] or [`DaemonError::Timeout`] with the last log lines; nothing of it is left running then.
    pub fn start(&self) -> Result<u32> {
        let lock = self.lock(self.startup_timeout() + self.shutdown_timeout())?;
        let mut session = Session::new(self);
        let first = match self.observe()? {
            Observed::Running { process, state } if state.stage == Stage::Ready => return Ok(process.pid()),
            Observed::Running { process, state } => session.take_over(process, state)?,
            Observed::Gone { state, .. } => {
                self.clear_dead(state.as_deref())?;
                Event::Start { unit: session.unit() }
            }
            Observed::Nothing => Event::Start { unit: session.unit() },
        };
        self.remove_file(&self.files.failed)?;
        match session.drive(first, None, |phase| phase != Phase::Starting && phase != Phase::Stopping)? {
            Phase::Running => session.pid().ok_or(DaemonError::ProcessNotFound { pid: 0 }),
            _ => {
                let error = session.start_error();
                // The answer below is what counts; the note is for who asks for the status later.
                let _ = files::replace(&self.files.failed, error.to_string().as_bytes(), 0o600);
                drop(session);
                self.let_go(lock)?;
                Err(error)
            }
        }
    }

    /// SIGTERM, wait, SIGKILL after the shutdown timeout; then removes the files. Stopping what does not run is fine.
    ///
    /// # Errors
    /// [`DaemonError::StopFailed`], [`DaemonError::PermissionDenied`], [`DaemonError::PidFileError`].
    pub fn stop(&self) -> Result<()> {
        self.end(StopMode::Graceful)
    }

    /// SIGKILL to the daemon and its process group at once; then removes the files.
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    pub fn kill(&self) -> Result<()> {
        // Before the lock: one who starts or stops it patiently holds that, and shall see it die.
        if let Observed::Running { process, .. } = self.observe()? {
            process.kill_group().map_err(|error| DaemonError::signal(process.pid(), error))?;
        }
        self.end(StopMode::Now)
    }

    /// What is true now: the recorded process is verified by its start time, not by its pid alone.
    ///
    /// # Errors
    /// [`DaemonError::PidFileError`] when the PID file is garbage or unreadable.
    pub fn status(&self) -> Result<DaemonStatus> {
        Ok(match self.observe()? {
            Observed::Running { process, .. } => DaemonStatus::Running(process.pid()),
            Observed::Gone { pid, .. } => DaemonStatus::Stale(pid),
            Observed::Nothing => match std::fs::read_to_string(&self.files.failed) {
                Ok(reason) => DaemonStatus::Failed(reason),
                Err(_) => DaemonStatus::Stopped,
            },
        })
    }

    /// Stops and starts; returns the new pid.
    ///
    /// # Errors
    /// As [`stop`](Self::stop) and [`start`](Self::start).
    pub fn restart(&self) -> Result<u32> {
        self.stop()?;
        self.start()
    }

    /// Waits until the daemon, started by anybody, is ready. A daemon that is not ready in time is left as it is.
    ///
    /// # Errors
    /// [`DaemonError::Timeout`]; [`DaemonError::ProcessNotFound`] or [`DaemonError::StartFailed`] when it is not running or ends
    /// meanwhile.
    pub fn wait_ready(&self, timeout_secs: u64) -> Result<()> {
        let until = Instant::now() + Duration::from_secs(timeout_secs);
        // Whoever starts it holds the lock until it is ready.
        let _lock = self.lock(Duration::from_secs(timeout_secs))?;
        let mut session = Session::new(self).without_start_timeout();
        let first = match self.observe()? {
            Observed::Running { state, .. } if state.stage == Stage::Ready => return Ok(()),
            Observed::Running { process, state } => session.take_over(process, state)?,
            Observed::Gone { pid, .. } => return Err(DaemonError::ProcessNotFound { pid }),
            Observed::Nothing => return Err(self.not_started()),
        };
        match session.drive(first, Some(until), |phase| phase != Phase::Starting)? {
            Phase::Running => Ok(()),
            Phase::Starting => Err(session.not_ready(timeout_secs)),
            _ => Err(session.start_error()),
        }
    }

    /// Waits until the daemon, told to stop by somebody else, is gone; then removes its files. It is sent no signal.
    ///
    /// # Errors
    /// [`DaemonError::Timeout`] when it still runs after that time.
    pub fn wait_stopped(&self, timeout_secs: u64) -> Result<()> {
        if let Observed::Running { process, .. } = self.observe()? {
            let until = Instant::now() + Duration::from_secs(timeout_secs);
            let failed = |source| {
                let reason = "waiting for it failed".to_owned();
                DaemonError::StopFailed { pid: process.pid(), reason, source: Some(source) }
            };
            if readable_until(&[process.as_fd()], Some(until)).map_err(failed)? != [true] {
                let waiting_for = format!("process {} did not end", process.pid());
                return Err(DaemonError::Timeout { waiting_for, after_secs: timeout_secs, log_tail: Vec::new() });
            }
        }
        self.cleanup_stale()
    }

    /// The running daemon's pid; `None` when it does not run.
    ///
    /// # Errors
    /// [`DaemonError::PidFileError`] when the PID file is garbage or unreadable.
    pub fn get_pid(&self) -> Result<Option<u32>> {
        Ok(match self.observe()? {
            Observed::Running { process, .. } => Some(process.pid()),
            Observed::Gone { .. } | Observed::Nothing => None,
        })
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
    pub fn listen_address(&self) -> Result<Option<SocketAddr>> {
        Ok(match self.observe()? {
            Observed::Running { state, .. } => state.listen,
            Observed::Gone { .. } | Observed::Nothing => None,
        })
    }

    /// When the running daemon was started.
    ///
    /// # Errors
    /// [`DaemonError::PidFileError`] when the state file is garbage or unreadable.
    pub fn started_at(&self) -> Result<Option<jiff::Timestamp>> {
        Ok(match self.observe()? {
            Observed::Running { state, .. } => Some(state.started_at),
            Observed::Gone { .. } | Observed::Nothing => None,
        })
    }

    /// Whether the daemon is gone although nobody told it to end: it was killed, or it crashed.
    ///
    /// # Errors
    /// [`DaemonError::PidFileError`] when the state file is garbage or unreadable.
    pub fn has_crashed(&self) -> Result<bool> {
        Ok(match self.observe()? {
            Observed::Gone { state, .. } => state.is_none_or(|state| state.stage != Stage::Ending),
            Observed::Running { .. } | Observed::Nothing => false,
        })
    }

    /// Removes the files of a daemon that is gone. A running daemon's files are left alone.
    ///
    /// # Errors
    /// [`DaemonError::PidFileError`] when they cannot be removed.
    pub fn cleanup_stale(&self) -> Result<()> {
        let lock = self.lock(self.startup_timeout() + self.shutdown_timeout())?;
        match self.observe()? {
            Observed::Running { .. } => return Ok(()),
            Observed::Gone { state, .. } => self.clear_dead(state.as_deref())?,
            Observed::Nothing => {}
        }
        self.remove_file(&self.files.failed)?;
        self.let_go(lock)
    }

    fn end(&self, mode: StopMode) -> Result<()> {
        let lock = self.lock(self.startup_timeout() + self.shutdown_timeout())?;
        match self.observe()? {
            Observed::Running { process, state } => {
                let mut session = Session::new(self);
                let pid = process.pid();
                let adopted = session.take_over(process, state)?;
                session.begin(adopted)?;
                let stop = Event::Stop { unit: session.unit(), mode };
                // A process stuck in the kernel ends at its own time; we do not wait for that for ever.
                let until = Instant::now() + self.shutdown_timeout() + session::KILLED_WAIT;
                if session.drive(stop, Some(until), |phase| phase == Phase::Stopped)? != Phase::Stopped {
                    let reason = "it survives SIGKILL".to_owned();
                    return Err(DaemonError::StopFailed { pid, reason, source: None });
                }
            }
            Observed::Gone { state, .. } => self.clear_dead(state.as_deref())?,
            Observed::Nothing => {}
        }
        self.remove_file(&self.files.failed)?;
        self.let_go(lock)
    }

    fn lock(&self, timeout: Duration) -> Result<Lock> {
        let path = &self.files.lock;
        if let Some(dir) = path.parent() {
            files::make_private_dir(dir).map_err(|error| DaemonError::file("create", dir, error))?;
        }
        Lock::acquire_within(path, timeout).map_err(|error| match error {
            LockError::Held { holder, .. } => DaemonError::Timeout {
                waiting_for: holder.map_or_else(
                    || format!("{} is held", path.display()),
                    |pid| format!("{} is held by process {pid}", path.display()),
                ),
                after_secs: timeout.as_secs(),
                log_tail: Vec::new(),
            },
            LockError::File(error) => DaemonError::file("lock", path, error),
        })
    }

    /// Lets go of the lock where no daemon is left for which the file should stand.
    fn let_go(&self, lock: Lock) -> Result<()> {
        lock.remove().map_err(|error| DaemonError::file("remove", &self.files.lock, error))
    }

    fn remove_file(&self, path: &std::path::Path) -> Result<()> {
        files::remove(path).map_err(|error| DaemonError::file("remove", path, error))
    }

    const fn startup_timeout(&self) -> Duration {
        Duration::from_secs(self.config.startup_timeout_secs)
    }

    const fn shutdown_timeout(&self) -> Duration {
        Duration::from_secs(self.config.shutdown_timeout_secs)
    }

    fn not_started(&self) -> DaemonError {
        DaemonError::StartFailed {
            binary: self.config.binary_path.clone(),
            reason: "nobody started it".to_owned(),
            unavailable: false,
            log_tail: Vec::new(),
            source: None,
        }
    }
}
