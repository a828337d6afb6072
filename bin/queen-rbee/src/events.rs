//! Where each new event of queen's passes, once: what she decides and sees of hives, and what hives tell of themselves.
//!
//! ```text
//!   registry: leases, drains ─┐
//!   her hive's supervisor ────┼─▶ Events ─▶ Journal ─▶ file, followers
//!   queen herself ────────────┘               ▲  └───▶ hooks (her own events alone)
//!   heartbeats: a hive's own journal ─────────┘
//! ```

mod fleet;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use daemon_lifecycle::{Heard, UnitEvents};
use monitoring::{Hooks, Journal, NewEvent};
use rbee_api::{Event, EventKind, Phase};
use rbee_runtime::config::Config;
use tokio::task::JoinHandle;

use crate::fleet::View;

/// So long the last events of the hive are waited for.
const LAST_EVENTS_TIMEOUT: Duration = Duration::from_secs(2);
/// So long a hook may hold up queen's end.
const HOOKS_TIMEOUT: Duration = Duration::from_secs(5);

/// Queen's events; clones share the journal.
#[derive(Debug, Clone)]
pub struct Events {
    journal: Journal,
    hooks: Hooks,
    /// Takes in what happens to the hive of this machine, for as long as its supervisor lives.
    following: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl Events {
    /// Events into `journal`, with the hooks of this configuration.
    #[must_use]
    pub fn new(journal: Journal, config: &Config) -> Self {
        let events =
            Self { hooks: Hooks::begin(&journal, &config.hooks, |_| true), journal, following: Arc::default() };
        events.use_config(config);
        events
    }

    /// Runs the hooks that this configuration has, from now on; those of workers for what queen does with them, too. The rest
    /// happens to them at their hives.
    pub fn use_config(&self, config: &Config) {
        self.hooks.use_config(config.on.commands(), &config.hooks);
        let workers = config.worker.iter().map(|(name, worker)| (name.clone(), worker.on.commands()));
        self.hooks.use_workers(workers.collect());
    }

    /// Where they are kept.
    #[must_use]
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Takes in something that happened. Every event but those that hives tell passes here.
    pub fn record(&self, event: NewEvent) {
        self.journal.record(event);
    }

    /// What became of the fleet from one moment to the next.
    pub fn record_fleet(&self, before: &View, after: &View) {
        fleet::between(before, after).into_iter().for_each(|event| self.record(event));
    }

    /// Takes in what a hive tells of itself; how far that is known for good.
    pub async fn take_in(&self, hive: &str, told: Vec<Event>) -> u64 {
        if !told.is_empty() {
            self.journal.take_in(hive, told);
            self.journal.settled().await;
        }
        self.journal.known_of(hive)
    }

    /// Takes in what happens to the hive of this machine, until its supervisor is closed.
    pub fn follow_hive(&self, mut heard: UnitEvents) {
        let events = self.clone();
        let following = tokio::spawn(async move {
            while let Some(heard) = heard.next().await {
                events.record(match heard {
                    Heard::Event(event) => {
                        let hive = event.unit.clone();
                        NewEvent { daemon: "hive".to_owned(), ..NewEvent::of_unit(event) }.on(hive)
                    }
                    Heard::Lost { count } => NewEvent::lost("hive", count),
                });
            }
        });
        *self.following.lock().unwrap_or_else(PoisonError::into_inner) = Some(following);
    }

    /// Queen's process began so long ago: before that, nobody looked.
    pub fn record_begin(&self, ago: Duration) {
        let begun = NewEvent::now("queen", EventKind::Starting).with_phase(Phase::Starting);
        let at = begun.at.checked_sub(ago).unwrap_or(begun.at);
        self.record(NewEvent { at, ..begun }.with_cause("queen begins"));
    }

    /// Queen serves.
    pub fn record_start(&self, is_upgrade: bool, restarts: u32) {
        if is_upgrade {
            let detail = serde_json::json!({ "version": env!("CARGO_PKG_VERSION") });
            let event = NewEvent::now("queen", EventKind::Upgraded).with_phase(Phase::Running).with_detail(detail);
            self.record(event.with_cause("another process took queen's place"));
        }
        let cause = match restarts {
            0 => "queen serves".to_owned(),
            restarts => format!("queen serves; she was started again {restarts} times after she ended without a word"),
        };
        self.record(NewEvent::now("queen", EventKind::Running).with_phase(Phase::Running).with_cause(cause));
    }

    /// Queen begins to end.
    pub fn record_end(&self, keeps_hives: bool) {
        let cause =
            if keeps_hives { "queen ends, and leaves the hives to the next one" } else { "queen was asked to end" };
        self.record(NewEvent::now("queen", EventKind::Stopping).with_phase(Phase::Stopping).with_cause(cause));
    }

    /// Lets another queen have the journal: what there is to tell is told, and who follows asks her.
    pub async fn leave(&self) {
        let following = self.following.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(following) = following
            && tokio::time::timeout(LAST_EVENTS_TIMEOUT, following).await.is_err()
        {
            tracing::warn!("the last events of the hive are lost");
        }
        self.journal.close().await;
    }

    /// Goes on after [`Events::leave`], since there is no other queen.
    pub async fn take_back(&self) {
        self.journal.reopen().await;
    }

    /// Takes in what there still is to tell, and ends.
    pub async fn close(&self) {
        self.leave().await;
        self.hooks.close(HOOKS_TIMEOUT).await;
    }
}
