//! Events as they are published, from any id on. A follower holds a page and a number: however slow it is, nothing waits for it.

use std::collections::VecDeque;
use std::sync::Arc;

use rbee_api::{Event, EventQuery, Since};
use tokio::sync::watch;

use super::Journal;
use super::seats::Seat;

/// Events read at once.
const PAGE: usize = 256;

/// One who follows.
#[derive(Debug)]
pub struct Follower {
    journal: Journal,
    query: EventQuery,
    /// The newest id that was looked at.
    cursor: u64,
    page: VecDeque<Arc<Event>>,
    published: watch::Receiver<u64>,
    is_open: watch::Receiver<bool>,
    seat: Arc<Seat>,
}

impl Journal {
    /// What is wanted from `last_id` on, else from the query's `since`, else from now. `None`: too many follow already.
    pub async fn follow(&self, query: EventQuery, last_id: Option<u64>) -> Option<Follower> {
        let seat = self.shared.seats.take()?;
        let published = self.shared.published.subscribe();
        let cursor = match (last_id, query.since) {
            (Some(id), _) | (None, Some(Since::Id(id))) => id,
            (None, Some(Since::Time(time))) => self.before(time).await,
            (None, None) => *published.borrow(),
        };
        let is_open = self.shared.is_open.subscribe();
        Some(Follower { journal: self.clone(), query, cursor, page: VecDeque::new(), published, is_open, seat })
    }
}

impl Follower {
    /// Says that somebody is there, whether anything happens or not.
    pub(super) fn presence(&self) -> impl Fn() + Send + 'static + use<> {
        let seat = Arc::clone(&self.seat);
        move || seat.look()
    }

    /// The next event, however long that takes; `None` when the journal is closed and all was told, or when
    /// nobody took anything for so long that another has the place.
    pub async fn next(&mut self) -> Option<Arc<Event>> {
        loop {
            self.seat.look();
            if self.seat.is_lost() {
                return None;
            }
            if let Some(event) = self.page.pop_front() {
                return Some(event);
            }
            let newest = *self.published.borrow_and_update();
            if self.cursor != newest {
                let page = self.journal.page(self.cursor, &self.query, PAGE).await;
                (self.page, self.cursor) = (page.events.into(), page.next);
            } else {
                tokio::select! {
                    biased;
                    changed = self.published.changed() => changed.ok()?,
                    _ = self.is_open.wait_for(|is_open| !*is_open) => return None,
                }
            }
        }
    }
}
