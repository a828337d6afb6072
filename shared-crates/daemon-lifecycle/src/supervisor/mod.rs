//! The resident supervisor: a cloneable handle to the one task that owns all units.

mod config;
mod error;
mod spec;
mod status;

use crate::logs::LogFollower;
use supervision::StopMode;
use tokio::sync::watch;

pub use config::{Bounds, SupervisorConfig};
pub use error::SupervisorError;
pub use spec::UnitSpec;
pub use status::{Snapshot, UnitStatus};

/// Result of supervisor operations.
pub type Result<T, E = SupervisorError> = std::result::Result<T, E>;

/// A handle to a resident supervisor; clones share it.
#[derive(Debug, Clone)]
pub struct Supervisor {
    snapshot: watch::Receiver<Snapshot>,
}

#[expect(clippy::todo, clippy::unused_async, reason = "signatures first; the bodies are the next commit")]
impl Supervisor {
    /// Takes the run directory's lock, adopts the live processes an earlier supervisor left there and clears what is stale.
    ///
    /// Adopted processes wait for the first [`apply`](Self::apply): those it declares are taken over, the others are stopped.
    ///
    /// # Errors
    /// [`SupervisorError::Locked`] when another supervisor holds the directory, [`SupervisorError::File`] when its files are
    /// unusable.
    pub async fn open(_config: SupervisorConfig) -> Result<Self> {
        todo!()
    }

    /// Declares the whole set of units: new ones are added (stopped), missing ones are stopped and forgotten, changed ones are
    /// restarted if they run. Declaring the same set again changes nothing.
    ///
    /// # Errors
    /// [`SupervisorError::InvalidSpec`]: nothing was applied.
    pub async fn apply(&self, _units: Vec<UnitSpec>) -> Result<()> {
        todo!()
    }

    /// Wants the unit up. Returns when that is accepted; see [`settled`](Self::settled). Starting what runs changes nothing.
    ///
    /// # Errors
    /// [`SupervisorError::UnknownUnit`].
    pub async fn start(&self, _unit: &str) -> Result<()> {
        todo!()
    }

    /// Wants the unit down. Returns when that is accepted. A second stop shortens the wait, never lengthens it.
    ///
    /// # Errors
    /// [`SupervisorError::UnknownUnit`].
    pub async fn stop(&self, _unit: &str, _mode: StopMode) -> Result<()> {
        todo!()
    }

    /// SIGKILL to the unit's whole tree; the unit stays down.
    ///
    /// # Errors
    /// [`SupervisorError::UnknownUnit`].
    pub async fn kill(&self, _unit: &str) -> Result<()> {
        todo!()
    }

    /// Stops the unit if it runs and starts it as a new incarnation. Returns when that is accepted.
    ///
    /// # Errors
    /// [`SupervisorError::UnknownUnit`].
    pub async fn restart(&self, _unit: &str) -> Result<()> {
        todo!()
    }

    /// Tries a failed or unavailable unit again now; `force` also forgets its counted restarts.
    ///
    /// # Errors
    /// [`SupervisorError::UnknownUnit`].
    pub async fn retry(&self, _unit: &str, _force: bool) -> Result<()> {
        todo!()
    }

    /// Waits until the unit is running, stopped, failed or unavailable: whatever was asked of it is done or has failed.
    ///
    /// # Errors
    /// [`SupervisorError::UnknownUnit`], also when it is forgotten meanwhile.
    pub async fn settled(&self, _unit: &str) -> Result<UnitStatus> {
        todo!()
    }

    /// All units, as last observed.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.borrow().clone()
    }

    /// Every change of any unit; slow readers see the newest state only.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Snapshot> {
        self.snapshot.clone()
    }

    /// The unit's last `lines` log lines, oldest first, as written in its log file.
    ///
    /// # Errors
    /// [`SupervisorError::UnknownUnit`], [`SupervisorError::File`].
    pub async fn logs(&self, _unit: &str, _lines: usize) -> Result<Vec<String>> {
        todo!()
    }

    /// The unit's last `lines` log lines and then every new one, without a gap.
    ///
    /// # Errors
    /// [`SupervisorError::UnknownUnit`], [`SupervisorError::File`].
    pub async fn follow(&self, _unit: &str, _lines: usize) -> Result<LogFollower> {
        todo!()
    }

    /// Stops every unit, removes every file and closes the supervisor. Returns when nothing is left.
    ///
    /// # Errors
    /// [`SupervisorError::Closed`] when it was closed before.
    pub async fn shutdown(&self, _mode: StopMode) -> Result<()> {
        todo!()
    }

    /// Closes the supervisor and leaves all processes and their state files to the next one.
    ///
    /// # Errors
    /// [`SupervisorError::Closed`] when it was closed before.
    pub async fn detach(&self) -> Result<()> {
        todo!()
    }
}
