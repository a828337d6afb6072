//! What the rest of the hive may do with the pool.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use daemon_lifecycle::{Excess, History, LogFollower, StopMode, Supervisor, SupervisorError, UnitEvents};
use monitoring::Hooks;
use rbee_api::ReplicaId;
use rbee_runtime::config::PortRange;
use tokio::sync::{mpsc, oneshot, watch};

use crate::orders::StoredOrders;
use crate::state::StateError;
use crate::view::View;

/// A handle to the pool; clones share it.
#[derive(Debug, Clone)]
pub struct Pool {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) view: watch::Receiver<View>,
    pub(super) supervisor: Supervisor,
    pub(super) events: Arc<Mutex<Option<UnitEvents>>>,
    /// Know which commands each worker has for what happens to it.
    pub(super) hooks: Arc<OnceLock<Hooks>>,
}

#[derive(Debug)]
pub(super) enum Command {
    /// This is wanted from now on.
    Assign { orders: StoredOrders, reply: oneshot::Sender<Result<(), StateError>> },
    /// Choose ports from here from now on.
    Range(PortRange),
    /// Only whether there is an answer.
    Answer { reply: oneshot::Sender<()> },
    /// Tell the supervisor nothing any more: it is being ended.
    Stopping { reply: oneshot::Sender<()> },
}

impl Pool {
    /// Writes new desired state down and tells the supervisor what can be told of it. On return [`Pool::view`] shows
    /// it. Whoever calls this makes sure that it is newer.
    ///
    /// # Errors
    /// When it could not be written down; it is carried out all the same.
    pub async fn assign(&self, orders: StoredOrders) -> Result<(), StateError> {
        if let Some(hooks) = self.hooks.get() {
            // Before anything can happen to them.
            let workers = orders.assignment.workers.iter().filter(|worker| !worker.spec.on.is_empty());
            hooks.use_workers(workers.map(|worker| (worker.id.name.clone(), worker.spec.on.clone())).collect());
        }
        let (reply, done) = oneshot::channel();
        if self.commands.send(Command::Assign { orders, reply }).await.is_err() {
            // The task ends with the hive alone.
            return Ok(());
        }
        done.await.unwrap_or(Ok(()))
    }

    /// Has these know, from the next assignment on, which commands the workers have. The first ones stay.
    pub fn use_hooks(&self, hooks: Hooks) {
        // Once a pool.
        let _ = self.hooks.set(hooks);
    }

    /// Chooses ports from `range` from now on; replicas that run keep theirs.
    pub async fn use_ports(&self, range: PortRange) {
        // The task ends with the hive alone.
        let _ = self.commands.send(Command::Range(range)).await;
    }

    /// The workers, and every change of them.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<View> {
        self.view.clone()
    }

    /// The last log lines of a replica, oldest first; none of one that never ran.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub async fn logs(&self, id: &ReplicaId, lines: usize) -> Result<Vec<String>, SupervisorError> {
        match self.supervisor.logs(&id.unit_name(), lines).await {
            Err(SupervisorError::UnknownUnit { .. }) => Ok(Vec::new()),
            other => other,
        }
    }

    /// The last log lines of a replica, then new ones as they come.
    ///
    /// # Errors
    /// When it never ran, or its log cannot be read.
    pub async fn follow(&self, id: &ReplicaId, lines: usize) -> Result<LogFollower, SupervisorError> {
        self.supervisor.follow(&id.unit_name(), lines).await
    }

    /// Why a replica is where it is; nothing of one that the supervisor does not know.
    ///
    /// # Errors
    /// When the supervisor was closed before.
    pub async fn why(&self, id: &ReplicaId) -> Result<Option<History>, SupervisorError> {
        match self.supervisor.why(&id.unit_name()).await {
            Err(SupervisorError::UnknownUnit { .. }) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Everything that happens to the workers, from the takeover on; for the first who asks.
    #[must_use]
    pub fn take_events(&self) -> Option<UnitEvents> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Tells the supervisor that a run of a replica is above a threshold.
    ///
    /// # Errors
    /// When the replica is not known any more.
    pub async fn over_threshold(
        &self,
        id: &ReplicaId,
        incarnation: u64,
        excess: Excess,
        restarts: bool,
    ) -> Result<(), SupervisorError> {
        self.supervisor.over_threshold(&id.unit_name(), incarnation, excess, restarts).await
    }

    /// The longest that any worker may take to end.
    #[must_use]
    pub fn stop_timeout_max(&self) -> Duration {
        Duration::from_millis(self.view.borrow().stop_timeout_ms_max)
    }

    /// Stops every worker; returns when nothing of them is left. Called again with `now`, it hurries the first call.
    ///
    /// # Errors
    /// When the supervisor was closed before.
    pub async fn stop(&self, now: bool) -> Result<(), SupervisorError> {
        self.tell_no_more().await;
        self.supervisor.shutdown(if now { StopMode::Now } else { StopMode::Graceful }).await
    }

    /// Leaves every worker to the next hive.
    ///
    /// # Errors
    /// When the supervisor was closed before.
    pub async fn detach(&self) -> Result<(), SupervisorError> {
        self.tell_no_more().await;
        self.supervisor.detach().await
    }

    /// Returns when the pool's task and the supervisor's have taken this question up: one that hangs never does.
    pub async fn answers(&self) {
        let (reply, answered) = oneshot::channel();
        if self.commands.send(Command::Answer { reply }).await.is_ok() {
            // An error means that the task has ended.
            let _ = answered.await;
        }
        self.supervisor.answers().await;
    }

    async fn tell_no_more(&self) {
        let (reply, done) = oneshot::channel();
        if self.commands.send(Command::Stopping { reply }).await.is_ok() {
            // An error means that the task has ended, which is as good.
            let _ = done.await;
        }
    }
}
