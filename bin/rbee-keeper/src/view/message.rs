//! What reaches the terminal view, and what it wants done: the two sides of `update`.

use crossterm::event::KeyEvent;
use rbee_api::{Event, FleetStatus};

use super::action::Action;
use super::state::Place;

/// Something happened.
#[derive(Debug, Clone)]
pub(super) enum Message {
    /// Time passes.
    Tick,
    /// A key was pressed.
    Key(KeyEvent),
    /// Text was pasted: it is no row of keys.
    Pasted(String),
    /// The terminal has another size, or must be drawn anew.
    Resized,
    /// The tree as it is known, and why it is not all.
    Status(Box<FleetStatus>, Vec<String>),
    /// Nobody told anything.
    NoStatus(String),
    /// An event of the tiers.
    Event(Box<Event>),
    /// Events do not come, and why.
    NoEvents(String),
    /// The log of that place is read from its last lines on: what was shown of it is read again.
    LogBegins(Place),
    /// More of it.
    LogLines(Place, Vec<String>),
    /// It does not come, and why.
    NoLog(Place, String),
    /// An action has ended.
    Acted(u64, Result<String, String>),
}

/// What the shell shall do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// Leave.
    Quit,
    /// Draw all of it, whatever the terminal shows.
    Redraw,
    /// Ask for the tree now.
    Refresh,
    /// Read the log of that place from now on, or none.
    Follow(Option<Place>),
    /// Carry out, and tell how it went.
    Act(u64, Action),
}
