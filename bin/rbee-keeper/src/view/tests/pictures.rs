//! What is drawn, at every size.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::style::Modifier;
use ratatui::text::Span;

use super::super::draw::{Theme, draw};
use super::super::message::Message;
use super::super::state::Pane;
use super::super::update::update;
use super::*;

/// The picture as text, trailing blanks cut.
fn picture(state: &State, columns: u16, lines: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, lines)).unwrap();
    terminal.draw(|frame| draw(frame, state, Theme::new(false))).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y: u16| {
        let (mut text, mut x) = (String::new(), 0);
        while x < columns {
            let symbol = buffer[(x, y)].symbol();
            text.push_str(symbol);
            // A wide character covers the cell behind it.
            x += u16::try_from(Span::raw(symbol).width()).unwrap().max(1);
        }
        assert!(Span::raw(text.as_str()).width() <= usize::from(columns), "{text:?} in {columns}");
        text.trim_end().to_owned()
    };
    (0..lines).map(line).collect::<Vec<_>>().join("\n")
}

fn busy() -> State {
    let mut state = seen(fleet());
    press(&mut state, KeyCode::Down);
    for second in 1..60 {
        let mut fleet = fleet();
        for worker in &mut fleet.hives[0].workers {
            worker.cpu_percent = (second * 7 % 100) as f64;
        }
        let _ = update(&mut state, at(second), Message::Status(Box::new(fleet), Vec::new()));
    }
    let cache = place("local", "cache", 0);
    let lines = [
        "2026-01-02T12:00:01.000Z out listening on 127.0.0.1:7855",
        "2026-01-02T12:00:02.000Z err \x1b[31mcannot\x1b[0m reach 漢字 🐝\x07",
        "no line of a hive",
    ];
    let lines = lines.map(str::to_owned).to_vec();
    let _ = update(&mut state, at(60), Message::LogLines(cache, lines));
    let events = [
        (1, EventKind::Starting, "api/0", "somebody asked for it"),
        (2, EventKind::Failed, "api/0", "exited with code 1 five times within an hour"),
        (3, EventKind::HealthFailed, "cache/0", "its probe got no answer"),
    ];
    for (id, kind, daemon, cause) in events {
        let _ = update(&mut state, at(60), Message::Event(Box::new(event(id, kind, daemon, cause))));
    }
    state
}

/// KEEP-14
#[test]
fn eighty_columns() {
    insta::assert_snapshot!(picture(&busy(), 80, 24));
}

/// KEEP-14
#[test]
fn two_hundred_columns() {
    insta::assert_snapshot!(picture(&busy(), 200, 40));
}

/// KEEP-14
#[test]
fn twenty_columns() {
    insta::assert_snapshot!(picture(&busy(), 20, 10));
}

/// KEEP-14, KEEP-17
#[test]
fn every_size_and_state_is_drawn_within_its_columns() {
    let mut states = vec![State::new("http://127.0.0.1:7833", at(0)), busy()];
    for keys in ["?", "/", "/漢字漢字漢字", "K", "r"] {
        let mut state = busy();
        type_in(&mut state, keys);
        states.push(state);
    }
    let mut wide = fleet();
    for hive in &mut wide.hives {
        hive.name = "漢字の蜂の巣🐝".repeat(4);
        for worker in &mut hive.workers {
            worker.name = "👩‍👩‍👧é漢".repeat(20);
            worker.reason = Some("\x1b[2J\x1b[1;1Hgone\u{202e}\r\nnew\tline 漢字 🐝".repeat(9));
        }
    }
    states.push(seen(wide));
    let mut many = fleet();
    many.hives[0].workers = (0..300).map(|n| worker("many", n, Phase::Running)).collect();
    let mut many = seen(many);
    press(&mut many, KeyCode::End);
    states.push(many);
    let mut away = busy();
    let _ = update(&mut away, at(70), Message::NoStatus("no answer from http://127.0.0.1:7833".into()));
    states.push(away);
    for state in &mut states {
        for (pane, zoomed) in [(Pane::Tree, false), (Pane::Log, false), (Pane::Events, true)] {
            (state.pane, state.zoomed) = (pane, zoomed);
            for columns in [0, 1, 2, 3, 5, 8, 13, 20, 39, 40, 59, 60, 80, 109, 110, 130] {
                for lines in [0, 1, 2, 3, 5, 6, 13, 14, 17, 20, 24, 50] {
                    let text = picture(state, columns, lines);
                    assert!(!text.contains(|c: char| c != '\n' && c.is_control()), "{columns}×{lines}: {text:?}");
                    assert!(!text.contains('\u{202e}'));
                }
            }
        }
    }
}

/// KEEP-14
#[test]
fn six_lines_of_twenty_columns_show_the_selected_worker_and_what_is_wrong() {
    let text = picture(&busy(), 20, 6);
    assert!(text.contains("! ├ cache/0") || text.contains("cache/0"), "{text}");
    let mut state = busy();
    let _ = update(&mut state, at(70), Message::NoStatus("no answer".into()));
    assert!(picture(&state, 20, 6).starts_with("✗ away 0s: no answe…"), "{}", picture(&state, 20, 6));
}

/// KEEP-15
#[test]
fn without_colours_nothing_has_one_and_the_selection_is_seen() {
    let mut terminal = Terminal::new(TestBackend::new(120, 40)).unwrap();
    terminal.draw(|frame| draw(frame, &busy(), Theme::new(false))).unwrap();
    let cells = terminal.backend().buffer().content();
    assert!(
        cells.iter().all(|cell| cell.fg == ratatui::style::Color::Reset && cell.bg == ratatui::style::Color::Reset)
    );
    assert!(cells.iter().any(|cell| cell.modifier.contains(Modifier::REVERSED)));
}

/// KEEP-14
#[test]
fn a_silence_is_said() {
    let mut state = busy();
    let heard = state.heard_at.as_second() - at(0).as_second();
    let _ = update(&mut state, at(heard + 5), Message::Tick);
    assert!(!picture(&state, 80, 24).contains("no news"));
    let _ = update(&mut state, at(heard + 6), Message::Tick);
    assert!(picture(&state, 80, 24).starts_with("no news for 6s  ● 2 running"), "{}", picture(&state, 80, 24));
    assert!(picture(&state, 20, 6).starts_with("no news for 6s"), "{}", picture(&state, 20, 6));
}
