//! The resident supervisor: a cloneable handle to the one task that owns all units.
//!
//! ```text
//!            open: lock, find live processes          apply: adopt the declared, stop the others
//!  ┌────────┐ ───────────────────────────▶ ┌─────────┐ ─────────────────────────────────▶ ┌─────────────┐
//!  │ Closed │                              │ Waiting │                                    │ Supervising │─┐ apply, start,
//!  └────────┘ ◀─────────────────────────── └────┬────┘                                    └──────┬──────┘◀┘ stop, …
//!      ▲  ▲     detach: processes stay          │ shutdown                        detach │       │ shutdown
//!      │  └─────────────────────────────────────┼────────────────────────────────────────┘       │
//!      │                                   ┌────▼─────┐                                          │
//!      └───────────────────────────────────┤ Stopping │◀─────────────────────────────────────────┘
//!           nothing is left                └──────────┘
//! ```
//!
//! A supervisor that is killed comes back by `open`: its processes have gone on meanwhile.

mod activity;
mod apply;
mod carry_out;
mod closing;
mod config;
mod entry;
mod error;
mod exits;
mod forking;
mod hearing;
mod history;
mod jobs;
mod message;
mod owner;
mod paths;
mod publish;
mod spec;
mod status;
mod takeover;
mod telling;
mod workers;

use std::sync::Arc;

use supervision::{Event, Excess, Incarnation, StopMode, UnitName};
use tokio::sync::{mpsc, oneshot, watch};

pub use config::{Bounds, SupervisorConfig};
pub use error::SupervisorError;
pub use history::{Fall, FallOutcome, History};
pub use spec::UnitSpec;
pub use status::{Snapshot, UnitStatus};
pub use telling::{Happened, Heard, UnitEvent, UnitEvents};

use crate::logs::{LogFollower, Logs};
use message::Request;
use owner::Owner;
use paths::Paths;
use takeover::Takeover;

/// Result of supervisor operations.
pub type Result<T, E = SupervisorError> = std::result::Result<T, E>;

/// A handle to a resident supervisor; clones share it. When the last one is dropped, the supervisor detaches.
#[derive(Debug, Clone)]
pub struct Supervisor {
    requests: mpsc::Sender<Request>,
    snapshot: watch::Receiver<Snapshot>,
}

/// For as long as there is a supervisor: what its units leave behind becomes its own, and no zombie.
async fn reap_orphans() {
    if let Err(error) = crate::process::adopt_and_reap().await {
        tracing::warn!(%error, "cannot take in what units leave behind; that is left to init");
    }
}

impl Supervisor {
    /// Takes the run directory's lock, finds the live processes an earlier supervisor left there and clears what is stale.
    ///
    /// Found processes wait for the first [`apply`](Self::apply): those it declares are adopted, the others are stopped.
    ///
    /// # Errors
    /// [`SupervisorError::Locked`] when another supervisor holds the directory, [`SupervisorError::File`] when its files are
    /// unusable.
    pub async fn open(config: SupervisorConfig) -> Result<Self> {
        let paths = Paths::new(&config);
        let (looked_at, bounds) = (paths.clone(), config.bounds.clone());
        let found = tokio::task::spawn_blocking(move || Takeover::begin(&looked_at, &bounds)).await;
        let found = found.map_err(|_| SupervisorError::Closed)??;
        let (requests, inbox) = mpsc::channel(config.bounds.queue_max.max(1));
        let (publisher, snapshot) = watch::channel(Snapshot::default());
        let owner = Owner::new(config, paths, found, inbox, publisher)?;
        tokio::spawn(async move {
            let reaping = tokio::spawn(reap_orphans());
            owner.run().await;
            reaping.abort();
        });
        Ok(Self { requests, snapshot })
    }

    /// Declares the whole set of units: new ones are added (stopped), missing ones are stopped and forgotten, changed ones are
    /// restarted if they run. Declaring the same set again changes nothing.
    ///
    /// # Errors
    /// [`SupervisorError::InvalidSpec`]: nothing was applied.
    pub async fn apply(&self, units: impl IntoIterator<Item: Into<Arc<UnitSpec>>>) -> Result<()> {
        let units = units.into_iter().map(Into::into).collect();
        self.ask(|reply| Request::Apply(units, reply)).await
    }

    /// Wants the unit up. Returns when that is accepted; see [`settled`](Self::settled). Starting what runs changes nothing.
    ///
    /// # Errors
    /// [`SupervisorError::UnknownUnit`].
    pub async fn start(&self, unit: &str) -> Result<()> {
        self.tell(unit, |unit| Event::Start { unit }).await
    }

    /// Wants the unit down. Returns when that is accepted. A second stop shortens the wait, never lengthens it.
    ///
    /// # Errors
    /// [`SupervisorError::UnknownUnit`].
    pub async fn stop(&self, unit: &str, mode: StopMode) -> Result<()> {
        self.tell(unit, |unit| Event::Stop { unit, mode }).await
    }

    /// SIGKILL to the unit's whole tree; the unit stays down.
    ///
    /// # Errors
    /// [`SupervisorError::UnknownUnit`].
    pub async fn kill(&self, unit: &str) -> Result<()> {
        self.stop(unit, StopMode::Now).await
    }

    /// Stops the unit if it runs and starts it as a new incarnation. Returns when that is accepted.
    ///
    /// # Errors
    /// [`SupervisorError::UnknownUnit`].
    pub async fn restart(&self, unit: &str) -> Result<()> {
        self.tell(unit, |unit| Event::Restart { unit }).await
    }

    /// Tries a failed or unavailable unit again now; `force` also forgets its counted restarts.
    ///
    /// # Errors
    /// [`SupervisorError::UnknownUnit`].
    pub async fn retry(&self, unit: &str, force: bool) -> Result<()> {
        self.tell(unit, |unit| Event::Retry { unit, force }).await
    }

    /// Waits until the unit is running, stopped, failed or unavailable: whatever was asked of it is done or has failed.
    ///
    /// # Errors
    /// [`SupervisorError::UnknownUnit`], also when it is forgotten meanwhile.
    pub async fn settled(&self, unit: &str) -> Result<UnitStatus> {
        self.ask(|reply| Request::Settled(UnitName::new(unit), reply)).await
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

    /// Everything that happens to any unit from now on, in order; [`Bounds::events_max`] of them may wait to be taken.
    ///
    /// # Errors
    /// [`SupervisorError::Closed`], [`SupervisorError::TooManyListeners`].
    pub async fn events(&self) -> Result<UnitEvents> {
        self.ask(Request::Listen).await
    }

    /// Tells that a run of a unit is above a threshold: `restarts` it by its policy, or only says so. Once each time the
    /// threshold is crossed. A run that is over changes nothing.
    ///
    /// # Errors
    /// [`SupervisorError::UnknownUnit`].
    pub async fn over_threshold(&self, unit: &str, incarnation: u64, excess: Excess, restarts: bool) -> Result<()> {
        let incarnation = Incarnation::new(incarnation);
        self.tell(unit, |unit| Event::OverThreshold { unit, incarnation, excess, restarts }).await
    }

    /// Why the unit is where it is: its last falls, each with its causes down to the root.
    ///
    /// # Errors
    /// [`SupervisorError::UnknownUnit`].
    pub async fn why(&self, unit: &str) -> Result<History> {
        self.ask(|reply| Request::Why(UnitName::new(unit), reply)).await
    }

    /// The unit's last `lines` log lines, oldest first, as written in its log file.
    ///
    /// # Errors
    /// [`SupervisorError::UnknownUnit`], [`SupervisorError::File`].
    pub async fn logs(&self, unit: &str, lines: usize) -> Result<Vec<String>> {
        self.logs_of(unit).await?.last(lines).await.map_err(|source| self.log_error(unit, source))
    }

    /// The unit's last `lines` log lines and then every new one, without a gap.
    ///
    /// # Errors
    /// [`SupervisorError::UnknownUnit`], [`SupervisorError::File`].
    pub async fn follow(&self, unit: &str, lines: usize) -> Result<LogFollower> {
        self.logs_of(unit).await?.follow(lines).await.map_err(|source| self.log_error(unit, source))
    }

    /// Returns when the task that owns all units has taken this question up: one that hangs never does.
    pub async fn answers(&self) {
        // One that has ended has nothing to hang on.
        let _ = self.ask(Request::Answer).await;
    }

    /// Stops every unit, removes every file and closes the supervisor. Returns when nothing is left. A second shutdown with
    /// [`StopMode::Now`] cuts the first one short.
    ///
    /// # Errors
    /// [`SupervisorError::Closed`] when it was closed before, [`SupervisorError::File`] when a file could not be removed.
    pub async fn shutdown(&self, mode: StopMode) -> Result<()> {
        self.ask(|reply| Request::Shutdown(mode, reply)).await
    }

    /// Closes the supervisor and leaves all processes and their state files to the next one.
    ///
    /// # Errors
    /// [`SupervisorError::Closed`] when it was closed before.
    pub async fn detach(&self) -> Result<()> {
        self.ask(Request::Detach).await
    }

    async fn tell(&self, unit: &str, event: impl FnOnce(UnitName) -> Event) -> Result<()> {
        let unit = UnitName::new(unit);
        let event = event(unit.clone());
        self.ask(|reply| Request::Tell(unit, event, reply)).await
    }

    async fn logs_of(&self, unit: &str) -> Result<Logs> {
        self.ask(|reply| Request::Logs(UnitName::new(unit), reply)).await
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<Result<T>>) -> Request) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| SupervisorError::Closed)?;
        answer.await.map_err(|_| SupervisorError::Closed)?
    }

    fn log_error(&self, unit: &str, source: std::io::Error) -> SupervisorError {
        let path = self.snapshot.borrow().get(unit).map(|status| status.log_file.clone()).unwrap_or_default();
        SupervisorError::File { doing: "read", path, source }
    }
}
