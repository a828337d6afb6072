//! Every change by table, convergence by property.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use rbee_api::assignment::{Engine, LimitsSpec, LogSpec, RestartSpec};
use rbee_api::{Assignment, WorkerSpec};

use super::*;

pub(crate) fn worker(name: &str, replica: u32, desired: Desired) -> WorkerAssignment {
    let spec = WorkerSpec {
        engine: Engine::Command { command: vec!["sleep".into(), "1".into()] },
        env: BTreeMap::new(),
        working_dir: None,
        pid_file: None,
        start_timeout_ms: 1,
        start_timeout_grows: false,
        stop_timeout_ms: 1,
        stop_signal: "TERM".into(),
        ready: "started".into(),
        health: None,
        restart: RestartSpec {
            policy: "always".into(),
            backoff_min_ms: 1,
            backoff_max_ms: 2,
            max_restarts: 5,
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
    };
    WorkerAssignment::new(ReplicaId { name: name.into(), replica }, Arc::new(spec), None, desired)
}

fn words(operations: &[Operation]) -> Vec<String> {
    operations.iter().map(ToString::to_string).collect()
}

fn carry_out(wanted: &[WorkerAssignment], told: &mut Told) -> Vec<String> {
    let operations = plan(wanted, told);
    for operation in &operations {
        told.note(operation);
    }
    words(&operations)
}

fn told(workers: &[WorkerAssignment]) -> Told {
    let mut told = Told::default();
    carry_out(workers, &mut told);
    told
}

#[test]
fn every_change_of_one_replica_has_its_operations() {
    use Desired::{Killed, Running, Stopped};
    type Edit = fn(&mut WorkerAssignment);
    let cases: [(Desired, Edit, &[&str]); 15] = [
        (Running, |_| {}, &[]),
        (Stopped, |_| {}, &[]),
        (Running, |w| w.desired = Stopped, &["stop w/0"]),
        (Running, |w| w.desired = Killed, &["kill w/0"]),
        (Stopped, |w| w.desired = Killed, &["kill w/0"]),
        (Killed, |w| w.desired = Running, &["start w/0"]),
        (Running, |w| w.restart_generation = 1, &["restart w/0"]),
        (Running, |w| w.retry_generation = 1, &["retry w/0"]),
        (
            Running,
            |w| {
                w.retry_generation = 2;
                w.forced_generation = 2;
            },
            &["retry, forced: w/0"],
        ),
        (Stopped, |w| w.restart_generation = 1, &[]),
        (Running, |w| w.spec_mut().stop_timeout_ms = 9, &["update w/0"]),
        (Stopped, |w| w.spec_mut().working_dir = Some("/".into()), &["update w/0"]),
        (Running, |w| w.spec_mut().working_dir = Some("/".into()), &["update w/0"]),
        (
            Running,
            |w| {
                w.spec_mut().env.insert("A".into(), "b".into());
                w.restart_generation = 3;
                w.retry_generation = 3;
            },
            &["update w/0", "restart w/0"],
        ),
        (
            Running,
            |w| {
                w.spec_mut().working_dir = Some("/".into());
                w.desired = Stopped;
            },
            &["stop w/0", "update w/0"],
        ),
    ];
    for (desired, edit, expected) in cases {
        let mut told = told(&[worker("w", 0, desired)]);
        let mut wanted = worker("w", 0, desired);
        edit(&mut wanted);
        let wanted = [wanted];
        assert_eq!(carry_out(&wanted, &mut told), expected, "{desired:?} → {wanted:?}");
        assert!(plan(&wanted, &told).is_empty(), "twice: {wanted:?}");
    }
}

#[test]
fn what_ends_comes_before_what_starts() {
    use Desired::{Running, Stopped};
    let mut told = told(&[worker("a", 0, Running), worker("b", 0, Running), worker("c", 0, Stopped)]);
    let wanted = [worker("b", 0, Stopped), worker("c", 0, Running), worker("d", 0, Running)];
    assert_eq!(carry_out(&wanted, &mut told), ["stop b/0", "remove a/0", "declare d/0", "start c/0", "start d/0"]);
}

#[test]
fn one_that_is_wanted_again_while_it_goes_is_started_again() {
    let wanted = [worker("w", 0, Desired::Running)];
    let mut told = told(&wanted);
    assert_eq!(carry_out(&[], &mut told), ["remove w/0"]);
    assert_eq!(carry_out(&[], &mut told), [""; 0], "it is told once");
    assert_eq!(carry_out(&wanted, &mut told), ["update w/0", "start w/0"]);
    assert!(plan(&wanted, &told).is_empty());
}

#[test]
fn a_smaller_generation_of_the_same_fleet_does_nothing_and_another_fleet_counts_from_zero() {
    let mut first = worker("w", 0, Desired::Running);
    first.restart_generation = 5;
    let mut told = told(&[first]);
    let mut second = worker("w", 0, Desired::Running);
    second.restart_generation = 4;
    assert!(plan(std::slice::from_ref(&second), &told).is_empty());
    told.forget_generations();
    assert_eq!(words(&plan(&[second], &told)), ["restart w/0"]);
    assert!(plan(&[worker("w", 0, Desired::Running)], &told).is_empty());
}

fn any_worker() -> impl Strategy<Value = WorkerAssignment> {
    let desired = prop_oneof![3 => Just(Desired::Running), 1 => Just(Desired::Stopped), 1 => Just(Desired::Killed)];
    (0u32..5, desired, 0u64..3, 0u64..3, 0u64..2, any::<bool>()).prop_map(
        |(replica, desired, restart, retry, timeout, other_dir)| {
            let mut worker = worker("w", replica, desired);
            worker.restart_generation = restart;
            worker.retry_generation = retry;
            worker.spec_mut().stop_timeout_ms = timeout;
            worker.spec_mut().working_dir = other_dir.then(|| "/".to_owned());
            worker
        },
    )
}

fn any_workers() -> impl Strategy<Value = Vec<WorkerAssignment>> {
    prop::collection::vec(any_worker(), 0..6).prop_map(|workers| {
        let by_id: BTreeMap<_, _> = workers.into_iter().map(|worker| (worker.id.clone(), worker)).collect();
        by_id.into_values().collect()
    })
}

proptest! {
    /// HIVE-01
    #[test]
    fn it_converges_whatever_came_before(history in prop::collection::vec((any_workers(), any::<bool>()), 1..8)) {
        let mut told = Told::default();
        for (wanted, all_gone) in &history {
            carry_out(wanted, &mut told);
            prop_assert!(plan(wanted, &told).is_empty(), "applying twice yields nothing");
            if *all_gone {
                for gone in told.units.clone().into_values().filter(|unit| unit.removing) {
                    told.removed(&gone.worker.id);
                }
            }
        }
        let (last, _) = history.last().unwrap();
        let there: Vec<_> = told.units().filter(|unit| !unit.removing).collect();
        prop_assert_eq!(there.len(), last.len());
        for (unit, wanted) in there.iter().zip(last) {
            prop_assert_eq!(&unit.worker.id, &wanted.id);
            prop_assert_eq!(unit.worker.desired, wanted.desired);
            prop_assert_eq!(&unit.worker.spec, &wanted.spec);
            if wanted.desired == Desired::Running {
                prop_assert!(unit.worker.restart_generation >= wanted.restart_generation);
                prop_assert!(unit.worker.retry_generation >= wanted.retry_generation);
            }
        }
    }

    /// HIVE-01
    #[test]
    fn what_did_not_change_is_not_touched(before in any_workers(), after in any_workers()) {
        let told = told(&before);
        for operation in plan(&after, &told) {
            let find = |workers: &[WorkerAssignment]| workers.iter().find(|w| &w.id == operation.id()).cloned();
            prop_assert_ne!(find(&before), find(&after), "{:?}", operation);
        }
    }

    #[test]
    fn a_running_process_is_ended_at_most_once_a_plan(before in any_workers(), after in any_workers()) {
        let operations = plan(&after, &told(&before));
        for worker in &before {
            let ends = operations.iter().filter(|operation| operation.id() == &worker.id && matches!(
                operation,
                Operation::Remove(_) | Operation::Stop(_) | Operation::Kill(_) | Operation::Restart(..)
            ));
            prop_assert!(ends.count() <= 1);
        }
    }

    /// HIVE-02
    #[test]
    fn an_older_generation_of_the_fleet_never_wins(order in prop::collection::vec(0u64..9, 1..20)) {
        let mut newest: Option<Assignment> = None;
        for generation in &order {
            let offered = Assignment { fleet_id: "f".into(), generation: *generation, workers: Vec::new(), upgrade_generation: 0 };
            if offered.supersedes(newest.as_ref()) {
                newest = Some(offered);
            }
        }
        prop_assert_eq!(newest.map(|a| a.generation), order.iter().max().copied());
    }
}
