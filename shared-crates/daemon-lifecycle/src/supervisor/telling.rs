//! What happened, told to whoever listens: every change and every happening, in order, each with its time and a sentence.
//!
//! Nobody is waited for: a listener that is too slow loses events, and hears how many. Without one, nothing is made at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use supervision::{Change, Happening, Phase, UnitName, What};
use tokio::sync::mpsc;

use super::owner::Owner;
use super::{Result, SupervisorError};

/// More listeners than anybody has use for.
const LISTENERS_MAX: usize = 16;

/// Something that happened to a unit.
#[derive(Debug, Clone, PartialEq)]
pub struct UnitEvent {
    /// When.
    pub at: Timestamp,
    /// To which unit.
    pub unit: String,
    /// In which run of it; the last one where none is live, 0 before the first.
    pub incarnation: u64,
    /// What.
    pub what: Happened,
}

/// What happened to a unit.
#[derive(Debug, Clone, PartialEq)]
pub enum Happened {
    /// Its phase changed. Each change begins where the one before it ended.
    Changed {
        /// Phase before.
        from: Phase,
        /// Phase now.
        to: Phase,
        /// Why.
        cause: String,
        /// Automatic restarts within the policy's window.
        restarts: u32,
        /// How long it took from its start until it was ready; where it got ready.
        start_time: Option<Duration>,
    },
    /// It was started by an earlier supervisor and goes on under this one.
    Adopted,
    /// It has to end because what it depends on does not run any more.
    Cascade {
        /// Which unit.
        dependency: String,
        /// The whole story, down to the root.
        cause: String,
        /// The units of that story; the first is this one, the last is where it began.
        chain: Vec<String>,
    },
    /// A health probe failed, or it gave no sign of life for too long.
    HealthFailed {
        /// What was found.
        cause: String,
        /// Failures in a row, this one counted.
        in_a_row: u32,
        /// So many restart it; 0: none does.
        limit: u32,
    },
    /// It uses more of something than a threshold allows.
    Threshold {
        /// How much of what.
        cause: String,
        /// Whether it is restarted for that.
        restarts: bool,
    },
}

/// What a listener hears.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// Something happened to a unit.
    Event(UnitEvent),
    /// So many events came here that were not taken in time.
    Lost {
        /// How many.
        count: u64,
    },
}

/// Everything that happens to the units of a supervisor, from the moment on at which it was asked for.
#[derive(Debug)]
pub struct UnitEvents {
    queue: mpsc::Receiver<Option<UnitEvent>>,
    lost: Arc<AtomicU64>,
}

impl UnitEvents {
    /// The next; `None` once the supervisor is closed and all was heard.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            if let Some(event) = self.queue.recv().await? {
                return Some(Heard::Event(event));
            }
            let count = self.lost.swap(0, Ordering::Relaxed);
            if count > 0 {
                return Some(Heard::Lost { count });
            }
        }
    }
}

/// One who listens. `None` in the queue says that here events were lost.
#[derive(Debug)]
struct Listener {
    queue: mpsc::Sender<Option<UnitEvent>>,
    lost: Arc<AtomicU64>,
    is_gap_told: bool,
}

impl Listener {
    fn tell(&mut self, event: &UnitEvent) {
        // The last place is for the gap.
        if self.queue.capacity() > 1 {
            self.is_gap_told = false;
            // It may have gone in this moment.
            let _ = self.queue.try_send(Some(event.clone()));
            return;
        }
        self.lost.fetch_add(1, Ordering::Relaxed);
        if !std::mem::replace(&mut self.is_gap_told, true) {
            let _ = self.queue.try_send(None);
        }
    }
}

/// All who listen.
#[derive(Debug, Default)]
pub(super) struct Listeners(Vec<Listener>);

impl Listeners {
    /// One more, who hears what comes from now on.
    pub(super) fn add(&mut self, events_max: usize) -> Result<UnitEvents> {
        self.0.retain(|listener| !listener.queue.is_closed());
        if self.0.len() >= LISTENERS_MAX {
            return Err(SupervisorError::TooManyListeners { max: LISTENERS_MAX });
        }
        let (queue, events) = mpsc::channel(events_max.max(1) + 1);
        let lost = Arc::new(AtomicU64::new(0));
        self.0.push(Listener { queue, lost: Arc::clone(&lost), is_gap_told: false });
        Ok(UnitEvents { queue: events, lost })
    }

    /// Whether anybody is there to hear; who is gone is forgotten.
    fn are_there(&mut self) -> bool {
        self.0.retain(|listener| !listener.queue.is_closed());
        !self.0.is_empty()
    }

    fn tell(&mut self, event: &UnitEvent) {
        self.0.iter_mut().for_each(|listener| listener.tell(event));
    }
}

impl Owner {
    pub(super) fn tell_change(&mut self, change: &Change) {
        if !self.listeners.are_there() {
            return;
        }
        let Change { unit, incarnation, from, to, cause } = change;
        let at = Timestamp::now();
        let live = self.units.get(unit).and_then(|entry| entry.live.as_ref());
        let took = live.filter(|live| *to == Phase::Running && !live.is_adopted).map(|live| live.state.started_at);
        let what = Happened::Changed {
            from: *from,
            to: *to,
            cause: cause.to_string(),
            restarts: self.core.unit(unit).map_or(0, supervision::Unit::restarts),
            start_time: took.and_then(|since| Duration::try_from(at.duration_since(since)).ok()),
        };
        let (unit, incarnation) = (unit.as_str().to_owned(), incarnation.get());
        self.listeners.tell(&UnitEvent { at, unit, incarnation, what });
    }

    pub(super) fn tell_happening(&mut self, happening: &Happening) {
        if !self.listeners.are_there() {
            return;
        }
        let Happening { unit, incarnation, what } = happening;
        let what = match what {
            What::Adopted => Happened::Adopted,
            What::Cascade { dependency } => self.cascade(unit, dependency),
            What::HealthFailed { cause, in_a_row, limit } => {
                Happened::HealthFailed { cause: cause.to_string(), in_a_row: *in_a_row, limit: *limit }
            }
            What::Threshold { cause, restarts } => {
                Happened::Threshold { cause: cause.to_string(), restarts: *restarts }
            }
        };
        let (unit, incarnation) = (unit.as_str().to_owned(), incarnation.get());
        self.listeners.tell(&UnitEvent { at: Timestamp::now(), unit, incarnation, what });
    }

    /// The newest fall of a unit that went down with another.
    fn cascade(&self, unit: &UnitName, dependency: &UnitName) -> Happened {
        let newest = self.core.why(unit).and_then(|why| why.episodes.into_iter().next());
        let (cause, chain) = match newest {
            Some(newest) => {
                let chain = newest.link.chain().map(|link| link.unit.as_str().to_owned());
                (newest.link.to_string(), chain.collect())
            }
            None => (format!("its dependency `{dependency}` is not running"), Vec::new()),
        };
        Happened::Cascade { dependency: dependency.as_str().to_owned(), cause, chain }
    }
}
