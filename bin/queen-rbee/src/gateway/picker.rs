//! Which endpoint gets the next request: of those with room the one with the fewest in flight, or the one where the
//! conversation is warm if it is not clearly busier. Endpoints that could not be used are left out for a while.
//!
//! ```text
//!            failed                    time is over
//!   open ─────────────▶ cut (250 ms, doubling to 5 s) ─────────────▶ open, failures remembered
//!     ▲ └─ silent ────▶ cut (10 s, doubling to 60 s) ──────────────────┤
//!     │                                                                │
//!     └────────────────────────── answered: failures forgotten ────────┘
//! ```
//!
//! The key is one incarnation at one address: a worker that was started again begins as open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rbee_api::ReplicaId;

use super::lanes::Lane;
use crate::activity::{Activity, InUse};
use crate::routes::Endpoint;

const CUT_MIN: Duration = Duration::from_millis(250);
const CUT_MAX: Duration = Duration::from_secs(5);
/// One that hangs costs each request its patience; its hive will find out and start it again.
const SILENT_CUT_MIN: Duration = Duration::from_secs(10);
const SILENT_CUT_MAX: Duration = Duration::from_secs(60);
/// Endpoints remembered; those nobody uses are forgotten beyond this.
const REMEMBERED_MAX: usize = 1024;
/// How much busier than the least busy one a warm worker may be.
const WARM_EXCESS_MAX: usize = 1;

/// The loads of all endpoints.
#[derive(Debug, Default)]
pub(super) struct Picker {
    loads: Mutex<HashMap<Endpoint, Load>>,
    activity: Arc<Activity>,
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
    /// None now.
    None {
        /// When the first cut one opens.
        opens_at: Option<Instant>,
        /// Whether one is open and has no room.
        full: bool,
    },
}

/// Whom to choose from, and how.
pub(super) struct Choice<'c> {
    /// In a stable order.
    pub(super) endpoints: &'c [Endpoint],
    /// Only our own engines.
    pub(super) own_only: bool,
    /// Not these.
    pub(super) excluded: &'c [Endpoint],
    /// Where the conversation is warm.
    pub(super) warm: Option<&'c ReplicaId>,
    /// How many requests an endpoint takes at once; `None`: as many as there are.
    pub(super) room: &'c dyn Fn(&Endpoint) -> Option<usize>,
}

/// One request in flight.
#[derive(Debug)]
pub(super) struct InFlight {
    picker: Arc<Picker>,
    endpoint: Endpoint,
    lane: Arc<Lane>,
    _used: InUse,
}

impl InFlight {
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.picker.change(&self.endpoint, |load| load.in_flight = load.in_flight.saturating_sub(1));
        self.lane.freed();
    }
}

impl Picker {
    /// One that tells `activity` what it sends where.
    pub(super) fn new(activity: Arc<Activity>) -> Self {
        Self { loads: Mutex::default(), activity }
    }

    /// The open endpoint with the fewest in flight; among equals the one that has served least, then the first.
    pub(super) fn pick(self: &Arc<Self>, choice: &Choice<'_>, lane: &Arc<Lane>, now: Instant) -> Pick {
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        if loads.len() > REMEMBERED_MAX {
            loads.retain(|endpoint, load| load.in_flight > 0 || choice.endpoints.contains(endpoint));
        }
        let (mut opens_at, mut full) = (None::<Instant>, false);
        let (mut best, mut warm) = (None::<((usize, u64), &Endpoint)>, None::<(usize, &Endpoint)>);
        for endpoint in choice.endpoints {
            if choice.excluded.contains(endpoint) || (choice.own_only && !endpoint.own_engine) {
                continue;
            }
            let (in_flight, served, cut_until) = loads.get(endpoint).map_or((0, 0, None), |load| {
                (load.in_flight, load.served, load.cut_until.filter(|until| *until > now))
            });
            if let Some(until) = cut_until {
                opens_at = Some(opens_at.map_or(until, |earlier| earlier.min(until)));
                continue;
            }
            if (choice.room)(endpoint).is_some_and(|room| in_flight >= room) {
                full = true;
                continue;
            }
            if best.is_none_or(|(load, _)| (in_flight, served) < load) {
                best = Some(((in_flight, served), endpoint));
            }
            if choice.warm == Some(&endpoint.id) {
                warm = Some((in_flight, endpoint));
            }
        }
        let Some(((fewest, _), best)) = best else { return Pick::None { opens_at, full } };
        let endpoint = match warm {
            Some((in_flight, warm)) if in_flight <= fewest + WARM_EXCESS_MAX => warm,
            _ => best,
        }
        .clone();
        of(&mut loads, &endpoint, |load| {
            load.in_flight += 1;
            load.served += 1;
        });
        drop(loads);
        let used = self.activity.begin(&endpoint.hive, &endpoint.id);
        Pick::Ready(InFlight { picker: Arc::clone(self), endpoint, lane: Arc::clone(lane), _used: used })
    }

    /// The endpoint could not serve: others go first for a while, longer each time.
    pub(super) fn failed(&self, endpoint: &Endpoint, now: Instant) {
        self.cut(endpoint, now, CUT_MIN, CUT_MAX);
    }

    /// The endpoint said nothing for too long.
    pub(super) fn silent(&self, endpoint: &Endpoint, now: Instant) {
        self.cut(endpoint, now, SILENT_CUT_MIN, SILENT_CUT_MAX);
    }

    fn cut(&self, endpoint: &Endpoint, now: Instant, min: Duration, max: Duration) {
        self.change(endpoint, |load| {
            let pause = min.saturating_mul(1 << load.failures.min(8)).min(max);
            load.failures = load.failures.saturating_add(1);
            load.cut_until = load.cut_until.max(Some(now + pause));
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
        of(&mut loads, endpoint, change);
    }
}

/// A name is copied once, not for each request.
fn of(loads: &mut HashMap<Endpoint, Load>, endpoint: &Endpoint, change: impl FnOnce(&mut Load)) {
    match loads.get_mut(endpoint) {
        Some(load) => change(load),
        None => change(loads.entry(endpoint.clone()).or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::lanes::Lanes;
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

    fn choice(endpoints: &[Endpoint]) -> Choice<'_> {
        Choice { endpoints, own_only: false, excluded: &[], warm: None, room: &|_| None }
    }

    fn replica(pick: &Pick) -> Option<u32> {
        match pick {
            Pick::Ready(guard) => Some(guard.endpoint().id.replica),
            Pick::None { .. } => None,
        }
    }

    #[test]
    fn the_fewest_in_flight_go_first_and_a_dropped_guard_counts_no_more() {
        let (picker, lane) = (Arc::new(Picker::default()), Lanes::new(1).of("m"));
        let endpoints = [endpoint(0), endpoint(1)];
        let now = Instant::now();
        let pick = || picker.pick(&choice(&endpoints), &lane, now);
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
        let (picker, lane) = (Arc::new(Picker::default()), Lanes::new(1).of("m"));
        let endpoints = [endpoint(0)];
        let start = Instant::now();
        let pick = |now| picker.pick(&choice(&endpoints), &lane, now);
        picker.failed(&endpoints[0], start);
        let Pick::None { opens_at: Some(opens_at), .. } = pick(start) else { panic!() };
        assert_eq!(opens_at, start + CUT_MIN);
        assert!(replica(&pick(opens_at)).is_some());
        picker.failed(&endpoints[0], start);
        let Pick::None { opens_at: Some(later), .. } = pick(start) else { panic!() };
        assert_eq!(later, start + CUT_MIN * 2);
        picker.answered(&endpoints[0]);
        assert!(replica(&pick(start)).is_some());
        picker.silent(&endpoints[0], start);
        let Pick::None { opens_at: Some(later), .. } = pick(start) else { panic!() };
        assert_eq!(later, start + SILENT_CUT_MIN);
    }

    #[test]
    fn a_new_incarnation_is_open_and_an_excluded_one_is_not_waited_for() {
        let (picker, lane) = (Arc::new(Picker::default()), Lanes::new(1).of("m"));
        let now = Instant::now();
        picker.failed(&endpoint(0), now);
        let again = [Endpoint { incarnation: 2, ..endpoint(0) }];
        assert!(replica(&picker.pick(&choice(&again), &lane, now)).is_some());
        let excluded = Choice { excluded: &again, ..choice(&again) };
        assert!(matches!(picker.pick(&excluded, &lane, now), Pick::None { opens_at: None, full: false }));
        let foreign = [Endpoint { own_engine: false, ..endpoint(0) }];
        let own_only = Choice { own_only: true, ..choice(&foreign) };
        assert_eq!(replica(&picker.pick(&own_only, &lane, now)), None);
    }

    /// GATE-13
    #[test]
    fn a_warm_worker_is_preferred_unless_it_is_clearly_busier_or_full() {
        let (picker, lane) = (Arc::new(Picker::default()), Lanes::new(1).of("m"));
        let endpoints = [endpoint(0), endpoint(1)];
        let now = Instant::now();
        let warm = Choice { warm: Some(&endpoints[1].id), ..choice(&endpoints) };
        let picks: Vec<Pick> = (0..3).map(|_| picker.pick(&warm, &lane, now)).collect();
        assert_eq!(picks.iter().map(replica).collect::<Vec<_>>(), [Some(1), Some(1), Some(0)]);
        let full = Choice { room: &|endpoint| (endpoint.id.replica == 1).then_some(2), ..warm };
        assert_eq!(replica(&picker.pick(&full, &lane, now)), Some(0));
    }

    /// GATE-11
    #[tokio::test]
    async fn a_full_one_is_said_to_be_full_and_who_leaves_wakes_who_waits() {
        let (picker, lane) = (Arc::new(Picker::default()), Lanes::new(1).of("m"));
        let endpoints = [endpoint(0)];
        let one = Choice { room: &|_| Some(1), ..choice(&endpoints) };
        let held = picker.pick(&one, &lane, Instant::now());
        assert!(matches!(picker.pick(&one, &lane, Instant::now()), Pick::None { opens_at: None, full: true }));
        let freed = lane.until_freed();
        drop(held);
        freed.await;
        assert!(replica(&picker.pick(&one, &lane, Instant::now())).is_some());
    }
}
