//! Places for those who follow: bounded, and taken from who has not looked for long.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Those who follow at once; more are refused.
const SEATS_MAX: usize = 64;
/// A connection that takes nothing is not asked for more, not even for a sign of life every 15 s: so long it may keep its
/// place while others want one.
const STALLED_MS: u64 = 60_000;

/// All places.
#[derive(Debug)]
pub(super) struct Seats {
    opened: Instant,
    taken: Mutex<Vec<Arc<Seat>>>,
}

/// One place; given back when its follower is dropped.
#[derive(Debug)]
pub(super) struct Seat {
    opened: Instant,
    /// When its follower looked last, in ms.
    looked_ms: AtomicU64,
    is_lost: AtomicBool,
}

impl Seats {
    pub(super) fn new() -> Self {
        Self { opened: Instant::now(), taken: Mutex::default() }
    }

    /// A place, if there is one, or one that somebody does not use.
    pub(super) fn take(&self) -> Option<Arc<Seat>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.retain(|seat| Arc::strong_count(seat) > 1);
        if taken.len() >= SEATS_MAX {
            let now_ms = now_ms(self.opened);
            let is_stalled =
                |seat: &Arc<Seat>| now_ms.saturating_sub(seat.looked_ms.load(Ordering::Relaxed)) > STALLED_MS;
            let stalled = taken.iter().position(is_stalled)?;
            taken.swap_remove(stalled).is_lost.store(true, Ordering::Relaxed);
        }
        let looked_ms = AtomicU64::new(now_ms(self.opened));
        let seat = Arc::new(Seat { opened: self.opened, looked_ms, is_lost: AtomicBool::new(false) });
        taken.push(Arc::clone(&seat));
        Some(seat)
    }
}

impl Seat {
    /// Its follower is there.
    pub(super) fn look(&self) {
        self.looked_ms.store(now_ms(self.opened), Ordering::Relaxed);
    }

    /// Somebody else has the place now.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }
}

fn now_ms(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// EVNT-27
    #[test]
    fn who_does_not_look_for_long_loses_the_place_to_who_wants_one() {
        let opened = Instant::now().checked_sub(Duration::from_secs(3_600)).unwrap();
        let seats = Seats { opened, taken: Mutex::default() };
        let taken: Vec<_> = (0..SEATS_MAX).map(|_| seats.take().unwrap()).collect();
        assert!(seats.take().is_none(), "all look");
        taken[7].looked_ms.store(0, Ordering::Relaxed);
        let late = seats.take().unwrap();
        assert_eq!(taken.iter().position(|seat| seat.is_lost()), Some(7));
        assert!(seats.take().is_none() && !late.is_lost());
        drop(taken);
        assert!(seats.take().is_some(), "who goes gives the place back");
    }
}
