//! Where each new event of this hive passes, once: from the supervisor, the pool and the hive itself into the journal.
//!
//! ```text
//!   supervisor ─ UnitEvent ─┐
//!   pool ─ what it blocks ──┼─▶ Events ─▶ Journal ─▶ file, followers, hooks, queen (by heartbeat)
//!   hive itself ────────────┘
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

use daemon_lifecycle::{Heard, UnitEvents};
use monitoring::{Hooks, Journal, NewEvent};
use rbee_api::{Event, EventKind, Phase, ReplicaId, ShutdownRequest};
use rbee_runtime::config::{Config, HooksConfig};
use serde_json::json;
use tokio::task::JoinHandle;

use crate::pool::Pool;
use crate::upgrade::Upgrades;
use crate::view::View;

/// Events of one heartbeat.
pub(crate) const HEARTBEAT_EVENTS_MAX: usize = 256;

/// So long the last of them are waited for.
const LAST_EVENTS_TIMEOUT: Duration = Duration::from_secs(2);

/// So long a hook may hold up the hive's end.
pub(crate) const HOOKS_TIMEOUT: Duration = Duration::from_secs(5);

/// The hive's events; clones share the journal.
#[derive(Debug, Clone)]
pub struct Events {
    journal: Journal,
    hooks: Hooks,
    /// The hive's name, where it belongs to a fleet.
    hive: Option<String>,
}

impl Events {
    /// Events of a hive into `journal`; `hive` is its name, where it belongs to a fleet.
    #[must_use]
    pub fn new(journal: Journal, hive: Option<String>) -> Self {
        // In a fleet queen tells of the hive's own life, and runs what there is to run for it.
        let is_alone = hive.is_none();
        let hooks = Hooks::begin(&journal, &HooksConfig::default(), move |event| is_alone || !is_own_life(event));
        Self { journal, hooks, hive }
    }

    /// Runs the hooks that this configuration has for every daemon, from now on; those of a worker come with its orders.
    pub fn use_config(&self, config: &Config) {
        self.hooks.use_config(config.on.commands(), &config.hooks);
    }

    /// Where they are kept.
    #[must_use]
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Takes in something that happened here. Every event passes here.
    pub fn record(&self, event: NewEvent) {
        self.journal.record(NewEvent { hive: self.hive.clone(), ..event });
    }

    /// The hive's process began so long ago: before that, nobody looked.
    pub fn record_begin(&self, ago: Duration) {
        let begun = NewEvent::now("hive", EventKind::Starting).with_phase(Phase::Starting);
        let at = begun.at.checked_sub(ago).unwrap_or(begun.at);
        self.record(NewEvent { at, ..begun }.with_cause("the hive begins"));
    }

    /// The hive serves.
    pub fn record_start(&self, upgrades: &Upgrades) {
        if upgrades.last().is_some_and(|upgrade| upgrade.error.is_none()) {
            let detail = json!({ "version": env!("CARGO_PKG_VERSION") });
            let event = NewEvent::now("hive", EventKind::Upgraded).with_phase(Phase::Running).with_detail(detail);
            self.record(event.with_cause("the hive became the binary that is there now"));
        }
        self.record_own(EventKind::Running, "the hive serves");
    }

    /// The hive begins to end.
    pub fn record_end(&self, request: &ShutdownRequest, is_upgrade: bool) {
        let cause = match (is_upgrade, request.keep_children) {
            (true, _) => "the hive becomes another binary",
            (false, true) => "the hive ends, and leaves its workers to the next one",
            (false, false) => "the hive was asked to end",
        };
        self.record_own(EventKind::Stopping, cause);
    }

    fn record_own(&self, kind: EventKind, cause: &str) {
        let phase = if kind == EventKind::Running { Phase::Running } else { Phase::Stopping };
        self.record(NewEvent::now("hive", kind).with_phase(phase).with_cause(cause));
    }

    /// Takes in what there still is to tell, and ends; the supervisor is closed.
    pub async fn close(&self, following: JoinHandle<()>) {
        if tokio::time::timeout(LAST_EVENTS_TIMEOUT, following).await.is_err() {
            tracing::warn!("the last events are lost");
        }
        self.journal.settled().await;
        self.hooks.close(HOOKS_TIMEOUT).await;
        self.journal.close().await;
    }

    /// Takes in what happens to the workers, until the supervisor is closed and all was told.
    #[must_use]
    pub fn follow(&self, pool: &Pool) -> JoinHandle<()> {
        pool.use_hooks(self.hooks.clone());
        let (events, heard, views) = (self.clone(), pool.take_events(), pool.view());
        tokio::spawn(async move {
            let blocked = events.follow_blocked(views);
            if let Some(heard) = heard {
                tokio::select! {
                    biased;
                    () = events.follow_units(heard) => {}
                    never = blocked => match never {},
                }
            }
        })
    }

    async fn follow_units(&self, mut heard: UnitEvents) {
        while let Some(heard) = heard.next().await {
            self.record(match heard {
                Heard::Event(event) => NewEvent::of_unit(event),
                Heard::Lost { count } => NewEvent::lost("hive", count),
            });
        }
    }

    /// What the hive itself holds back: the supervisor knows nothing of it.
    async fn follow_blocked(&self, mut views: tokio::sync::watch::Receiver<View>) -> std::convert::Infallible {
        let mut known = BTreeMap::new();
        loop {
            let new = blocked(&views.borrow_and_update());
            for (id, (phase, reason)) in new.iter().filter(|(id, now)| known.get(*id) != Some(*now)) {
                let event = NewEvent::now(id.to_string(), EventKind::of_phase(*phase)).with_phase(*phase);
                self.record(event.with_cause(reason.as_str()));
            }
            known = new;
            if views.changed().await.is_err() {
                // The pool has ended; the supervisor may still have something to say.
                return std::future::pending().await;
            }
        }
    }

    /// What queen does not know yet, where she knows everything up to `known`. That the hive itself runs she says herself.
    pub async fn unknown_to_queen(&self, mut known: u64) -> Vec<Event> {
        self.journal.begin_after(known);
        loop {
            let mut events = self.journal.copy_after(known, HEARTBEAT_EVENTS_MAX).await;
            let Some(last) = events.last().map(|event| event.id) else { return events };
            events.retain(|event| !is_own_life(event));
            if !events.is_empty() {
                return events;
            }
            known = last;
        }
    }
}

fn is_own_life(event: &Event) -> bool {
    event.daemon == "hive"
        && matches!(event.kind, EventKind::Starting | EventKind::Running | EventKind::Stopping | EventKind::Stopped)
}

/// Workers that cannot be run as ordered, each with its phase and why.
fn blocked(view: &View) -> BTreeMap<ReplicaId, (Phase, String)> {
    let is_down = |phase| matches!(phase, Phase::Failed | Phase::Unavailable);
    let blocked = view.workers.iter().filter(|worker| worker.blocked && is_down(worker.status.phase));
    blocked
        .map(|worker| (worker.id(), (worker.status.phase, worker.status.reason.clone().unwrap_or_default())))
        .collect()
}
