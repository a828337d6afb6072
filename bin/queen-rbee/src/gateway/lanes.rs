//! Who goes next: one bounded line a model.
//!
//! ```text
//!   new ──▶ place in the line? ──no──▶ 429 queue_full
//!              │ yes
//!              ▼
//!           [ … ] ──its turn──▶ looks for a worker; sleeps until one is freed or the fleet changes ──▶ gone, next
//!
//!   broke off in an answer ──▶ before the line: its client has seen the beginning
//! ```
//!
//! Whoever is dropped anywhere gives back what it had.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

/// The lines of all models.
#[derive(Debug)]
pub(super) struct Lanes {
    places: usize,
    /// Only models of the config are ever asked for here, so they are few.
    lanes: Mutex<HashMap<String, Arc<Lane>>>,
}

/// The line of one model.
#[derive(Debug)]
pub(super) struct Lane {
    places: Arc<Semaphore>,
    places_max: usize,
    turn: Arc<tokio::sync::Mutex<()>>,
    before: AtomicUsize,
    freed: Notify,
}

/// The right to look for a worker. The next in the line has it when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _guard: OwnedMutexGuard<()>,
}

/// A place in the line.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
}

/// A place before the line.
#[derive(Debug)]
pub(super) struct Before(Arc<Lane>);

impl Lanes {
    /// Lines with so many places each.
    pub(super) fn new(places: u32) -> Self {
        Self { places: places as usize, lanes: Mutex::default() }
    }

    /// The line of a model.
    pub(super) fn of(&self, model: &str) -> Arc<Lane> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(model) {
            return Arc::clone(lane);
        }
        let lane = Arc::new(Lane {
            places: Arc::new(Semaphore::new(self.places)),
            places_max: self.places,
            turn: Arc::default(),
            before: AtomicUsize::new(0),
            freed: Notify::new(),
        });
        lanes.insert(model.to_owned(), Arc::clone(&lane));
        lane
    }

    /// How many wait, by model.
    pub(super) fn depths(&self) -> Vec<(String, usize)> {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        lanes.iter().map(|(model, lane)| (model.clone(), lane.depth())).collect()
    }
}

impl Lane {
    /// A place; `None` when all are taken.
    pub(super) fn place(&self) -> Option<Place> {
        Arc::clone(&self.places).try_acquire_owned().ok().map(|permit| Place { _permit: permit })
    }

    /// The turn, if nobody waits for it.
    pub(super) fn try_turn(&self) -> Option<Turn> {
        Arc::clone(&self.turn).try_lock_owned().ok().map(|guard| Turn { _guard: guard })
    }

    /// The turn, when those before have had it.
    pub(super) async fn turn(&self) -> Turn {
        Turn { _guard: Arc::clone(&self.turn).lock_owned().await }
    }

    /// A place before the line.
    pub(super) fn before(self: &Arc<Self>) -> Before {
        self.before.fetch_add(1, Ordering::AcqRel);
        Before(Arc::clone(self))
    }

    /// Whether somebody stands before the line.
    pub(super) fn somebody_before(&self) -> bool {
        self.before.load(Ordering::Acquire) > 0
    }

    /// A worker has room again, or the way to it is clear.
    pub(super) fn freed(&self) {
        self.freed.notify_waiters();
    }

    /// Resolves at the next [`Lane::freed`] after this call.
    pub(super) fn until_freed(&self) -> tokio::sync::futures::Notified<'_> {
        self.freed.notified()
    }

    fn depth(&self) -> usize {
        self.places_max.saturating_sub(self.places.available_permits()) + self.before.load(Ordering::Acquire)
    }
}

impl Drop for Before {
    fn drop(&mut self) {
        self.0.before.fetch_sub(1, Ordering::AcqRel);
        self.0.freed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// GATE-11
    #[tokio::test]
    async fn turns_come_in_the_order_of_asking_and_whoever_leaves_is_passed_over() {
        let lane = Lanes::new(4).of("m");
        let first = lane.try_turn().unwrap();
        assert!(lane.try_turn().is_none());
        let waiting = |name: &'static str| {
            let lane = Arc::clone(&lane);
            tokio::spawn(async move {
                let turn = lane.turn().await;
                (name, turn)
            })
        };
        let second = waiting("second");
        tokio::task::yield_now().await;
        let third = waiting("third");
        tokio::task::yield_now().await;
        second.abort();
        assert!(second.await.is_err());
        drop(first);
        assert_eq!(third.await.unwrap().0, "third");
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let lanes = Lanes::new(2);
        let lane = lanes.of("m");
        let (a, b) = (lane.place().unwrap(), lane.place().unwrap());
        assert!(lane.place().is_none());
        assert!(lanes.of("other").place().is_some(), "each model has its own line");
        assert_eq!(lanes.depths().iter().map(|(_, depth)| depth).sum::<usize>(), 2);
        drop(a);
        let _before = lane.before();
        assert!(lane.place().is_some() && lane.somebody_before());
        drop(b);
        assert_eq!(lane.depth(), 1);
    }
}
