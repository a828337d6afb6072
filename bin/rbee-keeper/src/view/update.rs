//! What a message changes and what is to be done about it: pure, so that everything about the view can be tested.
//!
//! ```text
//!   keys ──────┐                     ┌──▶ draw
//!   status ────┼─▶ update ─▶ State ──┘
//!   events ────┤      └────▶ effects ─▶ shell: ask, follow a log, act, leave
//!   log lines ─┘
//! ```

use std::collections::HashSet;

use jiff::Timestamp;
use rbee_api::{Event, FleetStatus, Phase};

use super::keys;
use super::message::{Effect, Message};
use super::rows::{Row, rows};
use super::state::{EVENTS_MAX, LOG_LINES_MAX, LOOKS_MAX, Link, Look, Notice, Pane, Place, State, contains};
use crate::ui::harmless;

/// How long a notice stays, in seconds.
const NOTICE_S: i64 = 8;
/// Looks closer together than this tell nothing new, in milliseconds.
const LOOK_EVERY_MS: i128 = 900;

/// Takes a message in.
#[must_use]
pub(super) fn update(state: &mut State, now: Timestamp, message: Message) -> Vec<Effect> {
    state.now = now;
    if state.notice.as_ref().is_some_and(|notice| now.as_second() - notice.at.as_second() >= NOTICE_S) {
        state.notice = None;
    }
    match message {
        Message::Tick | Message::Resized => Vec::new(),
        Message::Key(key) => keys::press(state, key),
        Message::Pasted(text) => keys::paste(state, &text),
        Message::Status(fleet, notes) => {
            state.heard_at = now;
            take_status(state, *fleet, &notes);
            stay_on_a_row(state)
        }
        Message::NoStatus(why) => {
            state.heard_at = now;
            away(state, &why);
            Vec::new()
        }
        Message::Event(event) => take_event(state, *event),
        Message::NoEvents(why) => {
            state.events_trouble = Some(harmless(&why).into_owned());
            Vec::new()
        }
        Message::LogBegins(of) => {
            if state.log.of.as_ref() == Some(&of) {
                state.log.lines.clear();
                state.log.trouble = None;
            }
            Vec::new()
        }
        Message::LogLines(of, lines) => {
            if state.log.of.as_ref() == Some(&of) {
                take_lines(state, &lines);
            }
            Vec::new()
        }
        Message::NoLog(of, why) => {
            if state.log.of.as_ref() == Some(&of) {
                state.log.trouble = Some(harmless(&why).into_owned());
            }
            Vec::new()
        }
        Message::Acted(id, outcome) => {
            state.acting.retain(|acting| acting.id != id);
            notice(state, outcome);
            vec![Effect::Refresh]
        }
    }
}

/// Says how something went.
pub(super) fn notice(state: &mut State, outcome: Result<String, String>) {
    let (good, text) = match outcome {
        Ok(text) => (true, text),
        Err(text) => (false, text),
    };
    state.notice = Some(Notice { good, text: harmless(&text).into_owned(), at: state.now });
}

fn away(state: &mut State, why: &str) {
    let why = harmless(why).into_owned();
    state.link = match &state.link {
        Link::Away { since, .. } => Link::Away { since: *since, why },
        _ => Link::Away { since: state.now, why },
    };
}

fn take_status(state: &mut State, mut fleet: FleetStatus, notes: &[String]) {
    let down = fleet.queen.as_ref().filter(|queen| queen.phase != Phase::Running).map(|queen| queen.phase);
    match (down, notes.first()) {
        (None, None) => state.link = Link::Up,
        (Some(phase), None) => away(state, &format!("queen is {phase}")),
        (_, Some(note)) => away(state, note),
    }
    if down.is_some() {
        // What only queen can tell is shown as it was, and said to be so.
        for known in &state.fleet.hives {
            if !fleet.hives.iter().any(|hive| hive.name == known.name) {
                let mut hive = known.clone();
                hive.phase = Phase::Unavailable;
                hive.reason = Some("queen is away: as it was when she was last heard of".to_owned());
                fleet.hives.push(hive);
            }
        }
    }
    state.fleet = fleet;
    look(state);
}

/// Notes what each daemon uses.
fn look(state: &mut State) {
    let since = state.looked_at.map(|at| state.now.as_millisecond() - at.as_millisecond());
    if since.is_some_and(|ms| (0..LOOK_EVERY_MS).contains(&i128::from(ms))) {
        return;
    }
    state.looked_at = Some(state.now);
    let queen = state.fleet.queen.as_ref().and_then(|queen| queen.usage.as_ref()).map(|usage| (Place::Queen, usage));
    let hives =
        state.fleet.hives.iter().filter_map(|hive| Some((Place::Hive(hive.name.clone()), hive.usage.as_ref()?)));
    let tiers = queen.into_iter().chain(hives);
    let tiers = tiers.map(|(place, usage)| {
        (place, Look { cpu_percent: usage.figures.cpu_percent, rss_bytes: usage.figures.rss_bytes })
    });
    let workers = state.fleet.workers().map(|(hive, worker)| {
        let place = Place::Worker { hive: hive.to_owned(), name: worker.name.clone(), replica: worker.replica };
        (place, Look { cpu_percent: worker.cpu_percent, rss_bytes: worker.rss_bytes })
    });
    let mut there = HashSet::new();
    for (place, look) in tiers.chain(workers) {
        let looks = state.looks.entry(place.clone()).or_default();
        looks.push_back(look);
        if looks.len() > LOOKS_MAX {
            looks.pop_front();
        }
        there.insert(place);
    }
    state.looks.retain(|place, _| there.contains(place));
}

/// Sees to it that something is selected that is there.
pub(super) fn stay_on_a_row(state: &mut State) -> Vec<Effect> {
    let rows = rows(state);
    let is_there = |row: &Row| Some(&row.place) == state.selected.as_ref();
    if rows.iter().any(is_there) {
        return Vec::new();
    }
    let first_worker = rows.iter().find(|row| matches!(row.place, Place::Worker { .. }));
    let place = first_worker.or(rows.first()).map(|row| row.place.clone());
    match (place, state.selected.is_some()) {
        (None, false) => Vec::new(),
        (place, _) => select(state, place),
    }
}

/// Selects a row and has its log read.
pub(super) fn select(state: &mut State, place: Option<Place>) -> Vec<Effect> {
    if state.selected == place {
        return Vec::new();
    }
    state.selected.clone_from(&place);
    state.log = super::state::Log { of: place.clone(), ..Default::default() };
    vec![Effect::Follow(place)]
}

fn take_event(state: &mut State, event: Event) -> Vec<Effect> {
    state.events_trouble = None;
    state.events.push_back(event);
    if state.events.len() > EVENTS_MAX {
        state.events.pop_front();
    }
    if state.events_up > 0 {
        let filter = state.filter(Pane::Events).is_empty();
        // Who reads older events must not have them move away.
        state.events_up += usize::from(filter);
    }
    vec![Effect::Refresh]
}

fn take_lines(state: &mut State, lines: &[String]) {
    let filter = state.filter(Pane::Log).to_lowercase();
    state.log.trouble = None;
    for line in lines {
        let line = harmless(line).into_owned();
        if state.log.up > 0 && contains(&line, &filter) {
            state.log.up += 1;
        }
        state.log.lines.push_back(line);
    }
    let over = state.log.lines.len().saturating_sub(LOG_LINES_MAX);
    state.log.lines.drain(..over);
    state.log.up = state.log.up.min(state.log.lines.len().saturating_sub(1));
}
