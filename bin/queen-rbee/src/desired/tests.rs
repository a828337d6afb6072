//! What is wanted, order by order, and what hives are told of it.

use proptest::prelude::*;
use rbee_api::assignment::{Engine, LimitsSpec, LogSpec, RestartSpec};

use super::*;
use crate::placement::Standing;

/// A worker that could be run, were there a hive.
pub(crate) fn wish(replicas: u32) -> Wish {
    Wish {
        spec: WorkerSpec {
            engine: Engine::Command { command: vec!["true".into()] },
            env: BTreeMap::new(),
            working_dir: None,
            pid_file: None,
            start_timeout_ms: 1000,
            start_timeout_grows: false,
            stop_timeout_ms: 1000,
            stop_signal: "TERM".into(),
            ready: "started".into(),
            health: None,
            restart: RestartSpec {
                policy: "always".into(),
                backoff_min_ms: 1,
                backoff_max_ms: 1,
                max_restarts: 1,
                within_ms: 1,
                reset_after_ms: 1,
            },
            depends_on: Vec::new(),
            limits: LimitsSpec::default(),
            stale_locks: Vec::new(),
            log: LogSpec::default(),
            forking: false,
            listen: None,
            watchdog_ms: None,
            on: BTreeMap::new(),
            thresholds: None,
        },
        model: Some(ModelSpec { name: "m".into(), source: "file:/m.gguf".into(), sha256: None }),
        replicas,
        auto_start: true,
        on_demand: None,
    }
}

/// A hive that was seen once.
pub(crate) fn record() -> HiveRecord {
    HiveRecord {
        machine_id: "machine".into(),
        url: "http://127.0.0.1:1".into(),
        cores: 4,
        last_seen_ms: 1,
        generation: 0,
        workers: Vec::new(),
    }
}

fn open(name: &str) -> Candidate {
    Candidate { name: name.into(), standing: Standing::Open, cores: 4 }
}

fn fleet_of(hives: &[&str]) -> DesiredState {
    let mut state = DesiredState::new("fleet".into());
    state.hives = hives.iter().map(|name| ((*name).to_owned(), record())).collect();
    state
}

#[test]
fn a_generation_rises_only_where_the_content_changes() {
    let wishes = Wishes::from([("v".into(), wish(1)), ("w".into(), wish(1))]);
    let mut state = fleet_of(&["a", "b"]);
    let hives = [open("a"), open("b")];
    state.replan(&wishes, &hives);
    let (a, b) = (state.hives["a"].generation, state.hives["b"].generation);
    assert!(a > 0 && b > 0);

    state.replan(&wishes, &hives);
    assert_eq!((state.hives["a"].generation, state.hives["b"].generation), (a, b));

    let on_a = state.hives["a"].workers[0].id.clone();
    assert!(state.order(&on_a, &wishes[&on_a.name], Desired::Stopped));
    state.replan(&wishes, &hives);
    assert!(state.hives["a"].generation > a.max(b));
    assert_eq!(state.hives["b"].generation, b);
}

#[test]
fn orders_that_say_what_the_config_says_are_forgotten() {
    let wishes = Wishes::from([("w".into(), wish(2))]);
    let mut state = fleet_of(&["a"]);
    let id = ReplicaId { name: "w".into(), replica: 0 };
    assert!(!state.order(&id, &wishes["w"], Desired::Running), "it shall run already");
    assert!(state.order(&id, &wishes["w"], Desired::Killed));
    assert!(!state.order(&id, &wishes["w"], Desired::Killed));
    assert!(state.order(&id, &wishes["w"], Desired::Running));
    assert_eq!(state.orders[&id].desired, None);
    assert!(state.scale("w", &wishes["w"], 3));
    assert!(!state.scale("w", &wishes["w"], 3));
    assert!(state.scale("w", &wishes["w"], 2));
    assert!(state.scaled.is_empty());
}

#[test]
fn a_replica_scaled_away_and_back_is_a_new_one_with_higher_numbers() {
    let wishes = Wishes::from([("w".into(), wish(2))]);
    let mut state = fleet_of(&["a"]);
    let id = ReplicaId { name: "w".into(), replica: 1 };
    state.order_restart(&id, false);
    let first = state.orders[&id].restart_generation;
    state.order(&id, &wishes["w"], Desired::Stopped);
    for replicas in [1, 2] {
        state.scale("w", &wishes["w"], replicas);
        state.replan(&wishes, &[open("a")]);
    }
    assert_eq!(state.desired(&id, &wishes["w"]), Desired::Running);
    state.order_restart(&id, false);
    assert!(state.orders[&id].restart_generation > first, "a hive that missed it all still sees a newer number");
}

#[test]
fn a_worker_that_does_not_start_by_itself_is_placed_and_stopped() {
    let wishes = Wishes::from([("w".into(), Wish { auto_start: false, ..wish(1) })]);
    let mut state = fleet_of(&["a"]);
    state.replan(&wishes, &[open("a")]);
    let id = ReplicaId { name: "w".into(), replica: 0 };
    let (hive, assigned) = state.assigned(&id).unwrap();
    assert_eq!((hive, assigned.desired), ("a", Desired::Stopped));
}

proptest! {
    #[test]
    fn generations_never_fall_and_equal_content_keeps_its_number(
        steps in prop::collection::vec((0u8..5, 0u32..3, any::<bool>(), any::<bool>()), 1..20),
    ) {
        let wishes = Wishes::from([("v".into(), wish(1)), ("w".into(), wish(2))]);
        let mut state = fleet_of(&["a", "b"]);
        for (what, replica, a_open, b_open) in steps {
            let before = state.clone();
            let id = ReplicaId { name: "w".into(), replica };
            match what {
                0 => drop(state.order(&id, &wishes["w"], Desired::Stopped)),
                1 => drop(state.order(&id, &wishes["w"], Desired::Running)),
                2 => state.order_restart(&id, false),
                3 => drop(state.scale("w", &wishes["w"], replica)),
                _ => {}
            }
            let standing = |open| if open { Standing::Open } else { Standing::Gone };
            let hives = [
                Candidate { name: "a".into(), standing: standing(a_open), cores: 1 },
                Candidate { name: "b".into(), standing: standing(b_open), cores: 1 },
            ];
            state.replan(&wishes, &hives);
            for (name, hive) in &state.hives {
                let old = &before.hives[name];
                prop_assert_eq!(hive.generation > old.generation, hive.workers != old.workers || old.generation == 0);
                prop_assert!(hive.generation >= old.generation && hive.generation <= state.counter);
            }
            let placed: usize = state.hives.values().map(|hive| hive.workers.len()).sum();
            prop_assert_eq!(placed, state.placement.len());
        }
    }
}
