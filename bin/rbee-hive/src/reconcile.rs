//! The difference between what is wanted and what the supervisor was told, as ordered operations. Pure.
//!
//! ```text
//!   assignment ─┐
//!               ├─▶ plan ─▶ [Operation, …] ─▶ supervisor
//!   told ───────┘                 └─▶ Told::note ─▶ told
//! ```
//!
//! Level-triggered: only the newest assignment counts, whatever was missed in between. Once every operation is
//! carried out and noted, the plan is empty.

use std::collections::BTreeMap;

use rbee_api::{Desired, ReplicaId, WorkerAssignment};

/// What the supervisor has been told, by replica.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Told {
    units: BTreeMap<ReplicaId, ToldUnit>,
}

/// What the supervisor has been told about one replica.
#[derive(Debug, Clone, PartialEq)]
pub struct ToldUnit {
    /// The orders carried out; its generations are those of the last restart and retry.
    pub worker: WorkerAssignment,
    /// It is on its way out for good.
    pub removing: bool,
}

/// One thing to tell the supervisor.
#[derive(Debug, Clone, PartialEq)]
pub enum Operation {
    /// End it at once.
    Kill(ReplicaId),
    /// Ask it to end.
    Stop(ReplicaId),
    /// Stop it, then forget it and its port.
    Remove(ReplicaId),
    /// Take the new spec. A process that runs is replaced where what is launched changed; time limits, probes and
    /// restart policy change without.
    Update(Box<WorkerAssignment>),
    /// A new unit, stopped.
    Declare(Box<WorkerAssignment>),
    /// Run it.
    Start(ReplicaId, Generations),
    /// End it and run it again.
    Restart(ReplicaId, Generations),
    /// Forget its restart count and try it again, if it has failed.
    Retry(ReplicaId, Generations),
}

/// The orders that an operation carries out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generations {
    /// See [`WorkerAssignment::restart_generation`].
    pub restart: u64,
    /// See [`WorkerAssignment::retry_generation`].
    pub retry: u64,
}

impl Operation {
    /// The replica it is about.
    #[must_use]
    pub fn id(&self) -> &ReplicaId {
        match self {
            Self::Update(worker) | Self::Declare(worker) => &worker.id,
            Self::Remove(id) | Self::Stop(id) | Self::Kill(id) => id,
            Self::Start(id, _) | Self::Restart(id, _) | Self::Retry(id, _) => id,
        }
    }

    /// What ends comes first, so that ports and memory are free for what starts.
    const fn rank(&self) -> u8 {
        match self {
            Self::Kill(_) => 0,
            Self::Stop(_) => 1,
            Self::Remove(_) => 2,
            Self::Update(_) => 3,
            Self::Declare(_) => 4,
            Self::Restart(..) => 5,
            Self::Retry(..) => 6,
            Self::Start(..) => 7,
        }
    }
}

/// What to tell the supervisor so that `told` becomes what `wanted` says.
#[must_use]
pub fn plan(wanted: &[WorkerAssignment], told: &Told) -> Vec<Operation> {
    let wanted: BTreeMap<_, _> = wanted.iter().map(|worker| (&worker.id, worker)).collect();
    let mut operations: Vec<_> = told
        .units
        .iter()
        .filter(|(id, unit)| !unit.removing && !wanted.contains_key(id))
        .map(|(id, _)| Operation::Remove(id.clone()))
        .collect();
    for (id, worker) in wanted {
        match told.units.get(id) {
            None => declare(worker, &mut operations),
            Some(unit) => change(worker, unit, &mut operations),
        }
    }
    // Stable: within a rank, the order of names.
    operations.sort_by_key(Operation::rank);
    operations
}

fn declare(worker: &WorkerAssignment, operations: &mut Vec<Operation>) {
    operations.push(Operation::Declare(Box::new(worker.clone())));
    if worker.desired == Desired::Running {
        operations.push(Operation::Start(worker.id.clone(), generations(worker)));
    }
}

fn change(wanted: &WorkerAssignment, unit: &ToldUnit, operations: &mut Vec<Operation>) {
    let told = &unit.worker;
    if unit.removing || wanted.spec != told.spec || wanted.model != told.model {
        operations.push(Operation::Update(Box::new(wanted.clone())));
    }
    let id = wanted.id.clone();
    let generations = generations(wanted);
    match (told.desired, wanted.desired) {
        (Desired::Running, Desired::Running) => {
            if wanted.restart_generation > told.restart_generation {
                // A restart by order starts the restart count anew as well: it settles a retry too.
                operations.push(Operation::Restart(id, generations));
            } else if wanted.retry_generation > told.retry_generation {
                operations.push(Operation::Retry(id, generations));
            }
        }
        (_, Desired::Running) => operations.push(Operation::Start(id, generations)),
        (told, wanted) if told == wanted => {}
        (_, Desired::Stopped) => operations.push(Operation::Stop(id)),
        (_, Desired::Killed) => operations.push(Operation::Kill(id)),
    }
}

const fn generations(worker: &WorkerAssignment) -> Generations {
    Generations { restart: worker.restart_generation, retry: worker.retry_generation }
}

impl Told {
    /// What is known of one replica.
    #[must_use]
    pub fn get(&self, id: &ReplicaId) -> Option<&ToldUnit> {
        self.units.get(id)
    }

    /// Whether nothing is left to tell about this replica.
    #[must_use]
    pub fn is_as(&self, wanted: &WorkerAssignment) -> bool {
        let mut operations = Vec::new();
        match self.units.get(&wanted.id) {
            None => return false,
            Some(unit) => change(wanted, unit, &mut operations),
        }
        operations.is_empty()
    }

    /// All replicas, by name.
    pub fn units(&self) -> impl Iterator<Item = &ToldUnit> {
        self.units.values()
    }

    /// A unit taken over from an earlier supervisor, with the orders that one had carried out.
    pub fn adopted(&mut self, worker: WorkerAssignment) {
        self.units.insert(worker.id.clone(), ToldUnit { worker, removing: false });
    }

    /// Generations of another fleet do not compare; every fleet's orders are counted from 0.
    pub fn forget_generations(&mut self) {
        for unit in self.units.values_mut() {
            unit.worker.restart_generation = 0;
            unit.worker.retry_generation = 0;
        }
    }

    /// A unit to be removed is gone.
    pub fn removed(&mut self, id: &ReplicaId) {
        self.units.remove(id);
    }

    /// Notes that the supervisor has been told.
    pub fn note(&mut self, operation: &Operation) {
        if let Operation::Declare(worker) = operation {
            let mut worker = (**worker).clone();
            if worker.desired == Desired::Running {
                // Its `Start` is an operation of its own.
                worker.desired = Desired::Stopped;
            }
            self.adopted(worker);
            return;
        }
        let Some(unit) = self.units.get_mut(operation.id()) else { return };
        let told = &mut unit.worker;
        match operation {
            Operation::Declare(_) => {}
            Operation::Remove(_) => {
                unit.removing = true;
                told.desired = Desired::Stopped;
            }
            Operation::Stop(_) => told.desired = Desired::Stopped,
            Operation::Kill(_) => told.desired = Desired::Killed,
            Operation::Update(worker) => {
                told.spec = worker.spec.clone();
                told.model.clone_from(&worker.model);
                unit.removing = false;
            }
            Operation::Start(_, generations)
            | Operation::Restart(_, generations)
            | Operation::Retry(_, generations) => {
                told.desired = Desired::Running;
                told.restart_generation = generations.restart;
                told.retry_generation = generations.retry;
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use rbee_api::assignment::{Engine, RestartSpec};
    use rbee_api::{Assignment, WorkerSpec};

    use super::*;

    pub(crate) fn worker(name: &str, replica: u32, desired: Desired) -> WorkerAssignment {
        WorkerAssignment {
            id: ReplicaId { name: name.into(), replica },
            spec: WorkerSpec {
                engine: Engine::Command { command: vec!["sleep".into(), "1".into()] },
                env: BTreeMap::new(),
                working_dir: None,
                pid_file: None,
                start_timeout_ms: 1,
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
            },
            model: None,
            desired,
            restart_generation: 0,
            retry_generation: 0,
        }
    }

    /// Every operation in short: its kind and its replica.
    fn words(operations: &[Operation]) -> Vec<String> {
        let word = |operation: &Operation| match operation {
            Operation::Remove(_) => "remove",
            Operation::Stop(_) => "stop",
            Operation::Kill(_) => "kill",
            Operation::Update(_) => "update",
            Operation::Declare(_) => "declare",
            Operation::Start(..) => "start",
            Operation::Restart(..) => "restart",
            Operation::Retry(..) => "retry",
        };
        operations.iter().map(|operation| format!("{} {}", word(operation), operation.id())).collect()
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
        let cases: [(Desired, Edit, &[&str]); 14] = [
            (Running, |_| {}, &[]),
            (Stopped, |_| {}, &[]),
            (Running, |w| w.desired = Stopped, &["stop w/0"]),
            (Running, |w| w.desired = Killed, &["kill w/0"]),
            (Stopped, |w| w.desired = Killed, &["kill w/0"]),
            (Killed, |w| w.desired = Running, &["start w/0"]),
            (Running, |w| w.restart_generation = 1, &["restart w/0"]),
            (Running, |w| w.retry_generation = 1, &["retry w/0"]),
            (Stopped, |w| w.restart_generation = 1, &[]),
            (Running, |w| w.spec.stop_timeout_ms = 9, &["update w/0"]),
            (Stopped, |w| w.spec.working_dir = Some("/".into()), &["update w/0"]),
            (Running, |w| w.spec.working_dir = Some("/".into()), &["update w/0"]),
            (
                Running,
                |w| {
                    w.spec.env.insert("A".into(), "b".into());
                    w.restart_generation = 3;
                    w.retry_generation = 3;
                },
                &["update w/0", "restart w/0"],
            ),
            (
                Running,
                |w| {
                    w.spec.working_dir = Some("/".into());
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
                worker.spec.stop_timeout_ms = timeout;
                worker.spec.working_dir = other_dir.then(|| "/".to_owned());
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

        #[test]
        fn an_older_generation_of_the_fleet_never_wins(order in prop::collection::vec(0u64..9, 1..20)) {
            let mut newest: Option<Assignment> = None;
            for generation in &order {
                let offered = Assignment { fleet_id: "f".into(), generation: *generation, workers: Vec::new() };
                if offered.supersedes(newest.as_ref()) {
                    newest = Some(offered);
                }
            }
            prop_assert_eq!(newest.map(|a| a.generation), order.iter().max().copied());
        }
    }
}
