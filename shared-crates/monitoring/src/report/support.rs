//! Events for tests, told in seconds.

use jiff::Timestamp;
use rbee_api::event::{Event, EventKind};

pub(super) fn event(id: u64, at_s: i64, daemon: &str, kind: EventKind) -> Event {
    Event {
        id,
        at: Timestamp::from_second(at_s).unwrap(),
        hive: None,
        daemon: daemon.to_owned(),
        kind,
        incarnation: None,
        phase: None,
        cause: None,
        detail: None,
    }
}

pub(super) fn because(cause: &str, event: Event) -> Event {
    Event { cause: Some(cause.to_owned()), ..event }
}

pub(super) fn moved(events: &[Event], by_s: i64) -> Vec<Event> {
    let moved =
        |event: &Event| Event { at: Timestamp::from_second(event.at.as_second() + by_s).unwrap(), ..event.clone() };
    events.iter().map(moved).collect()
}
