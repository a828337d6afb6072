//! The hive's line to queen: it tells her how it is, and asks her what she wants. Queen never dials.
//!
//! ```text
//!   beat:  change or lease/3 ─▶ heartbeat ─ok─▶ wait ─▶ …      ask:  long poll ─newer─▶ pool ─▶ long poll ─▶ …
//!                                  └─fails─▶ back-off ─▶ …                  └─fails─▶ beat now, back-off ─▶ …
//! ```
//!
//! While queen is away nothing here matters to the workers: the pool goes on with the newest assignment.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use monitoring::{History, Sampler};
use rbee_api::client::ClientError;
use rbee_api::{Assignment, ControlClient, Heartbeat, HeartbeatReply};
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;

use crate::events::{Events, HEARTBEAT_EVENTS_MAX};
use crate::orders::StoredOrders;
use crate::pool::Pool;
use crate::upgrade::Upgrades;
use crate::view::View;

/// Changes closer together than this share one heartbeat.
const BEAT_INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Heartbeats until queen has said how long her lease is.
const BEAT_INTERVAL_DEFAULT: Duration = Duration::from_secs(5);
/// How long queen may take to answer that there is nothing new.
const POLL_WAIT_MS: u64 = 25_000;

/// What does not change while the hive runs.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Name in the fleet.
    pub name: String,
    /// Distinguishes two installations that claim one name.
    pub machine_id: String,
    /// Where our API is.
    pub url: String,
    /// Free-form labels.
    pub labels: BTreeMap<String, String>,
    /// When the process started.
    pub started: Instant,
}

/// Both directions; runs until it is dropped.
#[derive(Debug, Clone)]
pub struct Link {
    /// Queen.
    pub client: ControlClient,
    /// Who we are.
    pub identity: Identity,
    /// What is told and changed.
    pub pool: Pool,
    /// What is measured.
    pub sampler: Arc<Mutex<Sampler>>,
    /// What is kept of it.
    pub history: History,
    /// What happens here.
    pub events: Events,
    /// Upgrades of this hive.
    pub upgrades: Upgrades,
}

impl Link {
    /// Keeps the line up for as long as it is polled. `current` is the assignment worked on so far.
    pub async fn run(&self, current: Option<Assignment>) {
        let broken = Notify::new();
        if let Some(current) = &current {
            self.upgrades.wanted(current.upgrade_generation);
        }
        tokio::join!(self.beat(&broken), self.ask(current, &broken));
    }

    /// Tells queen once that we end, so that she need not wait for the lease to run out.
    pub async fn farewell(&self) {
        let heartbeat = Heartbeat { stopping: true, ..self.heartbeat(&self.pool.view().borrow().clone()) };
        let told = self.client.heartbeat(&self.identity.name, &heartbeat);
        // Best effort: her lease tells her in the end.
        let _ = tokio::time::timeout(Duration::from_secs(1), told).await;
    }

    async fn beat(&self, broken: &Notify) {
        let mut views = self.pool.view();
        let mut upgrades = self.upgrades.outcomes();
        let mut delays = backoff();
        let mut away = false;
        let mut published = self.events.journal().published();
        // How far queen knows what happened here, as she said herself.
        let mut known = None;
        loop {
            let view = views.borrow_and_update().clone();
            upgrades.mark_unchanged();
            published.mark_unchanged();
            let events = match known {
                Some(known) => self.events.unknown_to_queen(known).await,
                None => Vec::new(),
            };
            let sent = Instant::now();
            let heartbeat = Heartbeat { events, ..self.heartbeat(&view) };
            match self.client.heartbeat(&self.identity.name, &heartbeat).await {
                Ok(HeartbeatReply { lease_ttl_ms, events_known, .. }) => {
                    // She has only now said how far she knows, or there may be more than fits: the next word follows at once.
                    let has_more = heartbeat.events.len() == HEARTBEAT_EVENTS_MAX || known.is_none();
                    let has_more = has_more && events_known.is_some() && events_known != known;
                    known = events_known;
                    if std::mem::take(&mut away) {
                        tracing::info!(queen = self.client.base_url(), "queen is back");
                    }
                    delays = backoff();
                    let third = Duration::from_millis(lease_ttl_ms / 3);
                    let rest = if third.is_zero() { BEAT_INTERVAL_DEFAULT } else { third };
                    // An error means that the pool has ended; then the interval alone counts.
                    let changed = async {
                        if views.changed().await.is_err() {
                            std::future::pending().await
                        }
                    };
                    let early = async {
                        tokio::select! {
                            () = changed => {}
                            // A queen that was started again knows nothing of us until we speak.
                            () = broken.notified() => {}
                            Ok(()) = upgrades.changed() => {}
                            Ok(()) = published.changed(), if known.is_some() => {}
                        }
                    };
                    if !has_more {
                        let _ = tokio::time::timeout(rest, early).await;
                    }
                    sleep(BEAT_INTERVAL_MIN.saturating_sub(sent.elapsed())).await;
                }
                Err(error) => {
                    if !std::mem::replace(&mut away, true) {
                        self.complain(&error);
                    }
                    sleep(delays.next().unwrap_or(BACKOFF_MAX)).await;
                }
            }
        }
    }

    async fn ask(&self, mut current: Option<Assignment>, broken: &Notify) {
        let mut delays = backoff();
        loop {
            let known = current.as_ref().map(|current| (current.fleet_id.as_str(), current.generation));
            match self.client.assignment(&self.identity.name, known, POLL_WAIT_MS).await {
                Ok(None) => delays = backoff(),
                Ok(Some(next)) if next.supersedes(current.as_ref()) => {
                    tracing::info!(fleet = next.fleet_id, generation = next.generation, "new assignment");
                    delays = backoff();
                    current = Some(next.clone());
                    self.upgrades.wanted(next.upgrade_generation);
                    let orders = StoredOrders { assignment: next, configured: BTreeMap::new() };
                    if let Err(error) = self.pool.assign(orders).await {
                        let error = &error as &dyn std::error::Error;
                        tracing::error!(error, "without queen, a restart would go back to the assignment before");
                    }
                }
                Ok(Some(old)) => {
                    tracing::warn!(generation = old.generation, "an older assignment is ignored");
                    sleep(delays.next().unwrap_or(BACKOFF_MAX)).await;
                }
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "no assignment");
                    broken.notify_one();
                    sleep(delays.next().unwrap_or(BACKOFF_MAX)).await;
                }
            }
        }
    }

    fn complain(&self, error: &ClientError) {
        let queen = self.client.base_url();
        tracing::warn!(queen, error = error as &dyn std::error::Error, "queen is away; the workers go on");
    }

    fn heartbeat(&self, view: &View) -> Heartbeat {
        let mut workers = view.statuses();
        let mut sampler = self.sampler.lock().unwrap_or_else(PoisonError::into_inner);
        sampler.fill(&mut workers);
        let identity = &self.identity;
        Heartbeat {
            machine_id: identity.machine_id.clone(),
            url: identity.url.clone(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: identity.started.elapsed().as_secs_f64(),
            labels: identity.labels.clone(),
            cores: sampler.cores(),
            memory_bytes: sampler.memory_bytes(),
            fleet_id: view.fleet_id.clone(),
            generation: view.generation,
            stopping: view.stopping,
            usage: sampler.learned(std::process::id()).cloned(),
            history_trouble: self.history.trouble(),
            workers,
            upgrade: self.upgrades.last(),
            events: Vec::new(),
        }
    }
}

/// The line to queen, as long as it is held.
#[derive(Debug)]
pub(crate) struct Line {
    link: Link,
    _task: AbortOnDropHandle<()>,
}

impl Line {
    pub(crate) fn up(link: Link, current: Option<Assignment>) -> Self {
        let of_task = link.clone();
        let task = AbortOnDropHandle::new(tokio::spawn(async move { of_task.run(current).await }));
        Self { link, _task: task }
    }

    pub(crate) async fn down(self, say_so: bool) {
        let Self { link, _task: task } = self;
        drop(task);
        if say_so {
            link.farewell().await;
        }
    }
}

const BACKOFF_MAX: Duration = Duration::from_secs(2);

fn backoff() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(BACKOFF_MAX)
        .without_max_times()
        .with_jitter()
        .build()
}
