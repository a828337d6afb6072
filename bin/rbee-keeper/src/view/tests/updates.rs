//! State × message → state and effects.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use rbee_api::{EventKind, FleetStatus, Phase};

use super::super::message::{Effect, Message};
use super::super::rows::rows;
use super::super::state::{ACTING_MAX, EVENTS_MAX, LOG_LINES_MAX, LOOKS_MAX, Link, Mode, Pane, Place, State};
use super::super::update::update;
use super::*;

fn names(state: &State) -> Vec<String> {
    rows(state).into_iter().map(|row| row.place.to_string()).collect()
}

/// What a key asks for with that row selected.
fn asked(place: Place, key: char) -> String {
    let mut state = seen(fleet());
    state.selected = Some(place);
    let effects = press(&mut state, KeyCode::Char(key));
    match (&effects[..], &state.mode, &state.notice) {
        ([Effect::Act(1, action)], Mode::Normal, None) => format!("{action}"),
        ([], Mode::Confirm(action), None) => format!("asks: {action}"),
        ([], Mode::Normal, Some(notice)) => format!("no: {}", notice.text),
        other => panic!("{other:?}"),
    }
}

/// KEEP-16
#[test]
fn keys_act_on_what_is_selected() {
    let smollm2 = || place("local", "smollm2", 0);
    for (place, key, expected) in [
        (smollm2(), 's', "start local:smollm2/0"),
        (smollm2(), 'x', "stop local:smollm2/0"),
        (smollm2(), 'r', "restart local:smollm2/0"),
        (smollm2(), 'R', "rolling restart of smollm2"),
        (smollm2(), 't', "retry local:smollm2/0"),
        (smollm2(), 'T', "retry local:smollm2/0 afresh"),
        (smollm2(), 'd', "drain local:smollm2/0"),
        (smollm2(), 'K', "asks: kill local:smollm2/0"),
        (smollm2(), '+', "scale smollm2 to 2"),
        (smollm2(), '-', "asks: scale smollm2 to 0"),
        (super::place("gpu-box", "big", 1), 'd', "undrain gpu-box:big/1"),
        (super::place("gpu-box", "big", 1), '-', "scale big to 1"),
        (Place::Hive("local".into()), 'd', "asks: drain hive local"),
        (Place::Hive("local".into()), 'r', "no: that is for workers; a hive can be drained (d)"),
        (Place::Queen, 'K', "no: that is for workers; `rbee-keeper queen --help` has queen's verbs"),
    ] {
        assert_eq!(asked(place.clone(), key), expected, "{key} on {place}");
    }
}

/// KEEP-16
#[test]
fn a_hive_that_stands_alone_cannot_be_drained() {
    let mut state = seen(FleetStatus { queen: None, ..fleet() });
    state.selected = Some(Place::Hive("local".into()));
    assert!(press(&mut state, KeyCode::Char('d')).is_empty());
    assert!(state.notice.unwrap().text.contains("stands alone"));
}

/// KEEP-16
#[test]
fn only_yes_kills() {
    for (answer, killed) in [('y', true), ('Y', true), ('n', false), ('K', false), ('q', false), (' ', false)] {
        let mut state = seen(fleet());
        state.selected = Some(place("local", "smollm2", 0));
        assert!(press(&mut state, KeyCode::Char('K')).is_empty());
        let effects = press(&mut state, KeyCode::Char(answer));
        assert_eq!(matches!(effects[..], [Effect::Act(..)]), killed, "{answer}");
        assert_eq!(state.mode, Mode::Normal);
        assert_eq!(state.notice.is_some(), !killed);
    }
}

/// KEEP-16
#[test]
fn what_is_pasted_presses_no_keys() {
    let mut state = seen(fleet());
    let now = state.now;
    assert!(update(&mut state, now, Message::Pasted("Ky".to_owned())).is_empty());
    assert_eq!((state.mode.clone(), state.notice.clone()), (Mode::Normal, None));
    press(&mut state, KeyCode::Char('/'));
    let _ = update(&mut state, now, Message::Pasted("sm\x1b\nol".to_owned()));
    assert_eq!(state.filter(Pane::Tree), "smol");
}

#[test]
fn replicas_asked_for_twice_are_two_more() {
    let mut state = seen(fleet());
    state.selected = Some(place("local", "smollm2", 0));
    assert!(format!("{:?}", press(&mut state, KeyCode::Char('+'))).contains("replicas: 2"));
    assert!(format!("{:?}", press(&mut state, KeyCode::Char('+'))).contains("replicas: 3"));
    let _ = update(&mut state, at(1), Message::Acted(1, Ok("scaled".into())));
    let _ = update(&mut state, at(1), Message::Acted(2, Ok("scaled".into())));
    assert!(state.acting.is_empty());
    assert!(format!("{:?}", press(&mut state, KeyCode::Char('+'))).contains("replicas: 2"), "counted anew");
}

#[test]
fn actions_under_way_are_few() {
    let mut state = seen(fleet());
    for _ in 0..ACTING_MAX {
        assert_eq!(press(&mut state, KeyCode::Char('r')).len(), 1);
    }
    assert!(press(&mut state, KeyCode::Char('r')).is_empty());
    assert!(state.notice.as_ref().unwrap().text.contains("under way"));
}

#[test]
fn how_an_action_went_is_said_for_a_while() {
    let mut state = seen(fleet());
    let _ = press(&mut state, KeyCode::Char('r'));
    let effects = update(&mut state, at(2), Message::Acted(1, Err("it is \x1b[31mfailed".into())));
    assert_eq!(effects, [Effect::Refresh]);
    assert_eq!(state.notice.as_ref().map(|notice| notice.text.as_str()), Some("it is failed"));
    let _ = update(&mut state, at(9), Message::Tick);
    assert!(state.notice.is_some());
    let _ = update(&mut state, at(10), Message::Tick);
    assert!(state.notice.is_none());
}

#[test]
fn a_worker_is_selected_first_and_moving_follows_its_log() {
    let mut state = seen(fleet());
    assert_eq!(state.selected, Some(place("local", "api", 0)));
    assert_eq!(press(&mut state, KeyCode::Down), [Effect::Follow(Some(place("local", "cache", 0)))]);
    assert_eq!(press(&mut state, KeyCode::Home), [Effect::Follow(Some(Place::Queen))]);
    assert_eq!(press(&mut state, KeyCode::Up), []);
    assert_eq!(press(&mut state, KeyCode::End), [Effect::Follow(Some(place("gpu-box", "big", 1)))]);
    assert_eq!(press(&mut state, KeyCode::Char('j')), []);
    state.page = 3;
    assert_eq!(press(&mut state, KeyCode::PageUp), [Effect::Follow(Some(place("local", "smollm2", 0)))]);
}

#[test]
fn what_goes_away_is_selected_no_more() {
    let mut state = seen(fleet());
    state.selected = Some(place("gpu-box", "big", 1));
    let mut smaller = fleet();
    smaller.hives[1].workers.pop();
    let effects = update(&mut state, at(1), Message::Status(Box::new(smaller), Vec::new()));
    assert_eq!(effects, [Effect::Follow(Some(place("local", "api", 0)))]);
    let nothing = FleetStatus { queen: None, hives: Vec::new() };
    assert_eq!(update(&mut state, at(2), Message::Status(Box::new(nothing), Vec::new())), [Effect::Follow(None)]);
    assert_eq!(press(&mut state, KeyCode::Down), []);
    assert_eq!(press(&mut state, KeyCode::Char('K')), []);
}

#[test]
fn a_filter_finds_by_name_phase_model_and_reason() {
    for (filter, expected) in [
        ("smol", vec!["queen", "hive local", "api/0", "cache/0", "smollm2/0", "hive gpu-box", "big/0", "big/1"]),
        ("smollm2/", vec!["queen", "hive local", "smollm2/0"]),
        ("FAILED", vec!["queen", "hive local", "api/0", "front/0"]),
        ("five times", vec!["queen", "hive local", "api/0"]),
        ("gpu-box", vec!["queen", "hive gpu-box", "big/0", "big/1"]),
        ("nothing at all", vec![]),
    ] {
        let mut fleet = fleet();
        fleet.hives[0].workers[2].reason = fleet.hives[0].workers[2].waits_for.clone();
        fleet.hives[0].workers[2].model = None;
        let mut state = seen(fleet);
        press(&mut state, KeyCode::Char('/'));
        type_in(&mut state, filter);
        press(&mut state, KeyCode::Enter);
        assert_eq!(
            (names(&state), state.mode.clone()),
            (expected.iter().map(ToString::to_string).collect(), Mode::Normal),
            "{filter}"
        );
        press(&mut state, KeyCode::Esc);
        assert_eq!(names(&state).len(), 9);
    }
}

#[test]
fn while_a_filter_is_typed_keys_are_letters() {
    let mut state = seen(fleet());
    press(&mut state, KeyCode::Char('/'));
    assert!(type_in(&mut state, "qKr?").iter().all(|effect| matches!(effect, Effect::Follow(_))));
    assert_eq!(state.filter(Pane::Tree), "qKr?");
    press(&mut state, KeyCode::Backspace);
    assert_eq!(state.filter(Pane::Tree), "qKr");
    press(&mut state, KeyCode::Esc);
    assert_eq!((state.filter(Pane::Tree), &state.mode), ("", &Mode::Normal));
    press(&mut state, KeyCode::Char('/'));
    type_in(&mut state, &"x".repeat(500));
    assert!(state.filter(Pane::Tree).len() < 500);
}

#[test]
fn q_and_control_c_leave_from_everywhere_that_is_no_text() {
    let control_c = || Message::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL));
    for keys in ["", "?", "/", "K"] {
        let mut state = seen(fleet());
        type_in(&mut state, keys);
        assert_eq!(update(&mut state, at(0), control_c()), [Effect::Quit], "{keys}");
    }
    for keys in ["", "?"] {
        let mut state = seen(fleet());
        type_in(&mut state, keys);
        assert_eq!(press(&mut state, KeyCode::Char('q')), [Effect::Quit], "{keys}");
    }
    let mut state = seen(fleet());
    let up = KeyEvent::new_with_kind(KeyCode::Char('q'), KeyModifiers::NONE, KeyEventKind::Release);
    assert_eq!(update(&mut state, at(0), Message::Key(up)), []);
}

/// KEEP-14
#[test]
fn queen_goes_and_comes_back() {
    let mut state = seen(fleet());
    let without = FleetStatus { queen: Some(queen(Phase::Stale)), hives: vec![fleet().hives.remove(0)] };
    let note = "queen's PID file names 101, but that process is gone".to_owned();
    let _ = update(&mut state, at(5), Message::Status(Box::new(without.clone()), vec![note.clone()]));
    assert_eq!(state.link, Link::Away { since: at(5), why: note.clone() });
    let other = &state.fleet.hives[1];
    assert_eq!((other.name.as_str(), other.phase, other.workers.len()), ("gpu-box", Phase::Unavailable, 2));
    let _ = update(&mut state, at(9), Message::NoStatus("no answer".into()));
    assert_eq!(state.link, Link::Away { since: at(5), why: "no answer".into() });
    assert_eq!(state.fleet.hives.len(), 2, "what was known stays");
    let _ = update(&mut state, at(12), Message::Status(Box::new(fleet()), Vec::new()));
    assert_eq!((state.link, state.fleet.hives[1].phase), (Link::Up, Phase::Running));
}

#[test]
fn an_event_has_the_tree_looked_at_and_all_has_a_bound() {
    let mut state = seen(fleet());
    for id in 0..2 * EVENTS_MAX as u64 {
        let event = event(id, EventKind::Failed, "api/0", "exit code 1");
        assert_eq!(update(&mut state, at(1), Message::Event(Box::new(event))), [Effect::Refresh]);
    }
    assert_eq!((state.events.len(), state.events[0].id), (EVENTS_MAX, EVENTS_MAX as u64));
    for second in 0..2 * LOOKS_MAX as i64 {
        let _ = update(&mut state, at(second), Message::Status(Box::new(fleet()), Vec::new()));
        let _ = update(&mut state, at(second), Message::Status(Box::new(fleet()), Vec::new()));
    }
    assert_eq!(state.looks[&place("local", "smollm2", 0)].len(), LOOKS_MAX);
    let api = place("local", "api", 0);
    for _ in 0..3 {
        let lines = (0..LOG_LINES_MAX).map(|n| n.to_string()).collect();
        let _ = update(&mut state, at(1), Message::LogLines(api.clone(), lines));
    }
    assert_eq!(state.log.lines.len(), LOG_LINES_MAX);
    let nothing = FleetStatus { queen: None, hives: Vec::new() };
    let _ = update(&mut state, at(9999), Message::Status(Box::new(nothing), Vec::new()));
    assert!(state.looks.is_empty());
}

#[test]
fn lines_of_another_log_are_not_shown() {
    let mut state = seen(fleet());
    let (api, cache) = (place("local", "api", 0), place("local", "cache", 0));
    let lines = |text: &str| vec![text.to_owned()];
    let _ = update(&mut state, at(1), Message::LogLines(api.clone(), lines("from api")));
    press(&mut state, KeyCode::Down);
    let _ = update(&mut state, at(1), Message::LogLines(api, lines("late")));
    let _ = update(&mut state, at(1), Message::LogBegins(cache.clone()));
    let _ = update(&mut state, at(1), Message::LogLines(cache, lines("from cache\x1b[2J")));
    assert_eq!(state.log.lines, ["from cache"]);
}

#[test]
fn who_reads_older_lines_keeps_them_before_the_eyes() {
    let mut state = seen(fleet());
    let api = place("local", "api", 0);
    let lines = |from: u32| (from..from + 50).map(|n| format!("line {n}")).collect::<Vec<_>>();
    let _ = update(&mut state, at(1), Message::LogLines(api.clone(), lines(0)));
    press(&mut state, KeyCode::Tab);
    assert_eq!(state.pane, Pane::Log);
    press(&mut state, KeyCode::Up);
    assert_eq!(state.log.up, 1);
    let _ = update(&mut state, at(1), Message::LogLines(api.clone(), lines(50)));
    assert_eq!(state.log.up, 51);
    press(&mut state, KeyCode::Home);
    assert_eq!(state.log.up, 99);
    press(&mut state, KeyCode::End);
    let _ = update(&mut state, at(1), Message::LogLines(api, lines(100)));
    assert_eq!(state.log.up, 0);
    press(&mut state, KeyCode::Char('/'));
    type_in(&mut state, "line 14");
    assert_eq!(state.log_lines().count(), 11);
}

#[test]
fn panes_go_round_and_escape_comes_back() {
    let mut state = seen(fleet());
    let mut panes = Vec::new();
    for _ in 0..3 {
        press(&mut state, KeyCode::Tab);
        panes.push(state.pane);
    }
    assert_eq!(panes, [Pane::Log, Pane::Events, Pane::Tree]);
    press(&mut state, KeyCode::BackTab);
    assert_eq!(state.pane, Pane::Events);
    press(&mut state, KeyCode::Esc);
    press(&mut state, KeyCode::Enter);
    assert_eq!((state.pane, state.zoomed), (Pane::Log, true));
    press(&mut state, KeyCode::Esc);
    assert_eq!((state.pane, state.zoomed), (Pane::Tree, false));
}
