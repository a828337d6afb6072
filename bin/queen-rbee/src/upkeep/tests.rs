//! Drains, rolling restarts, moves and loading on demand, moment by moment, without clock, disk or network.

use std::collections::BTreeMap;

use rbee_api::{Verb, VerbRequest, WorkerAssignment};

use super::*;
use crate::desired::OnDemand;
use crate::desired::tests::wish;
use crate::fleet::tests::{World, at, status};
use crate::routes::Outlook;
use crate::settle::{Progress, progress};

const DRAIN: Duration = Duration::from_secs(30);

/// A fleet, what is in flight in it, and what upkeep remembers.
struct Kept {
    world: World,
    memory: Memory,
    in_flight: BTreeMap<Place, usize>,
    last_used: BTreeMap<Place, Instant>,
}

fn place(hive: &str, replica: u32) -> Place {
    (hive.to_owned(), ReplicaId { name: "w".into(), replica })
}

impl Kept {
    fn new(world: World) -> Self {
        Self { world, memory: Memory::default(), in_flight: BTreeMap::new(), last_used: BTreeMap::new() }
    }

    fn look(&mut self) -> Due {
        let (view, now) = (self.world.view(), self.world.now.at);
        let (in_flight, last_used) = (&self.in_flight, &self.last_used);
        let used = |place: &Place| {
            let in_flight = in_flight.get(place).copied().unwrap_or(0);
            let since = last_used.get(place).copied();
            since.map(|since| Use { in_flight, since })
        };
        let wall = Timestamp::UNIX_EPOCH;
        Moment { view: &view, used, now, wall, drain_timeout: DRAIN }.due(&mut self.memory)
    }

    /// Carries out what is due until nothing is; when to look again.
    fn settle(&mut self) -> Option<Instant> {
        for _ in 0..20 {
            let due = self.look();
            if due.orders.is_empty() {
                return due.deadline;
            }
            for order in due.orders {
                assert!(self.world.apply(&order).changed, "{order:?} follows what was seen");
            }
        }
        panic!("it never rests");
    }

    fn busy(&mut self, at: Place, requests: usize) {
        self.last_used.insert(at.clone(), self.world.now.at);
        self.in_flight.insert(at, requests);
    }

    fn rolling(&self) -> Option<crate::rolling::Step> {
        self.world.view().desired.upkeep.rolling.get("w").map(|rolling| rolling.step.clone())
    }

    fn after(&self, seconds: u64) -> Option<Instant> {
        Some(self.world.now.at + Duration::from_secs(seconds))
    }
}

fn running(incarnation: u64) -> impl Fn(&WorkerAssignment) -> Option<WorkerStatus> {
    move |assigned| {
        let phase = if assigned.desired == Desired::Running { Phase::Running } else { Phase::Stopped };
        Some(WorkerStatus {
            port: Some(7855 + u16::try_from(assigned.id.replica).ok()?),
            ..status(assigned, phase, incarnation)
        })
    }
}

fn on_demand(from_start: bool) -> Wish {
    Wish { on_demand: Some(OnDemand { idle_ttl: Duration::from_secs(600), from_start }), ..wish(1) }
}

fn restart_rolling() -> Order {
    let request = VerbRequest { rolling: true, ..VerbRequest::default() };
    Order::Verb { target: "w".parse().unwrap(), verb: Verb::Restart, request }
}

/// QUEEN-20
#[test]
fn a_rolling_restart_goes_on_with_what_hives_say_and_requests_end() {
    use crate::rolling::Step;
    let mut kept = Kept::new(World::new(1));
    kept.world.say("a", running(1));
    let ordered = kept.world.apply(&restart_rolling());
    assert_eq!(kept.settle(), None);
    assert_eq!(kept.rolling(), Some(Step::Surge), "the stand-in has to come first");
    assert!(matches!(progress(&ordered, &kept.world.view()), Progress::Waiting { .. }));

    kept.busy(place("a", 0), 1);
    kept.world.say("a", running(1));
    assert_eq!(kept.settle(), kept.after(30), "until its drain is over at the latest");
    assert_eq!((kept.rolling(), kept.world.addresses()), (Some(Step::Drain(0)), vec!["10.0.0.1:7856@a".to_owned()]));
    kept.busy(place("a", 0), 0);
    assert_eq!(kept.settle(), None);
    assert_eq!(kept.rolling(), Some(Step::Restart(0)));

    kept.world.say("a", |assigned| {
        Some(status(assigned, Phase::Starting, 2)).filter(|_| assigned.id.replica == 0).or(running(1)(assigned))
    });
    assert_eq!((kept.settle(), kept.rolling()), (None, Some(Step::Restart(0))));
    kept.busy(place("a", 1), 3);
    kept.world.say("a", |assigned| running(u64::from(assigned.id.replica == 0) + 1)(assigned));
    assert_eq!(kept.settle(), kept.after(30));
    assert_eq!((kept.rolling(), kept.world.addresses()), (Some(Step::Retire), vec!["10.0.0.1:7855@a".to_owned()]));
    kept.world.wait(30);
    assert_eq!(kept.settle(), None, "its time is over");
    assert_eq!(kept.rolling(), Some(Step::Ended { why: None }));
    assert!(matches!(progress(&ordered, &kept.world.view()), Progress::Waiting { .. }), "the stand-in is still there");
    kept.world.say("a", running(2));
    assert_eq!(progress(&ordered, &kept.world.view()), Progress::Done);
    assert_eq!(kept.world.view().desired.placement.len(), 1, "names end as they began");
}

/// QUEEN-21
#[test]
fn a_stand_in_that_cannot_start_ends_it_and_nothing_was_touched() {
    let mut kept = Kept::new(World::new(2));
    kept.world.say("a", running(1));
    let ordered = kept.world.apply(&restart_rolling());
    kept.world.say("a", |assigned| match assigned.id.replica {
        2 => Some(status(assigned, Phase::Failed, 1)),
        _ => running(1)(assigned),
    });
    kept.settle();
    let Progress::Failed(error) = progress(&ordered, &kept.world.view()) else { panic!() };
    assert!(error.message.contains("w/2") && error.message.contains("its reason"), "{error}");
    let view = kept.world.view();
    assert_eq!((view.desired.placement.len(), view.desired.orders.len()), (2, 0));
    assert_eq!(kept.world.addresses().len(), 2);
    let again = kept.world.apply(&restart_rolling());
    assert!(again.changed, "it can be asked again");
}

/// QUEEN-21
#[test]
fn one_that_does_not_come_back_holds_it_and_the_stand_in_serves() {
    let mut kept = Kept::new(World::new(1));
    kept.world.say("a", running(1));
    let ordered = kept.world.apply(&restart_rolling());
    kept.world.say("a", running(1));
    kept.settle();
    let fallen = |assigned: &WorkerAssignment| match assigned.id.replica {
        0 => Some(status(assigned, Phase::Failed, 2)),
        _ => running(1)(assigned),
    };
    kept.world.say("a", fallen);
    kept.settle();
    let Progress::Failed(error) = progress(&ordered, &kept.world.view()) else { panic!() };
    assert!(error.message.contains("w/1 goes on in its place"), "{error}");
    assert_eq!(kept.world.addresses(), ["10.0.0.1:7856@a"]);
    kept.world.say("a", |assigned| running(3)(assigned));
    kept.settle();
    assert_eq!(kept.rolling(), Some(crate::rolling::Step::Ended { why: None }), "it went on by itself");
}

#[test]
fn a_second_rolling_restart_is_refused_while_one_goes_on_and_a_stop_ends_it() {
    let mut kept = Kept::new(World::new(1));
    kept.world.say("a", running(1));
    let ordered = kept.world.apply(&restart_rolling());
    let mut state = (*kept.world.view().desired).clone();
    let refused = crate::orders::apply(&restart_rolling(), &kept.world.view(), &mut state).unwrap_err();
    assert!(refused.message.contains("goes on already"), "{refused}");
    kept.world.order(Verb::Stop);
    let Progress::Failed(error) = progress(&ordered, &kept.world.view()) else { panic!() };
    assert!(error.message.contains("stopped meanwhile"), "{error}");
}

/// QUEEN-22
#[test]
fn what_is_drained_by_order_gets_nothing_even_if_nobody_else_is_there() {
    let mut kept = Kept::new(World::new(2));
    kept.world.say("a", running(1));
    let drain = |replica: u32, verb| Order::Verb {
        target: format!("w/{replica}").parse().unwrap(),
        verb,
        request: VerbRequest::default(),
    };
    assert!(kept.world.apply(&drain(0, Verb::Drain)).changed);
    assert_eq!(kept.world.addresses(), ["10.0.0.1:7856@a"]);
    kept.world.apply(&drain(1, Verb::Drain));
    assert!(kept.world.addresses().is_empty() && kept.world.is_coming(), "requests wait");
    assert!(!kept.world.apply(&drain(1, Verb::Drain)).changed);
    assert!(kept.world.apply(&drain(1, Verb::Undrain)).changed);
    assert_eq!(kept.world.addresses(), ["10.0.0.1:7856@a"]);
    assert!(kept.world.apply(&drain(0, Verb::Start)).changed, "whoever starts it wants it to work");
    assert_eq!(kept.world.addresses().len(), 2);
}

/// QUEEN-23
#[test]
fn what_a_drained_hive_has_moves_when_it_is_ready_elsewhere_and_has_finished() {
    let mut kept = Kept::new(World::new(1));
    kept.world.say("a", running(1));
    let drain = |drain| Order::DrainHive { hive: "a".into(), drain };
    assert!(kept.world.apply(&drain(true)).changed);
    kept.settle();
    assert!(kept.world.addresses().is_empty(), "nowhere to go: it stays, without work");
    kept.busy(place("a", 0), 1);
    kept.world.say("b", |_| None);
    let on = |kept: &Kept| -> Vec<String> {
        let view = kept.world.view();
        view.desired.hives.iter().filter(|(_, hive)| !hive.workers.is_empty()).map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(on(&kept), ["a", "b"], "it is started there before it goes here");
    assert_eq!(kept.world.addresses(), ["10.0.0.1:7855@a"], "and goes on until then");
    kept.world.say("b", at(Phase::Starting));
    kept.settle();
    assert_eq!(on(&kept), ["a", "b"]);
    kept.world.say("b", at(Phase::Running));
    assert_eq!(kept.world.addresses(), ["10.0.0.1:7855@b"], "new work goes there");
    assert!(kept.settle().is_some(), "what is in flight gets its time");
    kept.busy(place("a", 0), 0);
    kept.settle();
    assert_eq!(on(&kept), ["b"]);
    kept.world.apply(&drain(false));
    assert_eq!(on(&kept), ["b"], "what went stays where it is");
}

/// QUEEN-25
#[test]
fn what_nobody_uses_is_unloaded_at_its_deadline_and_loaded_once_by_a_request() {
    let mut kept = Kept::new(World::of(on_demand(true)));
    kept.world.say("a", at(Phase::Starting));
    assert_eq!(kept.settle(), None, "what loads is never unloaded");
    kept.world.say("a", running(1));
    assert_eq!(kept.settle(), kept.after(600), "the time counts from when it was ready");
    kept.busy(place("a", 0), 1);
    // Its heartbeats go on: its lease holds.
    for _ in 0..100 {
        kept.world.wait(8);
        kept.world.say("a", running(1));
    }
    assert_eq!(kept.settle(), None, "busy, however long");
    kept.busy(place("a", 0), 0);
    assert_eq!(kept.settle(), kept.after(600));
    for _ in 0..75 {
        kept.world.wait(8);
        kept.world.say("a", running(1));
    }
    assert_eq!(kept.settle(), None);
    assert_eq!(kept.world.view().desired.upkeep.loads["w"], Load::Unloaded);
    kept.world.say("a", running(1));
    assert_eq!(kept.world.view().routes.models["m"].outlook, Outlook::Unloaded);

    let load = Order::LoadModel { model: "m".into() };
    assert!(kept.world.apply(&load).changed);
    assert!(!kept.world.apply(&load).changed, "a second request finds it loading");
    assert!(kept.world.is_coming());
    kept.world.say("a", running(2));
    assert_eq!((kept.world.addresses().len(), kept.settle()), (1, kept.after(600)));
}

/// QUEEN-25
#[test]
fn a_request_that_comes_while_it_is_about_to_go_calls_it_off() {
    let mut kept = Kept::new(World::of(on_demand(true)));
    kept.world.say("a", running(1));
    kept.settle();
    kept.world.wait(8);
    kept.world.say("a", running(1));
    let leave = Order::Unload { name: "w".into(), from: Load::Loaded, to: Load::Leaving };
    assert!(kept.world.apply(&leave).changed);
    let route = &kept.world.view().routes.models["m"];
    assert!(
        route.endpoints.is_empty() && route.outlook == Outlook::Unloaded,
        "new requests wait and ask for it: {route:?}"
    );
    assert!(kept.world.apply(&Order::LoadModel { model: "m".into() }).changed);
    assert!(!kept.world.apply(&Order::Unload { name: "w".into(), from: Load::Leaving, to: Load::Unloaded }).changed);
    assert_eq!(kept.world.addresses().len(), 1);
    // One that began before it was about to go: it stays.
    kept.world.apply(&leave);
    kept.busy(place("a", 0), 1);
    kept.settle();
    assert_eq!(kept.world.view().desired.upkeep.loads["w"], Load::Loaded);
}

#[test]
fn one_that_starts_by_its_first_request_is_not_loaded_before_and_one_stopped_by_hand_not_by_requests() {
    let mut kept = Kept::new(World::of(on_demand(false)));
    kept.world.say("a", running(1));
    assert_eq!(kept.world.view().routes.models["m"].outlook, Outlook::Unloaded);
    kept.world.order(Verb::Stop);
    assert!(matches!(kept.world.view().routes.models["m"].outlook, Outlook::Down { .. }));
    kept.world.apply(&Order::LoadModel { model: "m".into() });
    assert!(!kept.world.is_coming(), "somebody wants it down");
    kept.world.order(Verb::Start);
    assert!(kept.world.is_coming());
}

#[test]
fn one_that_others_need_is_never_idle() {
    let mut kept = Kept::new(World::of(on_demand(true)));
    let mut needing = wish(1);
    needing.spec.depends_on = vec!["w".into()];
    needing.model = None;
    let wishes = crate::desired::Wishes::from([("w".into(), on_demand(true)), ("x".into(), needing)]);
    kept.world.fleet.exchange_wishes(Arc::new(wishes));
    kept.world.say("a", running(1));
    assert_eq!(kept.settle(), None);
}

/// QUEEN-28
#[test]
fn a_command_that_serves_finishes_what_it_has_before_it_is_stopped_or_restarted() {
    let mut kept = Kept::new(World::of(wish(1)));
    kept.world.say("a", running(1));
    kept.busy(place("a", 0), 1);
    let stop = kept.world.order(Verb::Stop);
    assert_eq!(kept.settle(), kept.after(30));
    assert!(kept.world.addresses().is_empty() && !kept.world.is_coming());
    let desired = |kept: &Kept| kept.world.view().desired.hives["a"].workers[0].desired;
    assert_eq!(desired(&kept), Desired::Running, "its hive is not told yet");
    assert!(matches!(progress(&stop, &kept.world.view()), Progress::Waiting { .. }));
    kept.busy(place("a", 0), 0);
    kept.settle();
    assert_eq!(desired(&kept), Desired::Stopped);
    kept.world.say("a", running(1));
    assert_eq!(progress(&stop, &kept.world.view()), Progress::Done);

    kept.world.order(Verb::Start);
    kept.world.say("a", running(2));
    kept.busy(place("a", 0), 1);
    kept.world.order(Verb::Restart);
    assert!(kept.settle().is_some() && kept.world.addresses().is_empty() && kept.world.is_coming(), "requests wait");
    kept.world.order(Verb::Start);
    assert_eq!((kept.settle(), kept.world.addresses().len()), (None, 1), "called off");
    kept.world.order(Verb::Restart);
    kept.settle();
    kept.world.wait(30);
    kept.settle();
    assert!(kept.world.view().desired.hives["a"].workers[0].restart_generation > 0, "its time is over");
}
