//! How the state looks on a terminal of any size: a pure function of state and size.
//!
//! ```text
//!   narrow (< 110)        wide                    small (< 14 lines)
//!   ┌ head ───────┐       ┌ head ─────────────┐   ┌ head ────┐
//!   │ tree        │       │ tree      │detail │   │ the pane │
//!   │ detail      │       │───────────┴───────│   │ in front │
//!   │ log         │       │ log       │events │   └ foot ────┘
//!   │ events      │       └ foot ─────────────┘
//!   └ foot ───────┘
//! ```

mod panes;
mod text;
mod theme;
mod tree;

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Widget as _};
use rbee_api::Phase;

use super::keys::HELP;
use super::rows::{Row, rows, short_url};
use super::state::{Link, Mode, Pane, State};
use crate::ui::{duration, harmless};
use text::{cut, left, width};
pub(crate) use theme::Theme;
use theme::sign;

const WIDE_COLUMNS: u16 = 110;
const SMALL_LINES: u16 = 14;
const DETAIL_COLUMNS: u16 = 38;

/// Phases as the head counts them: what is well, what is on its way, what is not.
const HEAD: [Phase; 9] = [
    Phase::Running,
    Phase::Starting,
    Phase::Restarting,
    Phase::Draining,
    Phase::Stopping,
    Phase::Failed,
    Phase::Unavailable,
    Phase::Stale,
    Phase::Stopped,
];

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State, theme: Theme) {
    let area = frame.area();
    let head = Rect { height: area.height.min(1), ..area };
    let foot_y = area.bottom().saturating_sub(1);
    let foot = Rect { y: foot_y, height: u16::from(area.height >= 2), ..area };
    let body = Rect { y: head.bottom(), height: foot_y.saturating_sub(head.bottom()), ..area };
    let rows = rows(state);
    draw_head(frame, head, state, theme);
    draw_body(frame, body, state, &rows, theme);
    draw_foot(frame, foot, state, theme);
    if state.mode == Mode::Help {
        draw_help(frame, body, theme);
    }
}

fn draw_body(frame: &mut Frame<'_>, area: Rect, state: &State, rows: &[Row], theme: Theme) {
    if state.zoomed || area.height < SMALL_LINES - 2 {
        match state.pane {
            Pane::Tree => tree::draw(frame, area, state, rows, theme),
            Pane::Log => panes::log(frame, area, state, theme),
            Pane::Events => panes::events(frame, area, state, theme),
        }
        return;
    }
    let selected = rows.iter().find(|row| Some(&row.place) == state.selected.as_ref());
    let wants = u16::try_from(rows.len()).unwrap_or(u16::MAX).saturating_add(1);
    if area.width >= WIDE_COLUMNS {
        let height = wants.max(8).min(area.height / 2);
        let (upper, lower) = split_lines(area, height);
        let (left, right) = split_columns(upper, area.width - DETAIL_COLUMNS.max(area.width / 3));
        tree::draw(frame, left, state, rows, theme);
        if let Some(row) = selected {
            panes::detail(frame, right, state, row, theme);
        }
        let (left, right) = split_columns(lower, lower.width / 20 * 11);
        panes::log(frame, left, state, theme);
        panes::events(frame, right, state, theme);
        return;
    }
    let detail_lines = if area.height >= 18 { 4 } else { 0 };
    // However long the tree is, half is left to log and events.
    let most = (area.height - detail_lines) / 2;
    let (upper, rest) = split_lines(area, wants.min(most));
    let (middle, rest) = split_lines(rest, detail_lines);
    tree::draw(frame, upper, state, rows, theme);
    if let Some(row) = selected {
        panes::detail(frame, middle, state, row, theme);
    }
    let (upper, lower) = split_lines(rest, rest.height - (rest.height / 3).max(4));
    panes::log(frame, upper, state, theme);
    panes::events(frame, lower, state, theme);
}

fn split_lines(area: Rect, upper: u16) -> (Rect, Rect) {
    let upper = upper.min(area.height);
    (Rect { height: upper, ..area }, Rect { y: area.y + upper, height: area.height - upper, ..area })
}

/// With a blank column between.
fn split_columns(area: Rect, left: u16) -> (Rect, Rect) {
    let left = left.min(area.width);
    let right = Rect { x: area.x + left, width: area.width - left, ..area };
    (Rect { width: left.saturating_sub(1), ..area }, right)
}

fn draw_head(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let columns = usize::from(area.width);
    let spans = match &state.link {
        Link::Connecting => vec![Span::raw(cut(&format!("… asking {}", state.url), columns).into_owned())],
        Link::Up => head_of_fleet(state, columns, theme),
        Link::Away { since, why } => {
            let s = (state.now.as_millisecond() - since.as_millisecond()) as f64 / 1000.0;
            let text = format!("✗ away {}: {why}; looking again", duration(s));
            frame.buffer_mut().set_style(area, theme.alarm());
            vec![Span::styled(cut(&text, columns).into_owned(), theme.alarm())]
        }
    };
    frame.render_widget(Line::from(spans), area);
}

fn head_of_fleet(state: &State, columns: usize, theme: Theme) -> Vec<Span<'static>> {
    let silence_s = state.now.as_second() - state.heard_at.as_second();
    let (name, style) = if silence_s > state.patience_s {
        (format!("no news for {}", duration(silence_s as f64)), theme.alarm())
    } else {
        ("rbee".to_owned(), theme.accent().patch(Theme::bold()))
    };
    let name = cut(&name, columns).into_owned();
    let mut used = width(&name);
    let mut spans = vec![Span::styled(name, style)];
    for phase in HEAD {
        let count = state.fleet.workers().filter(|(_, worker)| worker.phase == phase).count();
        let text = format!("  {} {count}", sign(phase));
        let long = format!("{text} {phase}");
        let text = if columns >= 60 { long } else { text };
        if count > 0 && used + width(&text) <= columns {
            used += width(&text);
            spans.push(Span::styled(text, theme.phase(phase)));
        }
    }
    let clock = state.now.strftime("%H:%M:%SZ").to_string();
    let long = format!("{}  {clock}", harmless(short_url(&state.url)));
    let end = if used + width(&long) + 2 <= columns { long } else { clock };
    if used + width(&end) + 2 <= columns {
        spans.push(Span::raw(" ".repeat(columns - used - width(&end))));
        spans.push(Span::styled(end, theme.dim()));
    }
    spans
}

fn draw_foot(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    if area.is_empty() {
        return;
    }
    let columns = usize::from(area.width);
    let line = match &state.mode {
        Mode::Filter => {
            let filter = state.filter(state.pane);
            // The end of it is where the typing is.
            let over = (width(filter) + 3).saturating_sub(columns);
            let text = format!("/{}", text::behind(&harmless(filter), over));
            let x = u16::try_from(width(&text)).unwrap_or(u16::MAX).min(area.width.saturating_sub(1));
            frame.set_cursor_position((area.x + x, area.y));
            Line::raw(cut(&text, columns).into_owned())
        }
        Mode::Confirm(action) => {
            let question = format!("{action}? y / n");
            frame.buffer_mut().set_style(area, theme.alarm());
            Line::styled(cut(&harmless(&question), columns).into_owned(), theme.alarm())
        }
        Mode::Normal | Mode::Help => foot_of_work(state, columns, theme),
    };
    frame.render_widget(line, area);
}

fn foot_of_work(state: &State, columns: usize, theme: Theme) -> Line<'static> {
    if let Some(acting) = state.acting.last() {
        let more = state.acting.len() - 1;
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let text = format!("↻ {}{more} …", acting.action);
        return Line::styled(cut(&harmless(&text), columns).into_owned(), theme.warn());
    }
    if let Some(notice) = &state.notice {
        let (sign, style) = if notice.good { ("✓", theme.good()) } else { ("✗", theme.bad()) };
        return Line::styled(cut(&format!("{sign} {}", notice.text), columns).into_owned(), style);
    }
    let filter = state.filter(Pane::Tree);
    let mut spans = Vec::new();
    let mut used = 0;
    if !filter.is_empty() && state.pane == Pane::Tree {
        let text = cut(&format!("/{}  ", harmless(filter)), columns).into_owned();
        used += width(&text);
        spans.push(Span::styled(text, theme.warn()));
    }
    let keys: &[(&str, &str)] = match state.pane {
        Pane::Tree => &[
            ("?", "help"),
            ("q", "leave"),
            ("Tab", "pane"),
            ("/", "filter"),
            ("Enter", "log"),
            ("s", "start"),
            ("x", "stop"),
            ("r", "restart"),
            ("t", "retry"),
            ("K", "kill"),
            ("+-", "scale"),
            ("d", "drain"),
        ],
        Pane::Log | Pane::Events => &[
            ("?", "help"),
            ("q", "leave"),
            ("Tab", "pane"),
            ("Esc", "back"),
            ("/", "filter"),
            ("Enter", "zoom"),
            ("End", "follow"),
        ],
    };
    for (key, what) in keys {
        let length = width(key) + 1 + width(what) + 2;
        if used + length > columns + 2 {
            break;
        }
        used += length;
        spans.push(Span::styled(*key, Theme::bold()));
        spans.push(Span::styled(format!(" {what}  "), theme.dim()));
    }
    Line::from(spans)
}

fn draw_help(frame: &mut Frame<'_>, body: Rect, theme: Theme) {
    Clear.render(body, frame.buffer_mut());
    let columns = usize::from(body.width);
    panes::rule(frame, body, "help", "any key goes back", true, theme);
    let keys = if columns >= 40 { 18 } else { 9 };
    let signs = Phase::ALL.map(|phase| (sign(phase), phase.as_str(), theme.phase(phase)));
    let mut lines: Vec<Line<'static>> = HELP
        .iter()
        .map(|(key, what)| {
            let what = cut(what, columns.saturating_sub(keys + 1)).into_owned();
            Line::from(vec![Span::styled(left(key, keys), Theme::bold()), Span::raw(" "), Span::raw(what)])
        })
        .collect();
    // Signs beside the keys where there is room, else under them.
    let beside = columns >= 76;
    if !beside {
        lines.push(Line::raw(""));
        lines.extend(signs.map(|(sign, word, style)| Line::styled(format!("{sign} {word}"), style)));
    }
    let area = Rect { y: body.y.saturating_add(1), height: body.height.saturating_sub(1), ..body };
    for (line, y) in lines.into_iter().zip(area.y..area.bottom()) {
        frame.render_widget(line, Rect { y, height: 1, ..area });
    }
    if beside {
        for ((sign, word, style), y) in signs.into_iter().zip(area.y..area.bottom()) {
            let area = Rect { x: area.x + 58, width: area.width - 58, y, height: 1 };
            frame.render_widget(Line::styled(format!("{sign} {word}"), style), area);
        }
    }
}
