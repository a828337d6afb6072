//! What happened, in order: each event gets its id here, once, and is kept, followed and told to hooks from here.
//!
//! ```text
//!   record ──▶ waiting ──write──▶ file (History) ──▶ published: followers, hooks, the next tier
//!                 │  ▲                │ not writable
//!                 │  └────────────────┘ published all the same; written with the next event
//!                 └─ too many wait: the two oldest become one gap
//! ```
//!
//! Nobody who records waits for anything. An event is published after it was written: one that was seen is there after a
//! crash, as long as the file can be written at all.

mod follow;
mod http;
mod read;
mod ring;
mod seats;
#[cfg(test)]
mod tests;
mod units;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rbee_api::{Event, EventKind, Phase};
use tokio::sync::{Notify, watch};

pub use self::follow::Follower;
pub use self::http::{EventParams, answer_events};
use self::ring::Ring;
use self::seats::Seats;
use crate::store::events;
use crate::{Bounds, Counts, History};

/// So long who asks waits for what was recorded before to be written.
const WRITTEN_WAIT_MAX: Duration = Duration::from_secs(1);
/// How long what was recorded waits for more to be written with it.
const TOGETHER: Duration = Duration::from_millis(10);
/// So many events wait for no more.
const BATCH: usize = 128;

/// Something that happened, before it has an id.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// When.
    pub at: Timestamp,
    /// To which hive, or on which.
    pub hive: Option<String>,
    /// `queen`, `hive`, or `NAME/REPLICA`.
    pub daemon: String,
    /// What.
    pub kind: EventKind,
    /// In which run.
    pub incarnation: Option<u64>,
    /// Its phase after that.
    pub phase: Option<Phase>,
    /// Why.
    pub cause: Option<String>,
    /// What there is to say besides.
    pub detail: Option<serde_json::Value>,
}

impl NewEvent {
    /// Something that happens now.
    #[must_use]
    pub fn now(daemon: impl Into<String>, kind: EventKind) -> Self {
        let (hive, incarnation, phase, cause, detail) = (None, None, None, None, None);
        Self { at: Timestamp::now(), hive, daemon: daemon.into(), kind, incarnation, phase, cause, detail }
    }

    /// Into this phase.
    #[must_use]
    pub fn with_phase(self, phase: Phase) -> Self {
        Self { phase: Some(phase), ..self }
    }

    /// For this reason.
    #[must_use]
    pub fn with_cause(self, cause: impl Into<String>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }

    /// On this hive.
    #[must_use]
    pub fn on(self, hive: impl Into<String>) -> Self {
        Self { hive: Some(hive.into()), ..self }
    }

    /// With this besides.
    #[must_use]
    pub fn with_detail(self, detail: serde_json::Value) -> Self {
        Self { detail: Some(detail), ..self }
    }

    fn with_id(self, id: u64) -> Event {
        let Self { at, hive, daemon, kind, incarnation, phase, cause, detail } = self;
        Event { id, at, hive, daemon, kind, incarnation, phase, cause, detail }
    }
}

/// Hears each event of this tier's own once, when it is published; must not block.
pub type Listener = Box<dyn Fn(&Event) + Send + Sync>;

/// The journal of one tier; clones share it.
#[derive(Debug, Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

struct Shared {
    history: History,
    tier: &'static str,
    kept: Arc<Kept>,
    /// Something waits to be written.
    news: Notify,
    /// Somebody waits for what was recorded.
    hurry: Notify,
    /// Newest id that may be seen.
    published: watch::Sender<u64>,
    is_open: watch::Sender<bool>,
    seats: Seats,
    listener: OnceLock<Listener>,
    counts: Counts,
}

/// What the history's thread needs of it; not the history, which must not end there.
#[derive(Debug)]
struct Kept {
    events_max: u64,
    state: Mutex<State>,
    is_write_queued: AtomicBool,
    /// Newest id that was written, if what was written was kept.
    written: AtomicU64,
}

#[derive(Debug)]
struct State {
    ring: Ring,
    /// How far each hive's journal is here, and how far that is published.
    sources: BTreeMap<String, Source>,
    closed: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Source {
    taken: u64,
    published: u64,
}

impl Journal {
    /// The journal in `history`; `tier` is `queen` or `hive`. Needs a runtime, in which it goes on until it is closed.
    pub async fn open(history: History, tier: &'static str, bounds: &Bounds) -> Self {
        let known = history.read(events::known).await.unwrap_or_else(|error| {
            // Ids are times: those of a file that cannot be read now are smaller.
            tracing::warn!(error = &error as &dyn std::error::Error, "the journal begins without its past");
            events::Known::default()
        });
        let source = |last| Source { taken: last, published: last };
        let sources = known.sources.into_iter().map(|(hive, last)| (hive, source(last))).collect();
        let state = State { ring: Ring::new(known.last, bounds.writes_waiting_max), sources, closed: false };
        let kept = Kept {
            events_max: bounds.events_max.max(1),
            state: Mutex::new(state),
            is_write_queued: AtomicBool::new(false),
            written: AtomicU64::new(known.last),
        };
        let shared = Arc::new(Shared {
            history,
            tier,
            kept: Arc::new(kept),
            news: Notify::new(),
            hurry: Notify::new(),
            published: watch::Sender::new(known.last),
            is_open: watch::Sender::new(true),
            seats: Seats::new(),
            listener: OnceLock::new(),
            counts: Counts::default(),
        });
        let of_task = Arc::clone(&shared);
        tokio::spawn(async move { of_task.keep_up().await });
        Self { shared }
    }

    /// Has each new event of this tier's own told to `listener`, once. The first listener stays.
    pub fn listen(&self, listener: Listener) {
        if self.shared.listener.set(listener).is_err() {
            tracing::error!("the journal has a listener already");
        }
    }

    /// Takes an event in; returns at once.
    pub fn record(&self, event: NewEvent) {
        self.shared.counts.see(&event);
        let mut state = self.shared.state();
        if !state.closed {
            state.ring.push(None, |id| event.with_id(id));
            drop(state);
            self.shared.news.notify_one();
        }
    }

    /// Takes in what a hive tells of its own journal; what is known already is not taken again.
    pub fn take_in(&self, hive: &str, events: Vec<Event>) {
        let mut state = self.shared.state();
        if state.closed {
            return;
        }
        let State { ring, sources, .. } = &mut *state;
        let source = sources.entry(hive.to_owned()).or_default();
        for event in events {
            if event.id > source.taken {
                source.taken = event.id;
                ring.push(Some(event.id), |id| Event { id, hive: Some(hive.to_owned()), ..event });
            }
        }
        drop(state);
        self.shared.news.notify_one();
    }

    /// Somebody knows ids of this journal up to `known`. Where it never gave them, it is another one since and the clock was
    /// set back: from now on ids are greater, and it is said that events are missing.
    pub fn begin_after(&self, known: u64) {
        let is_new = self.shared.state().ring.begin_after(known);
        if is_new {
            let gap =
                NewEvent::now(self.shared.tier, EventKind::Gap).with_detail(serde_json::json!({ "up_to": known }));
            self.record(gap.with_cause("events are missing: the journal that had them is gone"));
        }
    }

    /// How far a hive's own journal is known here for good; 0: not at all.
    #[must_use]
    pub fn known_of(&self, hive: &str) -> u64 {
        self.shared.state().sources.get(hive).map_or(0, |source| source.published)
    }

    /// Waits until what was recorded before is published, but not for long.
    pub async fn settled(&self) {
        let newest = self.shared.state().ring.last();
        let mut published = self.shared.published.subscribe();
        self.shared.hurry.notify_one();
        // Late or closed: whoever asked goes on with what is known.
        let _ = tokio::time::timeout(WRITTEN_WAIT_MAX, published.wait_for(|published| *published >= newest)).await;
    }

    /// Newest id that may be seen, and every change of it.
    #[must_use]
    pub fn published(&self) -> watch::Receiver<u64> {
        self.shared.published.subscribe()
    }

    /// What was recorded, counted.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// The history it is kept in.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.shared.history
    }

    /// Publishes what waits, then takes nothing more; who follows hears the rest and ends. The history stays open.
    pub async fn close(&self) {
        self.settled().await;
        self.shared.state().closed = true;
        self.shared.news.notify_one();
        self.shared.hurry.notify_one();
        self.shared.is_open.send_replace(false);
    }

    /// Goes on after [`Journal::close`]: from what is in the file by now, where somebody else may have written meanwhile.
    pub async fn reopen(&self) {
        if *self.shared.is_open.borrow() {
            return;
        }
        let known = self.shared.history.read(events::known).await.unwrap_or_default();
        {
            let mut state = self.shared.state();
            state.ring = Ring::new(known.last.max(state.ring.last()), state.ring.waiting_max());
            for (hive, last) in known.sources {
                state.sources.insert(hive, Source { taken: last, published: last });
            }
            state.closed = false;
            self.shared.published.send_replace(state.ring.published());
        }
        self.shared.is_open.send_replace(true);
        let of_task = Arc::clone(&self.shared);
        tokio::spawn(async move { of_task.keep_up().await });
    }
}

impl Kept {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.kept.state()
    }

    async fn keep_up(self: Arc<Self>) {
        let mut before = 0;
        loop {
            self.news.notified().await;
            loop {
                // A burst is written together, so that it does not slow down what it tells of.
                if self.state().ring.waiting_count() < BATCH {
                    tokio::select! {
                        () = tokio::time::sleep(TOGETHER) => {}
                        () = self.hurry.notified() => {}
                    }
                }
                match self.write().await {
                    Some(written) if written > before => {
                        before = written;
                        self.publish(written, true);
                    }
                    // It cannot be written now, and is seen all the same.
                    _ => {
                        let newest = self.state().ring.last();
                        self.publish(newest, false);
                        break;
                    }
                }
                if self.state().ring.waiting_count() == 0 {
                    break;
                }
            }
            if self.state().closed {
                return;
            }
        }
    }

    /// Writes some of what waits; the newest id that is in the file now.
    async fn write(&self) -> Option<u64> {
        if !self.kept.is_write_queued.swap(true, Ordering::Relaxed) {
            let queued = QueuedWrite(Arc::clone(&self.kept));
            self.history.write(move |connection| {
                let kept = &queued.0;
                let waiting = kept.state().ring.waiting();
                events::write(connection, &waiting, kept.events_max)?;
                if let Some((last, _)) = waiting.last() {
                    kept.written.fetch_max(last.id, Ordering::Relaxed);
                }
                Ok(())
            });
        }
        let flushed = self.history.flush().await;
        flushed.is_ok().then(|| self.kept.written.load(Ordering::Relaxed))
    }

    /// Lets everything up to `newest` be seen, and tells the listener what of it is new and our own.
    fn publish(&self, newest: u64, is_written: bool) {
        let told = {
            let mut state = self.state();
            let State { ring, sources, .. } = &mut *state;
            let told = ring.publish(newest, is_written);
            for (event, id) in &told {
                if let (Some(id), Some(hive)) = (id, &event.hive) {
                    sources.entry(hive.clone()).or_default().published = *id;
                }
            }
            told
        };
        if let Some(listener) = self.listener.get() {
            told.iter().filter(|(_, id)| id.is_none()).for_each(|(event, _)| listener(event));
        }
        self.published.send_if_modified(|published| {
            let is_new = newest > *published;
            *published = newest.max(*published);
            is_new
        });
    }
}

/// There is one write in the history's queue at a time: it takes all that waits, however often it is tried.
struct QueuedWrite(Arc<Kept>);

impl Drop for QueuedWrite {
    fn drop(&mut self) {
        self.0.is_write_queued.store(false, Ordering::Relaxed);
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("tier", &self.tier).field("published", &*self.published.borrow()).finish()
    }
}
