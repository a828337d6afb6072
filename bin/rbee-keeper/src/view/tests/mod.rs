//! The view without a terminal: messages in, state and effects out, pictures of every size.

mod pictures;
mod updates;

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use jiff::Timestamp;
use rbee_api::{Event, EventKind, FleetStatus, Health, HiveStatus, Phase, QueenStatus, WorkerStatus};

use super::message::{Effect, Message};
use super::state::{Place, State};
use super::update::update;
use crate::ui::{sample_hive, sample_queen, sample_worker};

pub(super) fn at(second: i64) -> Timestamp {
    let noon: Timestamp = "2026-01-02T12:00:00Z".parse().unwrap();
    Timestamp::from_second(noon.as_second() + second).unwrap()
}

pub(super) fn queen(phase: Phase) -> QueenStatus {
    QueenStatus { phase, pid: (phase == Phase::Running).then_some(101), ..sample_queen() }
}

pub(super) fn hive(name: &str, workers: Vec<WorkerStatus>) -> HiveStatus {
    HiveStatus { name: name.to_owned(), workers, ..sample_hive() }
}

pub(super) fn worker(name: &str, replica: u32, phase: Phase) -> WorkerStatus {
    WorkerStatus { name: name.to_owned(), ..sample_worker(replica, phase) }
}

/// Queen, a hive with a worker of each sort, and one more hive.
pub(super) fn fleet() -> FleetStatus {
    let health = |healthy, queue_depth| {
        Some(Health { healthy, last_activity: None, queue_depth, error_count: 0, cache_hit_rate: Some(0.83) })
    };
    let mut sick = worker("cache", 0, Phase::Running);
    sick.health = health(false, 0);
    let mut busy = worker("smollm2", 0, Phase::Running);
    busy.health = health(true, 3);
    busy.restarts = 2;
    let mut failed = worker("api", 0, Phase::Failed);
    failed.reason = Some("exited with code 1 five times within an hour".to_owned());
    let mut waiting = worker("front", 0, Phase::Stopped);
    waiting.reason = None;
    waiting.waits_for = Some("api/0, which is failed".to_owned());
    FleetStatus {
        queen: Some(queen(Phase::Running)),
        hives: vec![
            hive("local", vec![failed, sick, waiting, busy]),
            hive("gpu-box", vec![worker("big", 0, Phase::Restarting), worker("big", 1, Phase::Draining)]),
        ],
    }
}

pub(super) fn event(id: u64, kind: EventKind, daemon: &str, cause: &str) -> Event {
    Event {
        id,
        at: at(i64::try_from(id).unwrap()),
        hive: Some("local".to_owned()),
        daemon: daemon.to_owned(),
        kind,
        incarnation: None,
        phase: None,
        cause: Some(cause.to_owned()),
        detail: None,
    }
}

pub(super) fn place(hive: &str, name: &str, replica: u32) -> Place {
    Place::Worker { hive: hive.to_owned(), name: name.to_owned(), replica }
}

/// A view that has seen that fleet.
pub(super) fn seen(fleet: FleetStatus) -> State {
    let mut state = State::new("http://127.0.0.1:7833", at(0));
    let effects = update(&mut state, at(0), Message::Status(Box::new(fleet), Vec::new()));
    assert!(matches!(effects[..], [Effect::Follow(Some(_))]), "{effects:?}");
    state
}

pub(super) fn press(state: &mut State, code: KeyCode) -> Vec<Effect> {
    let now = state.now;
    update(state, now, Message::Key(KeyEvent::new(code, KeyModifiers::NONE)))
}

/// Presses a key for each character.
pub(super) fn type_in(state: &mut State, text: &str) -> Vec<Effect> {
    text.chars().flat_map(|c| press(state, KeyCode::Char(c))).collect()
}
