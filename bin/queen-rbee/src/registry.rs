//! The one owner of the fleet's state: a task that takes messages in, saves what must be saved, and publishes.
//!
//! ```text
//!   heartbeat ─┐                        changed?
//!   order ─────┼─▶ Fleet (pure) ─▶ replan ─┬─▶ store.save ─▶ accept ─▶ watch<View> ─▶ long polls, verbs, gateway
//!   lease end ─┘                           └────────────────────────▶        (all wake at once, nothing polls)
//! ```
//!
//! What is not on disk is not published: a generation that a hive has seen never comes again with other content.

use std::sync::Arc;

use rbee_api::{ApiError, ErrorCode, Heartbeat, HeartbeatReply};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::desired::{DesiredState, Wishes};
use crate::events::Events;
use crate::fleet::{Fleet, Now, View};
use crate::once::current_key;
use crate::orders::{self, Order, Ordered};
use crate::routes::Outlook;
use crate::store::{Store, StoreError};

/// Messages that may wait for the owner.
const MESSAGES_WAITING_MAX: usize = 256;

/// A handle to the owner; clones share it.
#[derive(Debug, Clone)]
pub struct Registry {
    messages: mpsc::Sender<Message>,
    views: watch::Receiver<Arc<View>>,
    lease_ttl_ms: u64,
    left: CancellationToken,
}

/// The fleet before and after another configuration was put into force.
#[derive(Debug, Clone)]
pub struct Rewished {
    /// With the configuration before.
    pub before: View,
    /// With the new one.
    pub after: View,
}

enum Message {
    Heartbeat {
        hive: String,
        heartbeat: Box<Heartbeat>,
        done: oneshot::Sender<Result<(), ApiError>>,
    },
    Wishes {
        wishes: Arc<Wishes>,
        done: oneshot::Sender<Result<Rewished, ApiError>>,
    },
    Order {
        order: Order,
        key: Option<String>,
        done: oneshot::Sender<Result<Ordered, ApiError>>,
    },
    Mode {
        mode: Mode,
        done: oneshot::Sender<()>,
    },
    Follow {
        hive: String,
        heartbeat: Box<Heartbeat>,
    },
    /// Only whether there is an answer.
    Answer {
        done: oneshot::Sender<()>,
    },
}

/// Whether this is the queen, as upgrades have it.
enum Mode {
    /// She decides; with what is in the store, where that was somebody else's meanwhile.
    Decides(Option<Box<DesiredState>>),
    /// Somebody else may: nothing changes, and what comes waits.
    Frozen,
    /// Somebody else does.
    Left,
}

impl Registry {
    /// Starts the owner. It ends when the last handle is dropped.
    #[must_use]
    pub fn start(fleet: Fleet, store: Store, lease_ttl_ms: u64, events: Events) -> Self {
        let (messages, inbox) = mpsc::channel(MESSAGES_WAITING_MAX);
        let (publisher, views) = watch::channel(Arc::new(fleet.view(Now::read())));
        let owner = Owner { fleet, store, publisher, events, mode: Mode::Decides(None), waiting: Vec::new() };
        tokio::spawn(owner.run(inbox));
        Self { messages, views, lease_ttl_ms, left: CancellationToken::new() }
    }

    /// The present state.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        Arc::clone(&self.views.borrow())
    }

    /// The present state and every later one; a slow reader sees the newest only.
    #[must_use]
    pub fn views(&self) -> watch::Receiver<Arc<View>> {
        self.views.clone()
    }

    /// Takes in what a hive says.
    ///
    /// # Errors
    /// As [`Fleet::heartbeat`]; queen is about to end.
    pub async fn heartbeat(&self, hive: &str, heartbeat: Heartbeat) -> Result<HeartbeatReply, ApiError> {
        let (done, answer) = oneshot::channel();
        let heartbeat = Box::new(heartbeat);
        self.send(Message::Heartbeat { hive: hive.to_owned(), heartbeat, done }).await?;
        answer.await.map_err(|_| ended())??;
        let view = self.view();
        Ok(HeartbeatReply {
            fleet_id: view.desired.fleet_id.clone(),
            generation: view.desired.hives.get(hive).map_or(0, |record| record.generation),
            lease_ttl_ms: self.lease_ttl_ms,
            events_known: None,
        })
    }

    /// Puts an order into force; it is on disk when this returns. One whose request has a key it had before is not
    /// carried out again: what came of it then is what comes of it now.
    ///
    /// # Errors
    /// As [`orders::apply`]; the store cannot be written; queen is about to end.
    pub async fn order(&self, order: Order) -> Result<Ordered, ApiError> {
        let (done, answer) = oneshot::channel();
        self.send(Message::Order { order, key: current_key(), done }).await?;
        answer.await.map_err(|_| ended())?
    }

    /// Requests wait for a model: whoever serves it on demand is loaded. Whether somebody is, or is on the way; where
    /// nobody is, nothing brings it up but an order by hand. Costs nothing where it is loaded, and however often it is
    /// asked, it is loaded once.
    pub async fn want_loaded(&self, model: &str) -> bool {
        let outlook = |view: &View| view.routes.models.get(model).map(|route| route.outlook.clone());
        if outlook(&self.view()) == Some(Outlook::Unloaded)
            && let Err(error) = self.order(Order::LoadModel { model: model.to_owned() }).await
        {
            tracing::warn!(model, %error, "cannot be loaded");
        }
        outlook(&self.view()) == Some(Outlook::Coming)
    }

    /// Puts another configuration into force; it is on disk when this returns.
    ///
    /// # Errors
    /// The store cannot be written; queen is about to end. Then the one before holds.
    pub async fn reload(&self, wishes: Wishes) -> Result<Rewished, ApiError> {
        let (done, answer) = oneshot::channel();
        self.send(Message::Wishes { wishes: Arc::new(wishes), done }).await?;
        answer.await.map_err(|_| ended())?
    }

    /// From now on nothing changes and nothing is saved; heartbeats and orders wait.
    pub async fn freeze(&self) {
        self.switch(Mode::Frozen).await;
    }

    /// All goes on, and what waited is taken in. With `state`: from there, since somebody else had the store meanwhile.
    pub async fn thaw(&self, state: Option<DesiredState>) {
        self.switch(Mode::Decides(state.map(Box::new))).await;
    }

    /// Somebody else is queen: what waits is sent there. What is known stays, for answers that are still being written.
    pub async fn leave(&self) {
        self.switch(Mode::Left).await;
        self.left.cancel();
    }

    /// Resolves when somebody else is queen.
    pub async fn left(&self) {
        self.left.cancelled().await;
    }

    /// What the queen who came after has heard.
    pub async fn follow(&self, hive: String, heartbeat: Heartbeat) {
        // The owner ends with the process alone.
        let _ = self.send(Message::Follow { hive, heartbeat: Box::new(heartbeat) }).await;
    }

    /// Returns when the owner has taken this question up: one that hangs never does, and neither does one that is queen no longer.
    pub async fn answers(&self) {
        if self.left.is_cancelled() {
            std::future::pending::<()>().await;
        }
        let (done, answered) = oneshot::channel();
        if self.send(Message::Answer { done }).await.is_ok() {
            let _ = answered.await;
        }
    }

    async fn switch(&self, mode: Mode) {
        let (done, switched) = oneshot::channel();
        if self.send(Message::Mode { mode, done }).await.is_ok() {
            let _ = switched.await;
        }
    }

    async fn send(&self, message: Message) -> Result<(), ApiError> {
        self.messages.send(message).await.map_err(|_| ended())
    }
}

fn ended() -> ApiError {
    ApiError::new(ErrorCode::ShuttingDown, "queen is about to end")
}

struct Owner {
    fleet: Fleet,
    store: Store,
    publisher: watch::Sender<Arc<View>>,
    events: Events,
    mode: Mode,
    /// What came while somebody else may be queen.
    waiting: Vec<Message>,
}

impl Owner {
    async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        self.replan(Now::read()).await;
        loop {
            let deadline = self.fleet.deadline(Now::read()).filter(|_| matches!(self.mode, Mode::Decides(_)));
            let lease_end = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(message) => self.take(message).await,
                    None => return,
                },
                () = lease_end => self.replan(Now::read()).await,
            }
        }
    }

    async fn take(&mut self, message: Message) {
        let now = Now::read();
        match (message, &self.mode) {
            (Message::Mode { mode, done }, _) => {
                self.switch(mode).await;
                let _ = done.send(());
            }
            (Message::Answer { done }, _) => _ = done.send(()),
            (Message::Follow { hive, heartbeat }, Mode::Left) => {
                if self.fleet.heartbeat(now, &hive, *heartbeat).is_ok() {
                    self.publisher.send_replace(Arc::new(self.fleet.view(now)));
                }
            }
            (message, Mode::Decides(_)) => self.decide(now, message).await,
            (message, Mode::Frozen) if self.waiting.len() < MESSAGES_WAITING_MAX => self.waiting.push(message),
            // Whoever asked hears that this queen ends, and comes again.
            (message, Mode::Frozen | Mode::Left) => drop(message),
        }
    }

    async fn switch(&mut self, mut mode: Mode) {
        if let Mode::Decides(state) = &mut mode
            && let Some(state) = state.take()
        {
            self.fleet.accept(Arc::from(state));
        }
        let decides = matches!(mode, Mode::Decides(_));
        self.mode = mode;
        if matches!(self.mode, Mode::Frozen) {
            return;
        }
        if decides {
            self.replan(Now::read()).await;
        }
        for message in std::mem::take(&mut self.waiting) {
            if decides {
                self.decide(Now::read(), message).await;
            }
        }
    }

    async fn decide(&mut self, now: Now, message: Message) {
        match message {
            Message::Mode { .. } | Message::Follow { .. } | Message::Answer { .. } => {}
            Message::Heartbeat { hive, heartbeat, done } => {
                let taken = self.fleet.heartbeat(now, &hive, *heartbeat);
                if let Err(error) = &taken {
                    tracing::warn!(hive, reason = error.message, "refused a heartbeat");
                } else {
                    self.replan(now).await;
                }
                // Whoever asked may have gone away; what was said holds all the same.
                let _ = done.send(taken);
            }
            Message::Wishes { wishes, done } => {
                let taken = self.rewish(now, wishes).await;
                let _ = done.send(taken);
            }
            Message::Order { order, key, done } => {
                let ordered = self.obey(now, &order, key).await;
                let _ = done.send(ordered);
            }
        }
    }

    async fn obey(&mut self, now: Now, order: &Order, key: Option<String>) -> Result<Ordered, ApiError> {
        let view = self.fleet.view(now);
        let mut state = (**self.fleet.desired()).clone();
        if let Some(key) = &key
            && let Some(ordered) = state.upkeep.remembered.find(key, order)?
        {
            tracing::info!(key, "asked for again; it was ordered before");
            return Ok(ordered);
        }
        let mut ordered = orders::apply(order, &view, &mut state)?;
        let mut state = self.fleet.replanned(now, state);
        ordered.since = state.counter;
        if let Some(key) = key {
            state.upkeep.remembered.add(key, order, ordered.clone());
        }
        self.put(now, state).await.map_err(|error| {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "an order could not be saved and is not in force"
            );
            ApiError::new(ErrorCode::Internal, format!("the order could not be saved and is not in force: {error}"))
        })?;
        if ordered.changed {
            tracing::info!(?order, "ordered");
        }
        Ok(ordered)
    }

    async fn rewish(&mut self, now: Now, wishes: Arc<Wishes>) -> Result<Rewished, ApiError> {
        let before = self.fleet.view(now);
        let old = self.fleet.exchange_wishes(wishes);
        let state = self.fleet.replanned(now, (**self.fleet.desired()).clone());
        if let Err(error) = self.put(now, state).await {
            self.fleet.exchange_wishes(old);
            tracing::error!(error = &error as &dyn std::error::Error, "the configuration could not be put into force");
            let message = format!("the configuration could not be saved and is not in force: {error}");
            return Err(ApiError::new(ErrorCode::Internal, message));
        }
        Ok(Rewished { before, after: self.fleet.view(now) })
    }

    async fn replan(&mut self, now: Now) {
        let state = self.fleet.replanned(now, (**self.fleet.desired()).clone());
        if let Err(error) = self.put(now, state).await {
            // The next message or lease tries again; until then the plan before holds.
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the new plan could not be saved and is not in force"
            );
            self.publish(now);
        }
    }

    async fn put(&mut self, now: Now, state: DesiredState) -> Result<(), StoreError> {
        if state != **self.fleet.desired() {
            let state = Arc::new(state);
            self.store.save(Arc::clone(&state)).await?;
            log_moves(self.fleet.desired(), &state);
            self.fleet.accept(state);
        }
        self.publish(now);
        Ok(())
    }

    fn publish(&self, now: Now) {
        let view = Arc::new(self.fleet.view(now));
        let before = self.publisher.send_replace(Arc::clone(&view));
        self.events.record_fleet(&before, &view);
    }
}

fn log_moves(before: &DesiredState, after: &DesiredState) {
    for (id, hive) in &after.placement {
        match before.placement.get(id) {
            None => tracing::info!(replica = %id, hive, "placed"),
            Some(old) if old != hive => tracing::warn!(replica = %id, from = old, to = hive, "moved"),
            Some(_) => {}
        }
    }
    for hive in after.hives.keys().filter(|hive| !before.hives.contains_key(*hive)) {
        tracing::info!(hive, "a new hive");
    }
}
