//! Which endpoint gets the next request: the one with the fewest in flight. Endpoints that could not be reached are
//! left out for a short while.
//!
//! ```text
//!            failed                    time is over
//!   open ─────────────▶ cut (250 ms, doubling to 5 s) ─────────────▶ open, failures remembered
//!     ▲                                                                │
//!     └────────────────────────── answered: failures forgotten ────────┘
//! ```
//!
//! The key is one incarnation at one address: a worker that was started again begins as open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::routes::Endpoint;

const CUT_MIN: Duration = Duration::from_millis(250);
const CUT_MAX: Duration = Duration::from_secs(5);
/// Endpoints remembered; those nobody uses are forgotten beyond this.
const REMEMBERED_MAX: usize = 1024;

/// The loads of all endpoints.
#[derive(Debug, Default)]
pub(super) struct Picker {
    loads: Mutex<HashMap<Endpoint, Load>>,
}

#[derive(Debug, Default)]
struct Load {
    in_flight: usize,
    served: u64,
    failures: u32,
    cut_until: Option<Instant>,
}

/// What there is to choose from.
pub(super) enum Pick {
    /// This one; it counts as in flight until the guard is dropped.
    Ready(InFlight),
    /// None now; the first cut one opens then.
    None { opens_at: Option<Instant> },
}

/// One request in flight.
#[derive(Debug)]
pub(super) struct InFlight {
    picker: Arc<Picker>,
    endpoint: Endpoint,
}

impl InFlight {
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.picker.change(&self.endpoint, |load| load.in_flight = load.in_flight.saturating_sub(1));
    }
}

impl Picker {
    /// The endpoint with the fewest in flight; among equals the one that has served least, then the first.
    pub(super) fn pick(self: &Arc<Self>, endpoints: &[Endpoint], excluded: &[Endpoint], now: Instant) -> Pick {
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        if loads.len() > REMEMBERED_MAX {
            loads.retain(|endpoint, load| load.in_flight > 0 || endpoints.contains(endpoint));
        }
        let candidates = || endpoints.iter().filter(|endpoint| !excluded.contains(endpoint));
        let load_of = |endpoint: &Endpoint| loads.get(endpoint).map_or((0, 0), |load| (load.in_flight, load.served));
        let cut_until =
            |endpoint: &Endpoint| loads.get(endpoint).and_then(|load| load.cut_until).filter(|until| *until > now);
        let best = candidates().filter(|endpoint| cut_until(endpoint).is_none()).min_by_key(|e| load_of(e)).cloned();
        let Some(endpoint) = best else {
            return Pick::None { opens_at: candidates().filter_map(cut_until).min() };
        };
        let load = loads.entry(endpoint.clone()).or_default();
        load.in_flight += 1;
        load.served += 1;
        drop(loads);
        Pick::Ready(InFlight { picker: Arc::clone(self), endpoint })
    }

    /// The endpoint could not serve: others go first for a while, longer each time.
    pub(super) fn failed(&self, endpoint: &Endpoint, now: Instant) {
        self.change(endpoint, |load| {
            let pause = CUT_MIN.saturating_mul(1 << load.failures.min(8)).min(CUT_MAX);
            load.failures = load.failures.saturating_add(1);
            load.cut_until = Some(now + pause);
        });
    }

    /// The endpoint has answered.
    pub(super) fn answered(&self, endpoint: &Endpoint) {
        self.change(endpoint, |load| {
            load.failures = 0;
            load.cut_until = None;
        });
    }

    fn change(&self, endpoint: &Endpoint, change: impl FnOnce(&mut Load)) {
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        change(loads.entry(endpoint.clone()).or_default());
    }
}

#[cfg(test)]
mod tests {
    use rbee_api::ReplicaId;

    use super::*;

    fn endpoint(replica: u32) -> Endpoint {
        Endpoint {
            hive: "h".into(),
            id: ReplicaId { name: "w".into(), replica },
            incarnation: 1,
            address: format!("127.0.0.1:{}", 7855 + replica),
            own_engine: true,
        }
    }

    fn replica(pick: &Pick) -> Option<u32> {
        match pick {
            Pick::Ready(guard) => Some(guard.endpoint().id.replica),
            Pick::None { .. } => None,
        }
    }

    #[test]
    fn the_fewest_in_flight_go_first_and_a_dropped_guard_counts_no_more() {
        let picker = Arc::new(Picker::default());
        let endpoints = [endpoint(0), endpoint(1)];
        let now = Instant::now();
        let pick = || picker.pick(&endpoints, &[], now);
        let first = pick();
        let second = pick();
        assert_eq!((replica(&first), replica(&second)), (Some(0), Some(1)));
        drop(second);
        let third = pick();
        assert_eq!(replica(&third), Some(1), "0 is still busy");
        drop((first, third));
        assert_eq!(replica(&pick()), Some(0), "both idle: 0 has served less");
    }

    #[test]
    fn a_failed_one_is_left_out_longer_each_time_until_it_answers() {
        let picker = Arc::new(Picker::default());
        let endpoints = [endpoint(0)];
        let start = Instant::now();
        picker.failed(&endpoints[0], start);
        let Pick::None { opens_at: Some(opens_at) } = picker.pick(&endpoints, &[], start) else { panic!() };
        assert_eq!(opens_at, start + CUT_MIN);
        assert!(replica(&picker.pick(&endpoints, &[], opens_at)).is_some());
        picker.failed(&endpoints[0], start);
        let Pick::None { opens_at: Some(later) } = picker.pick(&endpoints, &[], start) else { panic!() };
        assert_eq!(later, start + CUT_MIN * 2);
        picker.answered(&endpoints[0]);
        assert!(replica(&picker.pick(&endpoints, &[], start)).is_some());
    }

    #[test]
    fn a_new_incarnation_is_open_and_an_excluded_one_is_not_waited_for() {
        let picker = Arc::new(Picker::default());
        let now = Instant::now();
        picker.failed(&endpoint(0), now);
        let again = Endpoint { incarnation: 2, ..endpoint(0) };
        assert!(replica(&picker.pick(std::slice::from_ref(&again), &[], now)).is_some());
        let excluded = [again.clone()];
        assert!(matches!(picker.pick(&[again], &excluded, now), Pick::None { opens_at: None }));
    }
}
