//! How a period went: made of what a tier has kept of events, samples and requests. Pure.
//!
//! ```text
//!   events ──┬─▶ away (when nobody looked) ─▶ timeline (availability) ─┐
//!            └─▶ falls (restarts, starts, health)                      ├─▶ Report ─▶ merge (queen: all hives)
//!   samples ───▶ usage (CPU, memory)                                   │
//!   requests ──▶ models (counts, latencies) ───────────────────────────┘
//! ```
//!
//! What is not known stays unknown: it is never taken for up, for down or for zero.

mod away;
mod falls;
mod histogram;
mod merge;
mod models;
#[cfg(test)]
mod support;
mod timeline;
mod usage;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use rbee_api::event::{Event, EventKind};
use rbee_api::report::{DaemonReport, Period, Report, Series};

pub use histogram::{AtomicHistogram, Histogram};
pub use merge::merge;
pub use models::{RequestCounts, RequestRow};
pub use usage::Point;

use away::Presence;
use falls::Falls;
use timeline::{Away, Timeline};
use usage::Fold;

/// A clock that goes back by less is taken to have been put right.
const CLOCK_JITTER_MS: i64 = 1_000;
/// Notes about lost events, and about clocks.
const GAP_NOTES_MAX: usize = 5;

/// Whose records they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tier {
    /// The orchestrator's; she samples the hive of her machine, too.
    Queen {
        /// Its name.
        local_hive: Option<String>,
    },
    /// Those of the hive with this name.
    Hive(String),
}

impl Tier {
    /// What it calls itself in its events and samples.
    #[must_use]
    pub const fn daemon(&self) -> &'static str {
        match self {
            Self::Queen { .. } => "queen",
            Self::Hive(_) => "hive",
        }
    }

    /// On which hive a daemon is that it samples, where that is not itself.
    fn hive_of(&self, daemon: &str) -> Option<&str> {
        match self {
            Self::Queen { local_hive } if daemon == "hive" => local_hive.as_deref(),
            Self::Queen { .. } | Self::Hive(_) => None,
        }
    }
}

/// The time a report is about: from (with) to (without).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    from_ms: i64,
    to_ms: i64,
}

/// A report that is being made.
#[derive(Debug)]
pub struct Draft {
    tier: Tier,
    period: Period,
    window: Window,
    interval_ms: i64,
    events: Vec<Event>,
    usages: HashMap<Arc<str>, Fold>,
    own_points: Vec<Point>,
    requests: Vec<RequestRow>,
    silent_ms: BTreeMap<String, i64>,
    notes: Vec<String>,
}

impl Draft {
    /// Of the period that ends now; the tier samples itself once an interval.
    #[must_use]
    pub fn new(tier: Tier, period: Period, now: Timestamp, interval: std::time::Duration) -> Self {
        let (length_ms, to_ms) = (millis(period.duration()), now.as_millisecond());
        Self {
            tier,
            period,
            window: Window { from_ms: to_ms - length_ms, to_ms },
            interval_ms: millis(interval),
            events: Vec::new(),
            usages: HashMap::new(),
            own_points: Vec::new(),
            requests: Vec::new(),
            silent_ms: BTreeMap::new(),
            notes: Vec::new(),
        }
    }

    /// Where the period begins.
    #[must_use]
    pub const fn from_ms(&self) -> i64 {
        self.window.from_ms
    }

    /// Where it ends.
    #[must_use]
    pub const fn to_ms(&self) -> i64 {
        self.window.to_ms
    }

    /// Events by id; those before the period tell how it began.
    pub fn events(&mut self, events: impl IntoIterator<Item = Event>) {
        // A hive of a fleet names itself in its events; one that stands alone does not.
        let own = match &self.tier {
            Tier::Hive(name) => Some(name.clone()),
            Tier::Queen { .. } => None,
        };
        let ours = |event: Event| match own.is_some() && event.hive == own {
            true => Event { hive: None, ..event },
            false => event,
        };
        self.events.extend(events.into_iter().map(ours));
    }

    /// A sample, or an hour of them, of a daemon.
    pub fn point(&mut self, daemon: &Arc<str>, point: &Point) {
        if **daemon == *self.tier.daemon() {
            self.own_points.push(*point);
        }
        match self.usages.get_mut(daemon) {
            Some(fold) => fold.add(point),
            None => {
                let mut fold = Fold::new(self.window, self.period);
                fold.add(point);
                self.usages.insert(Arc::clone(daemon), fold);
            }
        }
    }

    /// Requests for one model in a stretch of time.
    pub fn requests(&mut self, rows: impl IntoIterator<Item = RequestRow>) {
        self.requests.extend(rows);
    }

    /// A hive was last heard of then: what its daemons did since is not known.
    pub fn silent_since(&mut self, hive: &str, at: Timestamp) {
        self.silent_ms.insert(hive.to_owned(), at.as_millisecond());
    }

    /// Something to be known about the records.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    /// The report.
    #[must_use]
    pub fn finish(mut self) -> Report {
        self.events.sort_by_key(|event| event.id);
        let own = self.events.iter().filter(|event| event.hive.is_none());
        let mut presence = Presence::new(own, self.tier.daemon(), self.interval_ms);
        self.own_points.iter().for_each(|point| presence.saw(point));
        let away = presence.absences();
        let mut by_daemon: BTreeMap<(Option<&str>, &str), Vec<&Event>> = BTreeMap::new();
        let (gaps, events): (Vec<&Event>, Vec<&Event>) =
            self.events.iter().partition(|event| event.kind == EventKind::Gap);
        for event in events {
            by_daemon.entry((event.hive.as_deref(), &event.daemon)).or_default().push(event);
        }
        // Nobody knows whose events are lost: those of a hive, or of anybody.
        for ((hive, _), events) in &mut by_daemon {
            let of_it = gaps.iter().filter(|gap| gap.hive.is_none() || gap.hive.as_deref() == *hive);
            events.extend(of_it);
            events.sort_by_key(|event| event.id);
        }
        for daemon in self.usages.keys() {
            by_daemon.entry((self.tier.hive_of(daemon), daemon)).or_default();
        }
        let mut daemons: Vec<DaemonReport> = by_daemon
            .into_iter()
            .filter_map(|((hive, daemon), events)| self.daemon(hive, daemon, &events, &away))
            .collect();
        daemons.sort_by(|a, b| merge::order(a).cmp(&merge::order(b)));
        let mut notes = self.notes.clone();
        notes.extend(clock_notes(&self.events, self.window));
        notes.extend(gap_notes(&gaps, self.window));
        let moment = |ms| Timestamp::from_millisecond(ms).unwrap_or_default();
        Report {
            period: self.period,
            from: moment(self.window.from_ms),
            to: moment(self.window.to_ms),
            step_s: self.period.step().as_secs(),
            sources: vec![match &self.tier {
                Tier::Queen { .. } => "queen".to_owned(),
                Tier::Hive(name) => name.clone(),
            }],
            missing: Vec::new(),
            notes,
            daemons,
            models: models::fold(&self.requests, self.window, self.period),
        }
    }

    /// `None`: nothing is known of it in this period.
    fn daemon(&self, hive: Option<&str>, daemon: &str, events: &[&Event], away: &[Away]) -> Option<DaemonReport> {
        let is_own = hive.is_none() && daemon == self.tier.daemon();
        // What hives told of themselves is whole, whether or not queen was there.
        let away = if hive.is_none() || daemon == "hive" { away } else { &[] };
        let mut timeline = Timeline::of(events, if is_own { &[] } else { away });
        if is_own {
            timeline.was_gone(away);
        }
        if let Some(silent_ms) = hive.and_then(|hive| self.silent_ms.get(hive)) {
            timeline.silent_since(*silent_ms);
        }
        let availability = timeline.availability(self.window);
        let usage = self.usages.get(daemon).filter(|_| self.tier.hive_of(daemon) == hive);
        let (cpu_percent, memory_bytes) = (usage.and_then(Fold::cpu), usage.and_then(Fold::memory));
        let length_ms = (self.window.to_ms - self.window.from_ms).unsigned_abs();
        if availability.unknown_ms == length_ms && cpu_percent.is_none() && memory_bytes.is_none() {
            return None;
        }
        let Falls { restarts, slowest_starts, health_failures } = Falls::of(events, self.window);
        let (up, off) = timeline.by_step(self.window, self.period).into_iter().unzip();
        let (cpu, memory) = match usage {
            Some(usage) => usage.by_step(),
            None => (vec![None; self.window.steps(self.period)], vec![None; self.window.steps(self.period)]),
        };
        Some(DaemonReport {
            hive: hive.map(str::to_owned).or(match &self.tier {
                Tier::Hive(name) => Some(name.clone()),
                Tier::Queen { .. } => None,
            }),
            name: daemon.to_owned(),
            availability,
            restarts,
            cpu_percent,
            memory_bytes,
            slowest_starts,
            health_failures,
            series: Series { up, off, cpu_percent: cpu, memory_bytes: memory },
        })
    }
}

impl Window {
    fn contains(self, at: Timestamp) -> bool {
        (self.from_ms..self.to_ms).contains(&at.as_millisecond())
    }

    fn touches(self, from_ms: i64, to_ms: i64) -> bool {
        from_ms < self.to_ms && to_ms > self.from_ms
    }

    fn steps(self, period: Period) -> usize {
        let step_ms = millis(period.step());
        usize::try_from((self.to_ms - self.from_ms + step_ms - 1) / step_ms).unwrap_or_default()
    }

    /// The parts of a stretch inside of the window, by step: (step, (from, to)).
    fn split(self, period: Period, from_ms: i64, to_ms: i64) -> impl Iterator<Item = (usize, (i64, i64))> {
        let step_ms = millis(period.step());
        let first = (from_ms.max(self.from_ms) - self.from_ms) / step_ms;
        let last = (to_ms.min(self.to_ms) - 1 - self.from_ms) / step_ms;
        (first..=last).filter_map(move |index| {
            let step_from_ms = self.from_ms + index * step_ms;
            let part = (from_ms.max(step_from_ms), to_ms.min(step_from_ms + step_ms));
            Some((usize::try_from(index).ok()?, part)).filter(|(_, (from_ms, to_ms))| from_ms < to_ms)
        })
    }
}

fn millis(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// Clocks that were set back, as the events show it.
fn clock_notes(events: &[Event], window: Window) -> Vec<String> {
    let mut notes = Vec::new();
    let mut latest: BTreeMap<Option<&str>, i64> = BTreeMap::new();
    for event in events {
        let at_ms = event.at.as_millisecond();
        let latest_ms = latest.entry(event.hive.as_deref()).or_insert(at_ms);
        let back_ms = *latest_ms - at_ms;
        if back_ms > CLOCK_JITTER_MS && *latest_ms >= window.from_ms {
            let of = event.hive.as_deref().map(|hive| format!(" of hive {hive}")).unwrap_or_default();
            let by = SignedDuration::from_secs(back_ms / 1_000);
            notes.push(format!("the clock{of} was set back by {by:#} at {:.0}: times around it overlap", event.at));
        }
        *latest_ms = at_ms;
    }
    notes.split_off(notes.len().saturating_sub(GAP_NOTES_MAX))
}

/// Events that were lost; the newest ones.
fn gap_notes(gaps: &[&Event], window: Window) -> Vec<String> {
    let told = |gap: &&&Event| window.contains(gap.at);
    let note = |gap: &&Event| {
        let of = gap.hive.as_deref().map(|hive| format!(" of hive {hive}")).unwrap_or_default();
        let why = gap.cause.as_deref().unwrap_or("nobody knows how many");
        format!("events{of} before {:.0} are lost: {why}", gap.at)
    };
    gaps.iter().filter(told).rev().take(GAP_NOTES_MAX).map(note).collect()
}

#[cfg(test)]
mod tests;
