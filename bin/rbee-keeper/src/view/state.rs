//! What the terminal view knows: plain values, changed by `update` alone and shown by `draw`.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use jiff::Timestamp;
use rbee_api::{Event, FleetStatus};

use super::action::Action;

/// Looks kept for a sparkline.
pub(super) const LOOKS_MAX: usize = 240;
/// Lines kept of the log shown.
pub(super) const LOG_LINES_MAX: usize = 5_000;
/// Events kept.
pub(super) const EVENTS_MAX: usize = 1_000;
/// Actions under way at once.
pub(super) const ACTING_MAX: usize = 8;
/// Characters of a filter.
pub(super) const FILTER_MAX: usize = 64;

/// One row of the tree.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Place {
    Queen,
    Hive(String),
    Worker { hive: String, name: String, replica: u32 },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queen => f.write_str("queen"),
            Self::Hive(name) => write!(f, "hive {name}"),
            Self::Worker { name, replica, .. } => write!(f, "{name}/{replica}"),
        }
    }
}

/// The panes, in the order in which Tab goes through them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pane {
    Tree,
    Log,
    Events,
}

impl Pane {
    pub(super) const ALL: [Self; 3] = [Self::Tree, Self::Log, Self::Events];

    /// Where its filter is.
    pub(super) const fn index(self) -> usize {
        match self {
            Self::Tree => 0,
            Self::Log => 1,
            Self::Events => 2,
        }
    }
}

/// What keys mean now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    Normal,
    /// The filter of the pane in front is being typed.
    Filter,
    /// Asks before it acts.
    Confirm(Action),
    Help,
}

/// Whether somebody answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Link {
    Connecting,
    Up,
    /// Nobody who tells the whole tree has answered since then.
    Away {
        since: Timestamp,
        why: String,
    },
}

/// How something went, shown for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) good: bool,
    pub(super) text: String,
    pub(super) at: Timestamp,
}

/// One look at what a worker uses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Look {
    pub(super) cpu_percent: f64,
    pub(super) rss_bytes: u64,
}

/// The log of one worker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Log {
    /// Whose.
    pub(super) of: Option<Place>,
    /// Oldest first; harmless.
    pub(super) lines: VecDeque<String>,
    /// Why there is nothing new.
    pub(super) trouble: Option<String>,
    /// How many lines the end is below the last one shown; 0 follows.
    pub(super) up: usize,
    /// Columns scrolled to the right.
    pub(super) right: usize,
}

/// An action that was begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Acting {
    pub(super) id: u64,
    pub(super) action: Action,
}

/// Everything.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) now: Timestamp,
    /// Whom we watch.
    pub(super) url: String,
    pub(super) link: Link,
    pub(super) fleet: FleetStatus,
    pub(super) looks: HashMap<Place, VecDeque<Look>>,
    pub(super) looked_at: Option<Timestamp>,
    /// When somebody told something last.
    pub(super) heard_at: Timestamp,
    /// Seconds without a word that are no reason to say so.
    pub(super) patience_s: i64,
    pub(super) selected: Option<Place>,
    pub(super) pane: Pane,
    /// The pane in front has all the room.
    pub(super) zoomed: bool,
    pub(super) mode: Mode,
    pub(super) filters: [String; 3],
    pub(super) log: Log,
    pub(super) events: VecDeque<Event>,
    pub(super) events_trouble: Option<String>,
    pub(super) events_up: usize,
    pub(super) acting: Vec<Acting>,
    pub(super) actions: u64,
    pub(super) notice: Option<Notice>,
    /// Rows of a page, told by whoever draws.
    pub(super) page: usize,
}

impl State {
    pub(super) fn new(url: &str, now: Timestamp) -> Self {
        Self {
            now,
            url: url.to_owned(),
            link: Link::Connecting,
            fleet: FleetStatus { queen: None, hives: Vec::new() },
            looks: HashMap::new(),
            looked_at: None,
            heard_at: now,
            patience_s: 5,
            selected: None,
            pane: Pane::Tree,
            zoomed: false,
            mode: Mode::Normal,
            filters: [String::new(), String::new(), String::new()],
            log: Log::default(),
            events: VecDeque::new(),
            events_trouble: None,
            events_up: 0,
            acting: Vec::new(),
            actions: 0,
            notice: None,
            page: 10,
        }
    }

    /// The filter of a pane.
    pub(super) fn filter(&self, pane: Pane) -> &str {
        &self.filters[pane.index()]
    }

    /// The log's lines that its filter lets through.
    pub(super) fn log_lines(&self) -> impl DoubleEndedIterator<Item = &String> {
        let filter = self.filter(Pane::Log).to_lowercase();
        self.log.lines.iter().filter(move |line| contains(line, &filter))
    }

    /// The events that their filter lets through.
    pub(super) fn shown_events(&self) -> impl DoubleEndedIterator<Item = &Event> {
        let filter = self.filter(Pane::Events).to_lowercase();
        self.events.iter().filter(move |event| {
            let hive = event.hive.as_deref().unwrap_or_default();
            let cause = event.cause.as_deref().unwrap_or_default();
            filter.is_empty()
                || [event.kind.as_str(), &event.daemon, hive, cause].iter().any(|text| contains(text, &filter))
        })
    }
}

/// Whether the text has these lower-case words in it.
pub(super) fn contains(text: &str, filter: &str) -> bool {
    filter.is_empty() || text.to_lowercase().contains(filter)
}
