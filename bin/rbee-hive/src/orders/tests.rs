//! Verbs by table, and what outlives a restart.

use rbee_api::assignment::Engine;

use super::*;
use crate::reconcile::tests::worker;

fn configured(replicas: u32, desired: Desired) -> BTreeMap<String, Configured> {
    let template = worker("w", 0, desired);
    BTreeMap::from([("w".to_owned(), Configured { template, replicas })])
}

fn target(text: &str) -> WorkerRef {
    text.parse().unwrap()
}

fn desired(orders: &Orders) -> Vec<Desired> {
    orders.assignment().workers.iter().map(|worker| worker.desired).collect()
}

#[test]
fn verbs_change_what_is_wanted_and_only_then_the_generation() {
    use Desired::{Killed, Running, Stopped};
    let cases = [
        (Running, Verb::Start, Phase::Running, false, Running),
        (Running, Verb::Start, Phase::Failed, true, Running),
        (Running, Verb::Start, Phase::Restarting, false, Running),
        (Running, Verb::Retry, Phase::Restarting, true, Running),
        (Running, Verb::Retry, Phase::Running, false, Running),
        (Running, Verb::Restart, Phase::Running, true, Running),
        (Running, Verb::Stop, Phase::Running, true, Stopped),
        (Running, Verb::Kill, Phase::Running, true, Killed),
        (Stopped, Verb::Stop, Phase::Stopped, false, Stopped),
        (Stopped, Verb::Kill, Phase::Stopped, false, Stopped),
        (Stopped, Verb::Kill, Phase::Stopping, true, Killed),
        (Killed, Verb::Start, Phase::Stopped, true, Running),
    ];
    for (before, verb, phase, changed, after) in cases {
        let mut orders = Orders::new(configured(1, before), None);
        let edit = orders.verb(&target("w"), verb, &VerbRequest::default(), |_| phase).unwrap();
        assert_eq!((edit.changed, desired(&orders)), (changed, vec![after]), "{before:?} {verb} {phase}");
        assert_eq!(orders.assignment().generation, 1 + u64::from(changed));
    }
}

/// HIVE-16
#[test]
fn only_a_forced_retry_and_a_start_forget_the_restarts_counted() {
    for (verb, force, forced) in [(Verb::Retry, false, 0), (Verb::Retry, true, 1), (Verb::Start, false, 1)] {
        let mut orders = Orders::new(configured(1, Desired::Running), None);
        let how = VerbRequest { force, ..VerbRequest::default() };
        orders.verb(&target("w"), verb, &how, |_| Phase::Failed).unwrap();
        let worker = &orders.assignment().workers[0];
        assert_eq!((worker.retry_generation, worker.forced_generation), (1, forced), "{verb} {force}");
    }
}

/// HIVE-12
#[test]
fn what_is_started_starts_what_it_needs() {
    let mut all = BTreeMap::new();
    for (name, needs) in [("api", &["cache"][..]), ("cache", &["disk"]), ("disk", &[]), ("other", &[])] {
        let mut template = worker(name, 0, Desired::Stopped);
        template.spec_mut().depends_on = needs.iter().map(|name| (*name).to_owned()).collect();
        all.insert(name.to_owned(), Configured { template, replicas: 1 });
    }
    let mut orders = Orders::new(all, None);
    let edit = orders.verb(&target("api"), Verb::Start, &VerbRequest::default(), |_| Phase::Stopped).unwrap();
    assert_eq!((edit.changed, edit.targets.len()), (true, 1));
    use Desired::{Running, Stopped};
    assert_eq!(desired(&orders), [Running, Running, Running, Stopped]);
}

#[test]
fn only_the_replica_named_is_meant() {
    let mut orders = Orders::new(configured(3, Desired::Running), None);
    let edit = orders
        .verb(&target("w/1"), Verb::Stop, &VerbRequest { now: true, ..VerbRequest::default() }, |_| Phase::Running)
        .unwrap();
    assert_eq!(edit.targets, [ReplicaId { name: "w".into(), replica: 1 }]);
    assert_eq!(desired(&orders), [Desired::Running, Desired::Killed, Desired::Running]);
    for text in ["w/3", "v"] {
        let error = orders.verb(&target(text), Verb::Stop, &VerbRequest::default(), |_| Phase::Running).unwrap_err();
        assert_eq!(error.code, ErrorCode::WorkerNotFound, "{text}");
    }
}

#[test]
fn scale_adds_removes_and_remembers_down_to_none() {
    let mut orders = Orders::new(configured(1, Desired::Stopped), None);
    assert!(orders.scale("w", 2).unwrap().changed);
    assert_eq!(desired(&orders), [Desired::Running, Desired::Running]);
    assert!(!orders.scale("w", 2).unwrap().changed);
    let down = orders.scale("w", 0).unwrap();
    assert_eq!((down.changed, down.targets.len(), down.gone.len()), (true, 0, 2));
    assert_eq!(orders.scale("w", 1).unwrap().targets.len(), 1);
    assert_eq!(orders.scale("v", 1).unwrap_err().code, ErrorCode::WorkerNotFound);
    assert_eq!(orders.scale("w", 100_000).unwrap_err().code, ErrorCode::InvalidParameter);
}

#[test]
fn verbs_outlive_a_restart_until_the_config_says_something_new() {
    let mut orders = Orders::new(configured(2, Desired::Running), None);
    orders.verb(&target("w/0"), Verb::Stop, &VerbRequest::default(), |_| Phase::Running).unwrap();
    orders.verb(&target("w/1"), Verb::Restart, &VerbRequest::default(), |_| Phase::Running).unwrap();
    let text = serde_json::to_string(&orders.to_stored()).unwrap();
    let stored: StoredOrders = serde_json::from_str(&text).unwrap();

    let again = Orders::new(configured(2, Desired::Running), Some(&stored));
    assert_eq!(again.assignment(), orders.assignment(), "nothing changed: the same generation");

    let other = Orders::new(configured(3, Desired::Stopped), Some(&stored));
    assert_eq!(desired(&other), [Desired::Stopped; 3]);
    assert_eq!(other.assignment().generation, orders.assignment().generation + 1);
    assert_eq!(other.assignment().workers[1].restart_generation, 1, "orders carried out stay carried out");
}

#[test]
fn an_assignment_of_queen_is_no_start() {
    let orders = Orders::new(configured(1, Desired::Running), None);
    let mut stored = orders.to_stored();
    stored.assignment.fleet_id = "f".into();
    stored.assignment.generation = 40;
    let own = Orders::new(configured(1, Desired::Running), Some(&stored));
    assert_eq!(own.assignment().generation, 1);
}

/// HIVE-17
#[test]
fn what_only_a_queen_can_do_is_refused_and_changes_nothing() {
    let mut orders = Orders::new(configured(2, Desired::Running), None);
    let before = orders.assignment().clone();
    let plain = VerbRequest::default;
    for (verb, how, says) in [
        (Verb::Drain, plain(), "stands alone"),
        (Verb::Undrain, plain(), "stands alone"),
        (Verb::Restart, VerbRequest { rolling: true, ..plain() }, "NAME/0"),
        (Verb::Stop, VerbRequest { rolling: true, ..plain() }, "for restart"),
        (Verb::Start, VerbRequest { clean: true, ..plain() }, "for restart"),
    ] {
        let error = orders.verb(&target("w"), verb, &how, |_| Phase::Running).unwrap_err();
        assert!(error.message.contains(says), "{verb}: {error}");
    }
    assert_eq!(*orders.assignment(), before);
}

/// HIVE-18
#[test]
fn a_clean_restart_is_clean_once_and_stays_known() {
    let keeping = || {
        let mut configured = configured(1, Desired::Running);
        let template = &mut configured.get_mut("w").unwrap().template;
        template.spec_mut().engine = Engine::Command { command: vec!["x".into(), "{state_dir}".into()] };
        configured
    };
    let mut orders = Orders::new(keeping(), None);
    let mut restart = |clean| {
        let how = VerbRequest { clean, ..VerbRequest::default() };
        orders.verb(&target("w"), Verb::Restart, &how, |_| Phase::Running).unwrap();
        let worker = &orders.assignment().workers[0];
        (worker.restart_generation, worker.clean_generation)
    };
    assert_eq!((restart(true), restart(false)), ((1, 1), (2, 1)));
    let again = Orders::new(keeping(), Some(&orders.to_stored()));
    assert_eq!(again.assignment().workers[0].clean_generation, 1);
    let mut forgetful = Orders::new(configured(1, Desired::Running), None);
    let clean = VerbRequest { clean: true, ..VerbRequest::default() };
    let refused = forgetful.verb(&target("w"), Verb::Restart, &clean, |_| Phase::Running).unwrap_err();
    assert!(refused.message.contains("{state_dir}"), "{refused}");
}
