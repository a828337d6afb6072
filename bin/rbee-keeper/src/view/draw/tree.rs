//! The tree, in as many columns as there is room for.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::text::{left, right, width};
use super::theme::{Theme, sign};
use crate::ui::{bytes, duration, percent};
use crate::view::rows::Row;
use crate::view::state::{Pane, Place, State};

/// A column behind the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Phase,
    Cpu,
    Memory,
    Restarts,
    Uptime,
    Queue,
    Cache,
    Pid,
    Note,
}

impl Column {
    /// In the order in which they are given room.
    const BY_WORTH: [Self; 9] = [
        Self::Phase,
        Self::Cpu,
        Self::Memory,
        Self::Restarts,
        Self::Uptime,
        Self::Note,
        Self::Queue,
        Self::Cache,
        Self::Pid,
    ];
    /// In the order in which they are shown.
    const SHOWN: [Self; 9] = [
        Self::Phase,
        Self::Cpu,
        Self::Memory,
        Self::Queue,
        Self::Cache,
        Self::Restarts,
        Self::Uptime,
        Self::Pid,
        Self::Note,
    ];

    const fn width(self) -> usize {
        match self {
            Self::Phase => 11,
            Self::Cpu | Self::Memory | Self::Queue | Self::Cache => 5,
            Self::Restarts => 3,
            Self::Uptime => 6,
            Self::Pid => 7,
            Self::Note => 12,
        }
    }

    const fn title(self) -> &'static str {
        match self {
            Self::Phase => "phase",
            Self::Cpu => "cpu",
            Self::Memory => "mem",
            Self::Restarts => "rst",
            Self::Uptime => "up",
            Self::Queue => "queue",
            Self::Cache => "cache",
            Self::Pid => "pid",
            Self::Note => "",
        }
    }

    /// Whether anything would stand in it.
    fn is_used(self, rows: &[Row]) -> bool {
        match self {
            Self::Queue => rows.iter().any(|row| row.queue_depth.is_some()),
            Self::Cache => rows.iter().any(|row| row.cache_hit_rate.is_some()),
            _ => true,
        }
    }

    fn text(self, row: &Row) -> String {
        match self {
            Self::Phase if row.unhealthy => "unhealthy".to_owned(),
            Self::Phase => row.phase.to_string(),
            Self::Cpu => row.cpu_percent.map(percent).unwrap_or_default(),
            Self::Memory => row.rss_bytes.map(bytes).unwrap_or_default(),
            Self::Restarts if row.restarts == 0 => String::new(),
            Self::Restarts => row.restarts.to_string(),
            Self::Uptime => row.uptime_s.map(duration).unwrap_or_default(),
            Self::Queue => row.queue_depth.map(|depth| depth.to_string()).unwrap_or_default(),
            Self::Cache => row.cache_hit_rate.map(|rate| format!("{:.0}%", rate * 100.0)).unwrap_or_default(),
            Self::Pid => row.pid.map(|pid| pid.to_string()).unwrap_or_default(),
            Self::Note => row.note.clone(),
        }
    }

    const fn leans_left(self) -> bool {
        matches!(self, Self::Phase | Self::Note)
    }
}

/// Columns under which the tree's lines and titles cost more than they tell.
const NARROW: usize = 40;

/// Which columns there are, and how wide name and note are.
struct Layout {
    narrow: bool,
    name: usize,
    columns: Vec<Column>,
    note: usize,
}

impl Layout {
    fn of(rows: &[Row], columns: usize) -> Self {
        // A sign and a blank stand before the name.
        let narrow = columns < NARROW;
        let length = |row: &Row| width(branch(row, narrow)) + width(&row.name);
        let longest = rows.iter().map(length).max().unwrap_or(4).max(4);
        let room = columns.saturating_sub(2);
        let name = longest.min(room).min(28.max(room / 3));
        let mut left = room - name;
        let mut taken = Vec::new();
        for column in Column::BY_WORTH {
            let wants = column.width() + 1;
            if left >= wants && column.is_used(rows) {
                left -= wants;
                taken.push(column);
            }
        }
        let columns = Column::SHOWN.into_iter().filter(|column| taken.contains(column)).collect();
        // A name that was cut takes what nobody else wants.
        let has_note = taken.contains(&Column::Note);
        let more = if has_note { 0 } else { left.min(longest - name) };
        Self { narrow, name: name + more, columns, note: Column::Note.width() + left }
    }

    fn width(&self, column: Column) -> usize {
        if column == Column::Note { self.note } else { column.width() }
    }
}

/// Rows that a tree of that height shows, and where they begin so that the selected one is among them.
pub(super) fn window(count: usize, selected: usize, height: usize) -> usize {
    if count <= height { 0 } else { selected.saturating_sub(height / 2).min(count - height) }
}

pub(super) fn draw(frame: &mut Frame<'_>, area: Rect, state: &State, rows: &[Row], theme: Theme) {
    if area.is_empty() {
        return;
    }
    let layout = Layout::of(rows, usize::from(area.width));
    let mut lines = Vec::new();
    let mut height = usize::from(area.height);
    if height > 3 && !layout.narrow {
        lines.push(header(&layout, theme));
        height -= 1;
    }
    let selected = rows.iter().position(|row| Some(&row.place) == state.selected.as_ref());
    let from = window(rows.len(), selected.unwrap_or(0), height);
    for (index, row) in rows.iter().enumerate().skip(from).take(height) {
        let line = row_line(row, &layout, theme);
        // One look for the whole row: a colour of its own could not be read on every background.
        lines.push(if Some(index) == selected {
            let text: String = line.iter().map(|span| span.content.as_ref()).collect();
            Line::styled(text, theme.selected(state.pane == Pane::Tree))
        } else {
            line
        });
    }
    if rows.is_empty() {
        lines.push(Line::styled(nothing(state), theme.dim()));
    }
    for (line, y) in lines.iter().zip(area.y..area.bottom()) {
        let area = Rect { y, height: 1, ..area };
        if line.style != Style::new() {
            frame.buffer_mut().set_style(area, line.style);
        }
        frame.render_widget(line, area);
    }
}

/// What stands in front of the name.
fn branch(row: &Row, narrow: bool) -> &'static str {
    match (narrow, &row.place) {
        (false, _) => row.branch,
        (true, Place::Worker { .. }) => " ",
        (true, _) => "",
    }
}

fn nothing(state: &State) -> &'static str {
    match (state.filter(Pane::Tree), &state.link) {
        ("", crate::view::state::Link::Connecting) => "asking …",
        ("", _) => "nothing runs here; `rbee-keeper up` starts it",
        _ => "nothing fits the filter; Esc drops it",
    }
}

fn header(layout: &Layout, theme: Theme) -> Line<'static> {
    let mut text = format!("  {}", left("name", layout.name));
    for column in &layout.columns {
        let columns = layout.width(*column);
        let title = column.title();
        text += " ";
        text += &if column.leans_left() { left(title, columns) } else { right(title, columns) };
    }
    Line::styled(text, theme.dim())
}

fn row_line(row: &Row, layout: &Layout, theme: Theme) -> Line<'static> {
    let phase = if row.unhealthy { theme.bad() } else { theme.phase(row.phase) };
    let sign = if row.unhealthy { "!" } else { sign(row.phase) };
    let name_style = if matches!(row.place, Place::Worker { .. }) { Style::new() } else { Theme::bold() };
    let branch = super::text::cut(branch(row, layout.narrow), layout.name).into_owned();
    let room = layout.name - width(&branch);
    let mut spans = vec![
        Span::styled(sign, phase),
        Span::raw(" "),
        Span::styled(branch, theme.dim()),
        Span::styled(left(&row.name, room), name_style),
    ];
    for column in &layout.columns {
        let columns = layout.width(*column);
        let text = column.text(row);
        let text = if column.leans_left() { left(&text, columns) } else { right(&text, columns) };
        let style = match column {
            Column::Phase => phase,
            Column::Restarts if row.restarts > 0 => theme.warn(),
            Column::Queue if row.queue_depth > Some(0) => theme.warn(),
            Column::Restarts | Column::Pid | Column::Uptime => theme.dim(),
            Column::Note if matches!(phase, p if p == theme.bad()) => theme.bad(),
            Column::Note => theme.dim(),
            _ => Style::new(),
        };
        spans.push(Span::raw(" "));
        spans.push(Span::styled(text, style));
    }
    Line::from(spans)
}
