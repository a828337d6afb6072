//! Asking the journal: the newest in memory first, older ones in the file, and what is in neither said as a gap.

use std::sync::Arc;

use jiff::Timestamp;
use rbee_api::{Event, EventKind, EventQuery, EventsReply, Since};

use super::{Journal, NewEvent};
use crate::store::events;

/// Most events of one answer.
pub(super) const LIMIT_MAX: usize = 10_000;
/// Events of an answer where nobody says how many.
const LIMIT_DEFAULT: usize = 1_000;
/// Of a hive that nobody here knows anything of, so many of the newest are taken in.
const FIRST_MAX: u64 = 1_000;

/// Some events, and where the next ones begin.
#[derive(Debug)]
pub(super) struct Page {
    pub events: Vec<Arc<Event>>,
    pub next: u64,
}

impl Journal {
    /// Events that have happened, oldest first.
    pub async fn list(&self, query: &EventQuery) -> EventsReply {
        self.settled().await;
        let limit = query.limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX);
        if limit == 0 {
            return EventsReply { events: Vec::new(), next: *self.shared.published.borrow() };
        }
        let Page { events, next } = match query.since {
            None => self.newest(query, limit).await,
            Some(Since::Id(id)) => self.page(id, query, limit).await,
            Some(Since::Time(time)) => {
                let before = self.before(time).await;
                self.page(before, query, limit).await
            }
        };
        EventsReply { events: events.into_iter().map(Arc::unwrap_or_clone).collect(), next }
    }

    /// Every event that is kept, oldest first: at most `events_max`, and those that wait to be written.
    pub async fn all(&self) -> Vec<Event> {
        self.settled().await;
        let Page { events, .. } = self.page(0, &EventQuery::default(), usize::MAX).await;
        events.into_iter().map(Arc::unwrap_or_clone).collect()
    }

    /// What comes after `known` of this journal, for who keeps a copy of it; at most `limit`.
    pub async fn copy_after(&self, known: u64, limit: usize) -> Vec<Event> {
        let after = match known {
            0 => {
                let floor = self.shared.state().ring.floor();
                let first = self.shared.history.read(|connection| events::before_newest(connection, FIRST_MAX)).await;
                first.unwrap_or(floor)
            }
            known => known,
        };
        let page = self.page(after, &EventQuery::default(), limit).await;
        page.events.into_iter().map(Arc::unwrap_or_clone).collect()
    }

    /// The id after which events of this time and later come.
    pub(super) async fn before(&self, time: Timestamp) -> u64 {
        let (recent, published) = {
            let state = self.shared.state();
            let first = state.ring.after(0).find(|event| event.at >= time).map(|event| event.id.saturating_sub(1));
            (first, state.ring.published())
        };
        let older = self.shared.history.read(move |connection| events::before_time(connection, time)).await;
        let older = older.ok().flatten();
        older.into_iter().chain(recent).min().unwrap_or(published).min(published)
    }

    /// What is wanted of the events after `after`, oldest first.
    pub(super) async fn page(&self, after: u64, query: &EventQuery, limit: usize) -> Page {
        let (recent, floor, published) = self.recent(after);
        let mut events = Vec::new();
        if after > published {
            // It was given out by a journal that is gone, and the clock was set back since.
            events.push(self.gap(after, published, "the journal that these came from is gone"));
            return Page { events, next: published };
        }
        if after < floor {
            let wanted = query.clone();
            let older = move |connection: &_| events::after(connection, after, floor, &wanted, limit);
            match self.shared.history.read(older).await {
                Ok((found, forgotten)) => {
                    let forgotten = forgotten.min(floor);
                    if after > 0 && after < forgotten {
                        events.push(self.gap(after, forgotten, "they are older than what is kept"));
                    }
                    events.extend(found.into_iter().map(Arc::new));
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "cannot read older events");
                    events.push(self.gap(after, floor, "they cannot be read now"));
                }
            }
        }
        if events.len() < limit {
            events.extend(recent.into_iter().filter(|event| query.wants(event)));
        }
        events.truncate(limit.max(1));
        let is_all = events.len() < limit;
        let last = events.last().map(|event| event.id).filter(|_| !is_all);
        Page { next: last.unwrap_or(published), events }
    }

    async fn newest(&self, query: &EventQuery, limit: usize) -> Page {
        let (recent, floor, published) = self.recent(0);
        let recent: Vec<_> = recent.into_iter().filter(|event| query.wants(event)).collect();
        let mut events = Vec::new();
        if let Some(missing) = limit.checked_sub(recent.len()).filter(|missing| *missing > 0) {
            let wanted = query.clone();
            let older = move |connection: &_| events::newest(connection, floor, &wanted, missing);
            match self.shared.history.read(older).await {
                Ok(found) => events.extend(found.into_iter().map(Arc::new)),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "cannot read older events");
                    events.push(self.gap(0, floor, "they cannot be read now"));
                }
            }
        }
        let above = recent.len().saturating_sub(limit);
        events.extend(recent.into_iter().skip(above));
        Page { events, next: published }
    }

    /// What is in memory after `after`, where that begins, and the newest id that may be seen.
    fn recent(&self, after: u64) -> (Vec<Arc<Event>>, u64, u64) {
        let state = self.shared.state();
        (state.ring.after(after).cloned().collect(), state.ring.floor(), state.ring.published())
    }

    /// Says that events up to `up_to` are not here. It has the id of the last of them: who goes on from there misses no more.
    fn gap(&self, after: u64, up_to: u64, why: &str) -> Arc<Event> {
        let detail = serde_json::json!({ "after": after, "up_to": up_to });
        let event = NewEvent::now(self.shared.tier, EventKind::Gap).with_detail(detail);
        Arc::new(event.with_cause(format!("events are missing: {why}")).with_id(up_to))
    }
}
