//! Fleet, routes, orders and progress together, moment by moment, without clock, disk or network.

use std::time::Duration;

use rbee_api::assignment::Engine;
use rbee_api::{Verb, VerbRequest, WorkerAssignment, WorkerRef};

use super::*;
use crate::desired::Wish;
use crate::desired::tests::wish;
use crate::orders::{Order, Ordered, apply};
use crate::routes::Outlook;
use crate::settle::{Progress, progress};

const TERMS: Terms = Terms { ttl: Duration::from_secs(9), grace: Duration::from_secs(18) };

/// A fleet and the moment it is in.
pub(crate) struct World {
    pub(crate) fleet: Fleet,
    pub(crate) now: Now,
}

impl World {
    pub(crate) fn new(replicas: u32) -> Self {
        let mut wish = wish(replicas);
        wish.spec.engine = Engine::Llm {
            slots: 1,
            context: 1,
            threads: None,
            deterministic: false,
            cache_bytes_max: 0,
            mlock: false,
            no_mmap: false,
        };
        Self::of(wish)
    }

    pub(crate) fn of(wish: Wish) -> Self {
        let now = Now { at: Instant::now(), wall_ms: 1_000 };
        let wishes = Wishes::from([("w".to_owned(), wish)]);
        Self { fleet: Fleet::new(wishes, DesiredState::new("fleet".into()), TERMS, now), now }
    }

    pub(crate) fn wait(&mut self, seconds: u64) {
        self.now.at += Duration::from_secs(seconds);
        let desired = self.fleet.replanned(self.now, (**self.fleet.desired()).clone());
        self.fleet.accept(Arc::new(desired));
    }

    /// The hive has applied what it is told and says this of its workers.
    pub(crate) fn say(&mut self, hive: &str, status: impl Fn(&WorkerAssignment) -> Option<WorkerStatus>) {
        for _ in 0..2 {
            // Twice: before its first word it has no orders.
            let record = self.fleet.desired().hives.get(hive).cloned();
            let heartbeat = Heartbeat {
                machine_id: format!("machine of {hive}"),
                url: "http://10.0.0.1:7835".into(),
                pid: 1,
                version: "0".into(),
                uptime_s: 0.0,
                labels: BTreeMap::new(),
                cores: 1,
                memory_bytes: 1,
                fleet_id: Some("fleet".into()),
                generation: record.as_ref().map_or(0, |record| record.generation),
                stopping: false,
                usage: None,
                history_trouble: None,
                workers: record.iter().flat_map(|record| &record.workers).filter_map(&status).collect(),
                upgrade: None,
                events: Vec::new(),
            };
            self.fleet.heartbeat(self.now, hive, heartbeat).unwrap();
            self.wait(0);
        }
    }

    pub(crate) fn order(&mut self, verb: Verb) -> Ordered {
        let target: WorkerRef = "w".parse().unwrap();
        self.apply(&Order::Verb { target, verb, request: VerbRequest::default() })
    }

    pub(crate) fn apply(&mut self, order: &Order) -> Ordered {
        let mut state = (**self.fleet.desired()).clone();
        let mut ordered = apply(order, &self.view(), &mut state).unwrap();
        let state = self.fleet.replanned(self.now, state);
        ordered.since = state.counter;
        self.fleet.accept(Arc::new(state));
        ordered
    }

    pub(crate) fn view(&self) -> View {
        self.fleet.view(self.now)
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.view().routes.models["m"].endpoints.iter().map(|e| format!("{}@{}", e.address, e.hive)).collect()
    }

    pub(crate) fn is_coming(&self) -> bool {
        self.view().routes.models["m"].outlook == Outlook::Coming
    }
}

pub(crate) fn at(phase: Phase) -> impl Fn(&WorkerAssignment) -> Option<WorkerStatus> {
    move |assigned| Some(status(assigned, phase, 1))
}

pub(crate) fn status(assigned: &WorkerAssignment, phase: Phase, incarnation: u64) -> WorkerStatus {
    WorkerStatus {
        usage: None,
        name: assigned.id.name.clone(),
        replica: assigned.id.replica,
        phase,
        pid: None,
        port: Some(7855),
        model: None,
        incarnation,
        restarts: 0,
        uptime_s: 0.0,
        rss_bytes: 0,
        cpu_percent: 0.0,
        health: None,
        reason: Some("its reason".into()),
        last_log_lines: Vec::new(),
        restart_generation: assigned.restart_generation,
        own_engine: true,
        waits_for: None,
        limits: Vec::new(),
        start_timeout_ms: 0,
        unloaded: false,
        behind: false,
    }
}

#[test]
fn only_what_runs_is_a_route_and_the_rest_is_coming_or_not() {
    let mut world = World::new(1);
    assert!(world.is_coming(), "no hive yet");
    for (phase, routed, coming) in [
        (Phase::Starting, false, true),
        (Phase::Running, true, true),
        (Phase::Draining, false, true),
        (Phase::Restarting, false, true),
        (Phase::Failed, false, false),
        (Phase::Unavailable, false, false),
    ] {
        world.say("a", at(phase));
        assert_eq!((world.addresses().len() == 1, world.is_coming()), (routed, coming), "{phase}");
    }
}

#[test]
fn silence_cuts_no_route_and_a_moved_replica_keeps_its_old_one_until_it_is_known_to_be_gone() {
    let mut world = World::new(1);
    world.say("a", at(Phase::Running));
    world.wait(10);
    world.say("b", |_| None);
    assert_eq!(world.addresses(), ["10.0.0.1:7855@a"], "suspect");
    world.wait(20);
    world.say("b", at(Phase::Starting));
    assert_eq!(world.view().desired.placement.values().collect::<Vec<_>>(), ["b"], "lost: moved");
    assert_eq!(world.addresses(), ["10.0.0.1:7855@a"], "and still answering, as far as anybody knows");
    world.say("b", at(Phase::Running));
    assert_eq!(world.addresses(), ["10.0.0.1:7855@a", "10.0.0.1:7855@b"]);
    world.say("a", |_| None);
    assert_eq!(world.addresses(), ["10.0.0.1:7855@b"], "it is back and does not run it any more");
}

#[test]
fn what_is_ordered_down_is_no_route_from_that_moment() {
    let mut world = World::new(1);
    world.say("a", at(Phase::Running));
    let restart = world.order(Verb::Restart);
    assert!(world.addresses().is_empty() && world.is_coming(), "the order is out, the hive has not said anything yet");
    // The hive has taken it up, but speaks of the run before.
    world.say("a", at(Phase::Running));
    assert!(matches!(progress(&restart, &world.view()), Progress::Waiting { .. }));
    world.say("a", |assigned| Some(status(assigned, Phase::Running, 2)));
    assert_eq!(progress(&restart, &world.view()), Progress::Done);
    assert_eq!(world.addresses().len(), 1);

    let stop = world.order(Verb::Stop);
    assert!(world.addresses().is_empty() && !world.is_coming());
    assert!(matches!(progress(&stop, &world.view()), Progress::Waiting { .. }));
    world.say("a", at(Phase::Stopped));
    assert_eq!(progress(&stop, &world.view()), Progress::Done);
}

#[test]
fn an_order_nobody_hears_cuts_nothing_and_is_never_done() {
    let mut world = World::new(1);
    world.say("a", at(Phase::Running));
    world.wait(10);
    let restart = world.order(Verb::Restart);
    assert_eq!(world.addresses().len(), 1, "its hive is silent, nobody restarts it");
    let Progress::Waiting { why } = progress(&restart, &world.view()) else { panic!() };
    assert!(why.contains("has not been heard of"), "{why}");
}

#[test]
fn success_is_never_older_than_the_order() {
    let mut world = World::new(1);
    world.say("a", at(Phase::Running));
    let stop = world.order(Verb::Stop);
    let start = world.order(Verb::Start);
    // Running is what the hive said before it heard of either.
    assert!(matches!(progress(&start, &world.view()), Progress::Waiting { .. }));
    assert!(matches!(progress(&stop, &world.view()), Progress::Failed(error) if error.code == ErrorCode::Conflict));
    world.say("a", at(Phase::Failed));
    let Progress::Failed(error) = progress(&start, &world.view()) else { panic!() };
    assert_eq!(error.code, ErrorCode::WorkerFailed);
    assert!(error.message.contains("its reason"));
}

#[test]
fn a_process_that_ended_is_known_as_gone_and_one_that_drains_is_not() {
    let mut world = World::new(1);
    world.say("a", at(Phase::Running));
    let endpoint = world.view().routes.models["m"].endpoints[0].clone();
    for (phase, incarnation, gone) in [
        (Phase::Running, 1, false),
        (Phase::Stopping, 1, false),
        (Phase::Draining, 1, false),
        (Phase::Restarting, 1, true),
        (Phase::Failed, 1, true),
        (Phase::Running, 2, true),
    ] {
        world.say("a", |assigned| Some(status(assigned, phase, incarnation)));
        assert_eq!(world.view().is_gone(&endpoint), gone, "{phase} {incarnation}");
    }
    world.say("a", |_| None);
    assert!(world.view().is_gone(&endpoint));
}
