//! What became of the fleet between two views of it: leases and drains. Pure.

use std::collections::BTreeSet;

use monitoring::NewEvent;
use rbee_api::{EventKind, Phase, ReplicaId};
use serde_json::json;

use crate::fleet::{HiveView, View};
use crate::lease::LeaseState;

/// In the order of hives, then of workers.
pub(super) fn between(before: &View, after: &View) -> Vec<NewEvent> {
    let leases = after.hives.iter().flat_map(|(name, hive)| leases(name, before.hives.get(name), hive));
    let (drained_before, drained) = (drained(before), drained(after));
    let drains = drained.difference(&drained_before).map(|of| of.event(EventKind::Draining, after));
    let undrains = drained_before.difference(&drained).map(|of| of.event(EventKind::Undrained, after));
    leases.chain(drains).chain(undrains).collect()
}

fn leases(name: &str, before: Option<&HiveView>, hive: &HiveView) -> Vec<NewEvent> {
    let stops = hive.heartbeat.as_ref().is_some_and(|heartbeat| heartbeat.stopping);
    let (word, phase, cause) = match (before.map(|before| before.lease), hive.lease) {
        (Some(before), now) if before == now => return Vec::new(),
        (None, LeaseState::Alive) => ("joined", Phase::Running, "heard of for the first time"),
        (None, _) => return Vec::new(),
        (Some(_), LeaseState::Alive) => ("granted", Phase::Running, "heard of again"),
        (Some(_), LeaseState::Suspect) if stops => ("suspect", Phase::Stopping, "it said that it ends"),
        (Some(_), LeaseState::Suspect) => ("suspect", Phase::Unavailable, "not heard of for longer than its lease"),
        (Some(_), LeaseState::Lost) => {
            ("lost", Phase::Unavailable, "not heard of for so long that its replicas are needed elsewhere")
        }
    };
    let event = |kind| NewEvent::now("hive", kind).on(name).with_phase(phase).with_cause(cause);
    let lease = event(EventKind::Lease).with_detail(json!({ "lease": word }));
    let was_alive = before.is_some_and(|before| before.lease == LeaseState::Alive);
    match phase {
        Phase::Unavailable if was_alive => vec![lease, event(EventKind::Unavailable)],
        _ => vec![lease],
    }
}

/// Who gets no new work because somebody ordered so.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Drained {
    Hive(String),
    Worker(ReplicaId),
}

fn drained(view: &View) -> BTreeSet<Drained> {
    let hives = view.desired.upkeep.drained_hives.iter().cloned().map(Drained::Hive);
    let workers = view.desired.orders.iter().filter(|(_, orders)| orders.draining);
    hives.chain(workers.map(|(id, _)| Drained::Worker(id.clone()))).collect()
}

impl Drained {
    fn event(&self, kind: EventKind, view: &View) -> NewEvent {
        let cause = if kind == EventKind::Draining { "no new work, as was ordered" } else { "not drained any more" };
        let event = match self {
            Self::Hive(name) => NewEvent { hive: Some(name.clone()), ..NewEvent::now("hive", kind) },
            Self::Worker(id) => {
                NewEvent { hive: view.desired.placement.get(id).cloned(), ..NewEvent::now(id.to_string(), kind) }
            }
        };
        event.with_cause(cause)
    }
}

#[cfg(test)]
mod tests {
    use rbee_api::Verb;

    use super::*;
    use crate::fleet::tests::{World, at};
    use crate::orders::Order;

    /// What was told since, and from where on to listen next.
    fn told(before: &mut View, world: &World) -> Vec<String> {
        let line = |event: NewEvent| {
            let lease = event.detail.map(|detail| format!(" {}", detail["lease"].as_str().unwrap_or_default()));
            let phase = event.phase.map(|phase| format!(" ({phase})")).unwrap_or_default();
            let hive = event.hive.map(|hive| format!("{hive}:")).unwrap_or_default();
            format!("{hive}{} {}{}{phase}", event.daemon, event.kind, lease.unwrap_or_default())
        };
        let after = world.view();
        let told = between(before, &after).into_iter().map(line).collect();
        *before = after;
        told
    }

    /// EVNT-13
    #[test]
    fn leases_are_told_as_they_come_go_and_come_back() {
        let mut world = World::new(1);
        let mut before = world.view();
        world.say("a", at(Phase::Running));
        assert_eq!(told(&mut before, &world), ["a:hive lease joined (running)"]);
        world.say("a", at(Phase::Running));
        assert_eq!(told(&mut before, &world), [""; 0], "nothing has changed");
        world.wait(10);
        let silent = ["a:hive lease suspect (unavailable)", "a:hive unavailable (unavailable)"];
        assert_eq!(told(&mut before, &world), silent);
        world.wait(20);
        assert_eq!(told(&mut before, &world), ["a:hive lease lost (unavailable)"]);
        world.say("a", at(Phase::Running));
        assert_eq!(told(&mut before, &world), ["a:hive lease granted (running)"]);
    }

    /// EVNT-13
    #[test]
    fn drains_of_hives_and_workers_are_told() {
        let mut world = World::new(1);
        world.say("a", at(Phase::Running));
        let mut before = world.view();
        world.order(Verb::Drain);
        assert_eq!(told(&mut before, &world), ["a:w/0 draining"]);
        world.order(Verb::Undrain);
        assert_eq!(told(&mut before, &world), ["a:w/0 undrained"]);
        world.apply(&Order::DrainHive { hive: "a".to_owned(), drain: true });
        assert_eq!(told(&mut before, &world), ["a:hive draining"]);
        world.apply(&Order::DrainHive { hive: "a".to_owned(), drain: false });
        assert_eq!(told(&mut before, &world), ["a:hive undrained"]);
    }
}
