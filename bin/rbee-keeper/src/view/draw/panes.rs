//! The panes under and beside the tree: a log, the events, and the selected row in full with its sparklines.

use std::collections::VecDeque;

use jiff::Timestamp;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use rbee_api::Event;

use super::text::{behind, cut, left, width};
use super::theme::{BARS, Theme, sign};
use crate::ui::{bytes, duration, harmless, percent};
use crate::view::rows::Row;
use crate::view::state::{Look, Pane, Place, State};

/// Between facts.
const DOT: &str = " · ";

/// A rule with a title in it, and what stands at its right end.
pub(super) fn rule(frame: &mut Frame<'_>, area: Rect, title: &str, end: &str, in_front: bool, theme: Theme) {
    let columns = usize::from(area.width);
    if area.is_empty() {
        return;
    }
    let title = cut(title, columns.saturating_sub(4));
    let room = columns.saturating_sub(width(&title) + 4);
    let end = if !end.is_empty() && width(end) + 3 <= room { format!(" {end} ─") } else { String::new() };
    let dashes = columns.saturating_sub(width(&title) + 3 + width(&end));
    let style = if in_front { theme.accent() } else { theme.dim() };
    let name = if in_front { theme.accent().patch(Theme::bold()) } else { Style::new() };
    let line = Line::from(vec![
        Span::styled(if in_front { "━ " } else { "─ " }, style),
        Span::styled(title.into_owned(), name),
        Span::styled(format!(" {}", if in_front { "━" } else { "─" }.repeat(dashes)), style),
        Span::styled(end, style),
    ]);
    frame.render_widget(line, Rect { height: 1, ..area });
}

/// Draws a rule and hands on what is under it.
fn below_rule(area: Rect) -> Rect {
    Rect { y: area.y.saturating_add(1), height: area.height.saturating_sub(1), ..area }
}

fn put(frame: &mut Frame<'_>, area: Rect, lines: impl IntoIterator<Item = Line<'static>>) {
    for (line, y) in lines.into_iter().zip(area.y..area.bottom()) {
        frame.render_widget(line, Rect { y, height: 1, ..area });
    }
}

fn filtered(title: String, filter: &str) -> String {
    if filter.is_empty() { title } else { format!("{title} /{}", harmless(filter)) }
}

pub(super) fn log(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let of = match &state.log.of {
        Some(Place::Worker { hive, name, replica }) => format!("log of {hive}:{name}/{replica}"),
        Some(place) => format!("log of {place}"),
        None => "log".to_owned(),
    };
    let end = match state.log.up {
        0 => "following".to_owned(),
        up => format!("{up} below"),
    };
    let title = filtered(of, state.filter(Pane::Log));
    rule(frame, area, &harmless(&title), &end, state.pane == Pane::Log, theme);
    let area = below_rule(area);
    let height = usize::from(area.height);
    let columns = usize::from(area.width);
    let trouble = state.log.trouble.as_ref().map(|why| Line::styled(cut(why, columns).into_owned(), theme.warn()));
    let room = height.saturating_sub(usize::from(trouble.is_some()));
    let newest: Vec<Line<'static>> = state
        .log_lines()
        .rev()
        .skip(state.log.up)
        .take(room)
        .map(|line| log_line(line, state.log.right, columns, theme))
        .collect();
    let nothing = newest.is_empty() && trouble.is_none();
    let hint = match (&state.log.of, state.filter(Pane::Log)) {
        (Some(Place::Worker { .. }), "") => "it has written nothing yet",
        (Some(_), "") => "there is no log of it here",
        (None, "") => "nothing is selected",
        _ => "no line fits the filter; Esc drops it",
    };
    let hint = nothing.then(|| Line::styled(hint, theme.dim()));
    put(frame, area, newest.into_iter().rev().chain(trouble).chain(hint));
}

/// A line as hives keep it (`TIME out|err TEXT`) or our daemons write it (`TIME TEXT`): the time short, errors marked.
fn log_line(line: &str, right: usize, columns: usize, theme: Theme) -> Line<'static> {
    let Some((at, rest)) = timed(line) else { return Line::raw(cut(&behind(line, right), columns).into_owned()) };
    let (mark, text) = match rest.split_once(' ') {
        Some(("err", text)) => ("!", text),
        Some(("out", text)) => (" ", text),
        _ => (" ", rest),
    };
    // What our own daemons write has a time already; their level says more than the stream.
    let (mark, text) = timed(text).map_or((mark, text), |(_, text)| (" ", text));
    let time = at.strftime("%H:%M:%S").to_string();
    // On a narrow terminal the text alone is worth its room.
    let has_time = columns >= 40;
    let prefix = if has_time { width(&time) + 2 } else { 1 };
    let text = cut(&behind(text, right), columns.saturating_sub(prefix)).into_owned();
    let time = has_time.then(|| Span::styled(time, theme.dim()));
    Line::from_iter(time.into_iter().chain([
        Span::styled(mark, theme.warn()),
        Span::raw(if has_time { " " } else { "" }),
        Span::raw(text),
    ]))
}

/// A time at the beginning of a text, and what follows.
fn timed(text: &str) -> Option<(Timestamp, &str)> {
    let (at, rest) = text.split_once(' ')?;
    Some((at.parse().ok()?, rest.trim_start()))
}

pub(super) fn events(frame: &mut Frame<'_>, area: Rect, state: &State, theme: Theme) {
    let end = if state.events_up > 0 { format!("{} below", state.events_up) } else { String::new() };
    let title = filtered("events".to_owned(), state.filter(Pane::Events));
    rule(frame, area, &title, &end, state.pane == Pane::Events, theme);
    let area = below_rule(area);
    let columns = usize::from(area.width);
    let trouble = state.events_trouble.as_ref().map(|why| Line::styled(cut(why, columns).into_owned(), theme.warn()));
    let room = usize::from(area.height).saturating_sub(usize::from(trouble.is_some()));
    let shown: Vec<&Event> = state.shown_events().rev().skip(state.events_up).take(room).collect();
    let who_columns = shown.iter().map(|event| width(&who(event))).max().unwrap_or(0).min(columns / 3);
    let shown: Vec<Line<'static>> =
        shown.into_iter().map(|event| event_line(event, who_columns, columns, theme)).collect();
    let hint = (shown.is_empty() && trouble.is_none()).then(|| Line::styled("nothing has happened yet", theme.dim()));
    put(frame, area, shown.into_iter().rev().chain(trouble).chain(hint));
}

fn event_line(event: &Event, who_columns: usize, columns: usize, theme: Theme) -> Line<'static> {
    let time = event.at.strftime("%H:%M:%S ").to_string();
    let who = who(event);
    let cause = event.cause.as_deref().map(harmless).unwrap_or_default();
    let time = if columns >= 40 { time } else { String::new() };
    let kind = left(event.kind.as_str(), if columns >= 50 { 13 } else { 10 });
    let room = columns.saturating_sub(width(&time) + width(&kind) + 1);
    let who = left(&who, who_columns.min(room));
    let rest = room.saturating_sub(width(&who) + 2);
    let mut spans = vec![
        Span::styled(time, theme.dim()),
        Span::styled(kind, theme.kind(event.kind)),
        Span::raw(" "),
        Span::raw(who),
    ];
    if rest > 4 && !cause.is_empty() {
        spans.push(Span::styled(format!("  {}", cut(&cause, rest)), theme.dim()));
    }
    Line::from(spans)
}

/// To whom it happened; of workers the hive is not worth its room.
fn who(event: &Event) -> String {
    match (&event.hive, event.daemon.as_str()) {
        (Some(hive), "hive") => harmless(&format!("hive {hive}")).into_owned(),
        (_, daemon) => harmless(daemon).into_owned(),
    }
}

/// The selected row in full, in `area.height` lines: what matters most comes first.
pub(super) fn detail(frame: &mut Frame<'_>, area: Rect, state: &State, row: &Row, theme: Theme) {
    let columns = usize::from(area.width);
    let end = row.uptime_s.map(|s| format!("up {}", duration(s))).unwrap_or_default();
    let title = format!("{} {}", sign(row.phase), harmless(&row.place.to_string()));
    rule(frame, area, &title, &end, false, theme);
    let mut lines = Vec::new();
    let label = |text: &'static str| Span::styled(left(text, 5), theme.dim());
    if let Some(looks) = state.looks.get(&row.place).filter(|_| row.rss_bytes.is_some()) {
        let cpu = percent(row.cpu_percent.unwrap_or_default());
        let memory = bytes(row.rss_bytes.unwrap_or_default());
        let room = |extra: usize| columns.saturating_sub(5 + 6 + extra);
        let both = area.height < 6 && columns >= 50;
        if both {
            let half = room(13) / 2;
            lines.push(Line::from(vec![
                label("cpu"),
                Span::styled(spark(looks, half, cpu_of), theme.accent()),
                Span::raw(format!(" {} ", left(&cpu, 5))),
                Span::styled(" mem ", theme.dim()),
                Span::styled(spark(looks, half, memory_of), theme.good()),
                Span::raw(format!(" {memory}")),
            ]));
        } else {
            for (name, of, style, now) in [
                ("cpu", cpu_of as fn(&Look) -> f64, theme.accent(), cpu),
                ("mem", memory_of as fn(&Look) -> f64, theme.good(), memory),
            ] {
                lines.push(Line::from(vec![
                    label(name),
                    Span::styled(spark(looks, room(0), of), style),
                    Span::raw(format!(" {now}")),
                ]));
            }
        }
    }
    let phase = if row.unhealthy { "unhealthy".to_owned() } else { row.phase.to_string() };
    let style = if row.unhealthy { theme.bad() } else { theme.phase(row.phase) };
    let room = columns.saturating_sub(width(&phase) + 2);
    let facts = &row.facts;
    let fits = |count: &usize| width(&facts[..*count].join(DOT)) <= room;
    let beside = (0..=facts.len()).rev().find(fits).unwrap_or(0);
    lines.push(Line::from(vec![Span::styled(phase, style), Span::raw("  "), Span::raw(facts[..beside].join(DOT))]));
    // A flat panel needs its last line for the reason.
    if area.height >= 6 || row.note.is_empty() {
        lines.extend(wrapped(&facts[beside..].join(DOT), columns).into_iter().map(Line::raw));
    }
    let note_style =
        if matches!(row.place, Place::Worker { .. }) && style == theme.bad() { style } else { theme.dim() };
    lines.extend(wrapped(&row.note, columns).into_iter().map(|line| Line::styled(line, note_style)));
    put(frame, below_rule(area), lines);
}

/// A text in lines of at most so many columns, broken between words where that is possible.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if width(line) + 1 + width(word) <= columns => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(cut(word, columns).into_owned()),
        }
    }
    lines
}

fn cpu_of(look: &Look) -> f64 {
    look.cpu_percent
}

fn memory_of(look: &Look) -> f64 {
    look.rss_bytes as f64
}

/// The newest looks as bars, the highest of them full; of a processor share a full core at least.
fn spark(looks: &VecDeque<Look>, columns: usize, of: fn(&Look) -> f64) -> String {
    let shown = looks.iter().skip(looks.len().saturating_sub(columns));
    let values: Vec<f64> = shown.map(of).collect();
    let highest = values.iter().copied().fold(1.0, f64::max);
    let top = BARS.len() - 1;
    let bar = |value: &f64| BARS[((value / highest * top as f64).ceil() as usize).min(top)];
    let bars: String = values.iter().map(bar).collect();
    " ".repeat(columns.saturating_sub(values.len())) + &bars
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_wide_as_asked_and_the_highest_is_full() {
        let looks: VecDeque<Look> =
            [0.0, 50.0, 100.0, 25.0].map(|cpu_percent| Look { cpu_percent, rss_bytes: 7 }).into();
        assert_eq!(spark(&looks, 6, cpu_of), "   ▄█▂");
        assert_eq!(spark(&looks, 2, cpu_of), "█▂");
        assert_eq!(spark(&looks, 4, memory_of), "████");
        assert_eq!(spark(&VecDeque::new(), 3, cpu_of), "   ");
    }

    #[test]
    fn times_are_short_and_told_once() {
        let shown = |line| log_line(line, 0, 60, Theme::new(false)).to_string();
        for (line, expected) in [
            ("2026-01-02T03:04:05.678Z out ready", "03:04:05  ready"),
            ("2026-01-02T03:04:05.678Z err cannot", "03:04:05! cannot"),
            ("2026-01-02T03:04:05.678Z err 2026-01-02T03:04:05.1Z  INFO queen is back", "03:04:05  INFO queen is back"),
            ("2026-01-02T03:04:05.1Z  INFO out of work", "03:04:05  INFO out of work"),
            ("no time at all", "no time at all"),
            ("", ""),
        ] {
            assert_eq!(shown(line), expected, "{line}");
        }
    }

    #[test]
    fn words_are_kept_whole() {
        assert_eq!(wrapped("exited with code 1 after 3 tries", 12), ["exited with", "code 1 after", "3 tries"]);
        assert_eq!(wrapped("incomprehensible", 6), ["incom…"]);
        assert!(wrapped("", 6).is_empty());
    }
}
