//! The newest events in memory: those that wait to be written, and some that were, for who is nearly up to date.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use rbee_api::{Event, EventKind};

/// Written events that stay in memory.
const WRITTEN_MAX: usize = 256;
/// Most that is written at once, and of one event.
const BATCH_BYTES_MAX: usize = 32 << 10;
const CAUSE_BYTES_MAX: usize = 4 << 10;
const DETAIL_BYTES_MAX: usize = 16 << 10;
/// Ids are exact in every language that reads JSON.
const ID_MAX: u64 = (1 << 53) - 1;

#[derive(Debug)]
struct Entry {
    event: Arc<Event>,
    /// Its id in the journal of the hive that told it; absent for what is this tier's own.
    told_as: Option<u64>,
}

/// An event that waits to be written, and its id in the journal it came from.
pub(super) type Waiting = (Arc<Event>, Option<u64>);

/// Events in the order of their ids.
#[derive(Debug)]
pub(super) struct Ring {
    entries: VecDeque<Entry>,
    /// So many of the oldest are in the file.
    written: usize,
    /// Events with greater ids are all here.
    floor: u64,
    /// Newest id given.
    last: u64,
    /// Newest id that was published.
    published: u64,
    waiting_max: usize,
}

impl Ring {
    pub(super) fn new(last: u64, waiting_max: usize) -> Self {
        // Whoever knows ids of before, where nothing of before is known here, shall hear that it is missing.
        let floor = if last == 0 { now_us() } else { last };
        let waiting_max = waiting_max.max(2);
        Self { entries: VecDeque::new(), written: 0, floor, last, published: last, waiting_max }
    }

    pub(super) const fn last(&self) -> u64 {
        self.last
    }

    /// Gives only ids after this one from now on; whether that is news.
    pub(super) fn begin_after(&mut self, id: u64) -> bool {
        let is_new = id > self.last;
        self.last = self.last.max(id.min(ID_MAX));
        is_new
    }

    pub(super) const fn waiting_max(&self) -> usize {
        self.waiting_max
    }

    /// Events with ids greater than this are all in memory.
    pub(super) const fn floor(&self) -> u64 {
        self.floor
    }

    /// One more; its id grows with the time, and also where the clock was set back.
    pub(super) fn push(&mut self, told_as: Option<u64>, event: impl FnOnce(u64) -> Event) {
        self.last = now_us().max(self.last.max(self.floor) + 1).min(ID_MAX);
        self.entries.push_back(Entry { event: Arc::new(bounded(event(self.last))), told_as });
        if self.entries.len() - self.written > self.waiting_max {
            self.merge_oldest();
        }
    }

    /// The two oldest that wait become one gap, which has the id of the second.
    fn merge_oldest(&mut self) {
        let Some(first) = self.entries.remove(self.written) else { return };
        let Some(second) = self.entries.get_mut(self.written) else { return };
        let lost = lost(&first.event) + lost(&second.event);
        let newer = &second.event;
        let gap = Event {
            id: newer.id,
            at: newer.at,
            hive: newer.hive.clone(),
            daemon: newer.daemon.clone(),
            kind: EventKind::Gap,
            incarnation: None,
            phase: None,
            cause: Some(format!("{lost} events could not be written, and too many waited in memory")),
            detail: Some(serde_json::json!({ "lost": lost })),
        };
        let told_as = second.told_as.or(first.told_as);
        *second = Entry { event: Arc::new(gap), told_as };
    }

    /// The oldest of what waits to be written: not more than a small file takes at once.
    pub(super) fn waiting(&self) -> Vec<Waiting> {
        let mut bytes = 0;
        let waiting = self.entries.range(self.written..);
        let some = waiting.take_while(|entry| {
            let is_room = bytes < BATCH_BYTES_MAX;
            bytes += bytes_of(&entry.event);
            is_room
        });
        some.map(|entry| (Arc::clone(&entry.event), entry.told_as)).collect()
    }

    /// How many wait to be written.
    pub(super) fn waiting_count(&self) -> usize {
        self.entries.len() - self.written
    }

    /// Everything up to `newest` may be seen, and is written if it is; what of it is new comes back.
    pub(super) fn publish(&mut self, newest: u64, is_written: bool) -> Vec<Waiting> {
        let before = self.published;
        self.published = before.max(newest);
        let seen = self.entries.partition_point(|entry| entry.event.id <= newest);
        let new = self.entries.partition_point(|entry| entry.event.id <= before);
        let told = self.entries.range(new.min(seen)..seen);
        let told = told.map(|entry| (Arc::clone(&entry.event), entry.told_as)).collect();
        if is_written {
            self.written = self.written.max(seen);
            let above = self.written.saturating_sub(WRITTEN_MAX);
            for entry in self.entries.drain(..above) {
                self.floor = entry.event.id;
            }
            self.written -= above;
        }
        told
    }

    /// Published events after this one, oldest first.
    pub(super) fn after(&self, after: u64) -> impl Iterator<Item = &Arc<Event>> {
        let first = self.entries.partition_point(|entry| entry.event.id <= after);
        let events = self.entries.range(first..).map(|entry| &entry.event);
        events.take_while(|event| event.id <= self.published)
    }

    pub(super) const fn published(&self) -> u64 {
        self.published
    }
}

fn now_us() -> u64 {
    u64::try_from(Timestamp::now().as_microsecond()).unwrap_or(0)
}

fn bytes_of(event: &Event) -> usize {
    let detail = event.detail.as_ref().map_or(0, |detail| detail.to_string().len());
    event.daemon.len() + event.cause.as_ref().map_or(0, String::len) + detail + 128
}

/// As the file will have it: not too large for a small one, and with times as it keeps them.
fn bounded(mut event: Event) -> Event {
    event.at = Timestamp::from_microsecond(event.at.as_microsecond()).unwrap_or(event.at);
    if let Some(cause) = &mut event.cause
        && cause.len() > CAUSE_BYTES_MAX
    {
        cause.truncate(cause.floor_char_boundary(CAUSE_BYTES_MAX));
        cause.push('…');
    }
    event.detail = event.detail.take().filter(|detail| detail.to_string().len() <= DETAIL_BYTES_MAX);
    event
}

/// How many events one stands for.
fn lost(event: &Event) -> u64 {
    let told =
        event.detail.as_ref().filter(|_| event.kind == EventKind::Gap).and_then(|detail| detail["lost"].as_u64());
    told.unwrap_or(1)
}
