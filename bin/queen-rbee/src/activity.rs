//! What each worker has in flight, and since when it has nothing. The gateway counts, [`crate::upkeep`] and drains read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rbee_api::ReplicaId;
use tokio::sync::watch;

/// A replica on a hive; while it moves, it is on two.
pub type Place = (String, ReplicaId);

/// How much a replica is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// Requests not answered to their end.
    pub in_flight: usize,
    /// Since when that is 0, or when the last request began.
    pub since: Instant,
}

/// What all replicas have in flight.
#[derive(Debug)]
pub struct Activity {
    uses: Mutex<HashMap<Place, Use>>,
    idle: watch::Sender<()>,
}

/// One request in flight, until it is dropped.
#[derive(Debug)]
pub struct InUse {
    activity: Arc<Activity>,
    place: Place,
}

impl Default for Activity {
    fn default() -> Self {
        Self { uses: Mutex::default(), idle: watch::channel(()).0 }
    }
}

impl Activity {
    /// A request goes to a replica.
    #[must_use]
    pub fn begin(self: &Arc<Self>, hive: &str, id: &ReplicaId) -> InUse {
        let place = (hive.to_owned(), id.clone());
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match uses.get_mut(&place) {
            Some(used) => *used = Use { in_flight: used.in_flight + 1, since: now },
            None => drop(uses.insert(place.clone(), Use { in_flight: 1, since: now })),
        }
        drop(uses);
        InUse { activity: Arc::clone(self), place }
    }

    /// How much a replica is used; nothing of one that never was.
    #[must_use]
    pub fn of(&self, hive: &str, id: &ReplicaId) -> Option<Use> {
        let uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        uses.get(&(hive.to_owned(), id.clone())).copied()
    }

    /// The replicas meant that have something in flight, and how much.
    #[must_use]
    pub fn busy(&self, is_meant: impl Fn(&Place) -> bool) -> Vec<(Place, usize)> {
        let uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let busy = uses.iter().filter(|(place, used)| used.in_flight > 0 && is_meant(place));
        busy.map(|(place, used)| (place.clone(), used.in_flight)).collect()
    }

    /// Changes whenever a replica has nothing in flight any more.
    #[must_use]
    pub fn idles(&self) -> watch::Receiver<()> {
        self.idle.subscribe()
    }

    /// Forgets replicas that are not there any more.
    pub fn forget(&self, is_there: impl Fn(&Place) -> bool) {
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        uses.retain(|place, used| used.in_flight > 0 || is_there(place));
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut uses = self.activity.uses.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(used) = uses.get_mut(&self.place) else { return };
        used.in_flight = used.in_flight.saturating_sub(1);
        if used.in_flight == 0 {
            used.since = Instant::now();
            drop(uses);
            self.activity.idle.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_one_to_end_makes_it_idle() {
        let activity = Arc::new(Activity::default());
        let id = ReplicaId { name: "w".into(), replica: 0 };
        let mut idles = activity.idles();
        let in_flight = || activity.of("h", &id).map(|used| used.in_flight);
        assert_eq!(in_flight(), None);
        let (first, second) = (activity.begin("h", &id), activity.begin("h", &id));
        drop(first);
        assert_eq!((in_flight(), idles.has_changed().unwrap()), (Some(1), false));
        let since = activity.of("h", &id).unwrap().since;
        drop(second);
        assert_eq!((in_flight(), idles.has_changed().unwrap()), (Some(0), true));
        assert!(activity.of("h", &id).unwrap().since >= since);
        idles.mark_unchanged();
        activity.forget(|_| false);
        assert_eq!(in_flight(), None);
    }
}
