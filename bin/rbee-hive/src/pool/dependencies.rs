//! Order among workers, as far as the supervisor cannot keep it: it knows only units that were declared.
//!
//! A worker is told to the supervisor once every replica it depends on is: from then on the order of starts and stops
//! is the supervisor's. Until then the worker is held back here, with a word for whom it waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use daemon_lifecycle::{UnitName, UnitSpec};
use rbee_api::{Desired, ReplicaId, WorkerAssignment};

use super::{Stage, Task};
use crate::view::Ahead;

impl Task {
    /// The replicas that cannot be told yet because of others.
    pub(super) fn held_back(&self, wanted: &[WorkerAssignment]) -> BTreeMap<ReplicaId, Ahead> {
        let mut dependents: BTreeMap<&str, Vec<&WorkerAssignment>> = BTreeMap::new();
        for worker in wanted.iter().filter(|worker| worker.desired == Desired::Running) {
            for name in &worker.spec.depends_on {
                dependents.entry(name).or_default().push(worker);
            }
        }
        let mut held = BTreeMap::new();
        if dependents.is_empty() {
            return held;
        }
        let needed = wanted.iter().filter(|worker| dependents.contains_key(worker.id.name.as_str()));
        let mut open: Vec<(&WorkerAssignment, String)> = needed
            .filter_map(|worker| Some((worker, format!("`{}`, which {}", worker.id, self.not_there(worker)?))))
            .collect();
        let mut seen: BTreeSet<&ReplicaId> = BTreeSet::new();
        while let Some((worker, why)) = open.pop() {
            for dependent in dependents.get(worker.id.name.as_str()).into_iter().flatten() {
                // What runs as told before goes on; the supervisor ends it when its dependency ends.
                if !self.is_told_to_run(&dependent.id) && seen.insert(&dependent.id) {
                    held.insert(dependent.id.clone(), Ahead::Waiting { for_whom: why.clone() });
                    open.push((dependent, format!("`{}`, which waits, too", dependent.id)));
                }
            }
        }
        held
    }

    /// Why others cannot build on this replica yet; nothing if the supervisor knows it, or is about to.
    fn not_there(&self, worker: &WorkerAssignment) -> Option<&'static str> {
        if worker.desired != Desired::Running {
            return Some("is stopped");
        }
        let is_known = self.told.get(&worker.id).is_some_and(|unit| !unit.removing);
        match self.preparations.get(&worker.id).map(|preparation| &preparation.stage) {
            _ if is_known => None,
            None | Some(Stage::Ready(_)) => None,
            Some(Stage::Ahead(Ahead::Blocked { .. }) | Stage::NoPort(_)) => Some("cannot be started"),
            Some(Stage::Ahead(_)) => Some("is being prepared"),
        }
    }

    fn is_told_to_run(&self, id: &ReplicaId) -> bool {
        self.told.get(id).is_some_and(|unit| !unit.removing && unit.worker.desired == Desired::Running)
    }

    /// What the supervisor shall know: every unit that stays, with the units it depends on.
    pub(super) fn declared_set(&self) -> Vec<Arc<UnitSpec>> {
        let staying: BTreeMap<&ReplicaId, &WorkerAssignment> =
            self.told.units().filter(|unit| !unit.removing).map(|unit| (&unit.worker.id, &unit.worker)).collect();
        let units = self.units.iter().filter_map(|(id, unit)| Some((*staying.get(id)?, &unit.spec)));
        with_dependencies(units)
    }
}

/// The specs, each with the units it depends on among them.
pub(super) fn with_dependencies<'u>(
    units: impl Iterator<Item = (&'u WorkerAssignment, &'u Arc<UnitSpec>)> + Clone,
) -> Vec<Arc<UnitSpec>> {
    let mut there_are: BTreeMap<&str, Vec<&ReplicaId>> = BTreeMap::new();
    for (worker, _) in units.clone() {
        there_are.entry(&worker.id.name).or_default().push(&worker.id);
    }
    units
        .map(|(worker, spec)| {
            let mut spec = Arc::clone(spec);
            let mut needs = worker.spec.depends_on.iter().filter_map(|name| there_are.get(name.as_str())).flatten();
            if let Some(first) = needs.next() {
                let needs = std::iter::once(first).chain(needs).map(|id| UnitName::new(&id.unit_name()));
                Arc::make_mut(&mut spec).policy.depends_on = needs.collect();
            }
            spec
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use daemon_lifecycle::Launch;

    use super::*;
    use crate::reconcile::tests::worker;

    /// HIVE-12
    #[test]
    fn a_name_means_all_its_replicas() {
        let mut api = worker("api", 0, Desired::Running);
        api.spec_mut().depends_on = vec!["cache".to_owned(), "gone".to_owned()];
        let workers = [api, worker("cache", 0, Desired::Running), worker("cache", 1, Desired::Running)];
        let specs =
            workers.each_ref().map(|worker| Arc::new(UnitSpec::new(worker.id.unit_name(), Launch::new("x", [""; 0]))));
        let set = with_dependencies(workers.iter().zip(&specs));
        let needs: Vec<&str> = set[0].policy.depends_on.iter().map(UnitName::as_str).collect();
        assert_eq!(needs, ["cache.0", "cache.1"]);
        assert!(set[1].policy.depends_on.is_empty() && set[2].policy.depends_on.is_empty());
    }
}
