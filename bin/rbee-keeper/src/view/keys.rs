//! What each key does, by mode.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::action::{self, Action};
use super::message::Effect;
use super::rows::rows;
use super::state::{ACTING_MAX, Acting, FILTER_MAX, Mode, Pane, State};
use super::update::{notice, select, stay_on_a_row};

/// Columns that an arrow scrolls the log.
const COLUMNS: usize = 8;

/// The keys and what they do, as the help shows them.
pub(super) const HELP: [(&str, &str); 20] = [
    ("↑ ↓  j k", "one up, one down"),
    ("PgUp PgDn", "one page"),
    ("Home End  g G", "first, last (of a log: follow)"),
    ("← →", "scroll the log sideways"),
    ("Tab", "next pane: tree, log, events"),
    ("Enter", "the pane in front alone, or all"),
    ("/", "filter the pane in front"),
    ("Esc", "no filter; back"),
    ("s", "start"),
    ("x", "stop"),
    ("r", "restart"),
    ("R", "rolling restart of all replicas"),
    ("t  T", "retry; retry afresh"),
    ("K", "kill (asks first)"),
    ("+  -", "one replica more, one less"),
    ("d", "drain, undrain (hives too)"),
    ("F5  Ctrl-L", "ask again, draw anew"),
    ("?", "this help"),
    ("q  Ctrl-C", "leave; all goes on running"),
    ("", "times are UTC"),
];

/// A key was pressed.
pub(super) fn press(state: &mut State, key: KeyEvent) -> Vec<Effect> {
    if key.kind == KeyEventKind::Release {
        return Vec::new();
    }
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => vec![Effect::Quit],
            KeyCode::Char('l') => vec![Effect::Redraw, Effect::Refresh],
            KeyCode::Char('u') if state.mode == Mode::Filter => filter(state, String::clear),
            _ => Vec::new(),
        };
    }
    match state.mode.clone() {
        Mode::Normal => normal(state, key.code),
        Mode::Filter => typing(state, key.code),
        Mode::Confirm(action) => {
            state.mode = Mode::Normal;
            match key.code {
                KeyCode::Char('y' | 'Y') => act(state, action),
                _ => {
                    notice(state, Err(format!("not done: {action}")));
                    Vec::new()
                }
            }
        }
        Mode::Help => {
            state.mode = Mode::Normal;
            if key.code == KeyCode::Char('q') { vec![Effect::Quit] } else { Vec::new() }
        }
    }
}

/// Text was pasted: into a filter that is being typed, else nowhere, whatever keys it may look like.
pub(super) fn paste(state: &mut State, text: &str) -> Vec<Effect> {
    let keys = text.chars().filter(|_| state.mode == Mode::Filter).take(FILTER_MAX).collect::<Vec<_>>();
    keys.into_iter().flat_map(|c| typing(state, KeyCode::Char(c))).collect()
}

fn normal(state: &mut State, code: KeyCode) -> Vec<Effect> {
    let page = state.page.max(1);
    match code {
        KeyCode::Char('q') => return vec![Effect::Quit],
        KeyCode::Char('?') | KeyCode::F(1) => state.mode = Mode::Help,
        KeyCode::Char('/') => state.mode = Mode::Filter,
        KeyCode::F(5) => return vec![Effect::Refresh],
        KeyCode::Tab => state.pane = Pane::ALL[(state.pane.index() + 1) % Pane::ALL.len()],
        KeyCode::BackTab => state.pane = Pane::ALL[(state.pane.index() + Pane::ALL.len() - 1) % Pane::ALL.len()],
        KeyCode::Enter if state.pane == Pane::Tree => {
            state.pane = Pane::Log;
            state.zoomed = true;
        }
        KeyCode::Enter => state.zoomed = !state.zoomed,
        KeyCode::Esc => return back(state),
        KeyCode::Up | KeyCode::Char('k') => return go(state, Step::Up(1)),
        KeyCode::Down | KeyCode::Char('j') => return go(state, Step::Down(1)),
        KeyCode::PageUp => return go(state, Step::Up(page)),
        KeyCode::PageDown | KeyCode::Char(' ') => return go(state, Step::Down(page)),
        KeyCode::Home | KeyCode::Char('g') => return go(state, Step::Up(usize::MAX)),
        KeyCode::End | KeyCode::Char('G') => return go(state, Step::Down(usize::MAX)),
        KeyCode::Left => state.log.right = state.log.right.saturating_sub(COLUMNS),
        KeyCode::Right => state.log.right = state.log.right.saturating_add(COLUMNS).min(4096),
        KeyCode::Char(key) => return ask_for(state, key),
        _ => {}
    }
    Vec::new()
}

fn back(state: &mut State) -> Vec<Effect> {
    if !state.filters[state.pane.index()].is_empty() {
        return filter(state, String::clear);
    }
    state.zoomed = false;
    state.pane = Pane::Tree;
    Vec::new()
}

#[derive(Clone, Copy)]
enum Step {
    Up(usize),
    Down(usize),
}

fn go(state: &mut State, step: Step) -> Vec<Effect> {
    let scrolled = |up: usize, count: usize| match step {
        Step::Up(by) => up.saturating_add(by).min(count.saturating_sub(1)),
        Step::Down(by) => up.saturating_sub(by),
    };
    match state.pane {
        Pane::Log => state.log.up = scrolled(state.log.up, state.log_lines().count()),
        Pane::Events => state.events_up = scrolled(state.events_up, state.shown_events().count()),
        Pane::Tree => {
            let rows = rows(state);
            let at = rows.iter().position(|row| Some(&row.place) == state.selected.as_ref()).unwrap_or(0);
            let to = match step {
                Step::Up(by) => at.saturating_sub(by),
                Step::Down(by) => at.saturating_add(by).min(rows.len().saturating_sub(1)),
            };
            let place = rows.get(to).map(|row| row.place.clone());
            return select(state, place);
        }
    }
    Vec::new()
}

fn typing(state: &mut State, code: KeyCode) -> Vec<Effect> {
    match code {
        KeyCode::Enter | KeyCode::Tab => state.mode = Mode::Normal,
        KeyCode::Esc => {
            state.mode = Mode::Normal;
            return filter(state, String::clear);
        }
        KeyCode::Backspace => return filter(state, |filter| _ = filter.pop()),
        KeyCode::Char(c) if !c.is_control() => {
            return filter(state, |filter| {
                if filter.chars().count() < FILTER_MAX {
                    filter.push(c);
                }
            });
        }
        _ => {}
    }
    Vec::new()
}

/// Changes the filter of the pane in front; what is shown begins at its end again.
fn filter(state: &mut State, change: impl FnOnce(&mut String)) -> Vec<Effect> {
    change(&mut state.filters[state.pane.index()]);
    match state.pane {
        Pane::Tree => return stay_on_a_row(state),
        Pane::Log => state.log.up = 0,
        Pane::Events => state.events_up = 0,
    }
    Vec::new()
}

fn ask_for(state: &mut State, key: char) -> Vec<Effect> {
    let Some(place) = &state.selected else { return Vec::new() };
    match action::asked(key, place, &state.fleet, &state.acting) {
        None => Vec::new(),
        Some(Err(why)) => {
            notice(state, Err(why.to_owned()));
            Vec::new()
        }
        Some(Ok(action)) if action.asks_first() => {
            state.mode = Mode::Confirm(action);
            Vec::new()
        }
        Some(Ok(action)) => act(state, action),
    }
}

fn act(state: &mut State, action: Action) -> Vec<Effect> {
    if state.acting.len() >= ACTING_MAX {
        notice(state, Err(format!("{ACTING_MAX} things are under way; wait for one to end")));
        return Vec::new();
    }
    state.notice = None;
    state.actions += 1;
    state.acting.push(Acting { id: state.actions, action: action.clone() });
    vec![Effect::Act(state.actions, action)]
}
