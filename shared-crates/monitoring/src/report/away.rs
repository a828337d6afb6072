//! When a tier was not there to look: from its last sign of life to the first one after that. Pure.

use rbee_api::event::{Event, EventKind};

use super::timeline::Away;

/// Silence of so many intervals is taken for absence: a machine asleep, a process stopped.
const SILENT_INTERVALS: i64 = 4;

/// A sign of life of the tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sign {
    pub(super) at_ms: i64,
    /// How long before the next one is expected; 0: nobody knows.
    pub(super) interval_ms: i64,
    /// The tier's process began here.
    pub(super) began: bool,
}

/// The signs in a tier's events, by id.
pub(super) fn signs<'a>(events: impl Iterator<Item = &'a Event>, tier: &str) -> Vec<Sign> {
    let began = |event: &Event| event.daemon == tier && matches!(event.kind, EventKind::Starting | EventKind::Running);
    events
        .map(|event| Sign { at_ms: event.at.as_millisecond(), interval_ms: 0, began: began(event) })
        .collect()
}
