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
use std::fmt;

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
    /// Try it again now, if it has failed or waits out its back-off.
    Retry {
        /// Which replica.
        id: ReplicaId,
        /// The orders that this carries out.
        generations: Generations,
        /// Its restart count is forgotten.
        force: bool,
    },
}

/// The orders that an operation carries out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Generations {
    /// See [`WorkerAssignment::restart_generation`].
    pub restart: u64,
    /// See [`WorkerAssignment::retry_generation`].
    pub retry: u64,
    /// See [`WorkerAssignment::forced_generation`].
    pub forced: u64,
    /// See [`WorkerAssignment::clean_generation`].
    pub clean: u64,
}

impl Operation {
    /// The replica it is about.
    #[must_use]
    pub fn id(&self) -> &ReplicaId {
        match self {
            Self::Update(worker) | Self::Declare(worker) => &worker.id,
            Self::Remove(id) | Self::Stop(id) | Self::Kill(id) => id,
            Self::Start(id, _) | Self::Restart(id, _) | Self::Retry { id, .. } => id,
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
            Self::Retry { .. } => 6,
            Self::Start(..) => 7,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self {
            Self::Kill(_) => "kill",
            Self::Stop(_) => "stop",
            Self::Remove(_) => "remove",
            Self::Update(_) => "update",
            Self::Declare(_) => "declare",
            Self::Start(..) => "start",
            Self::Restart(..) => "restart",
            Self::Retry { force: false, .. } => "retry",
            Self::Retry { force: true, .. } => "retry, forced:",
        };
        write!(f, "{word} {}", self.id())
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
                let force = wanted.forced_generation > told.forced_generation;
                operations.push(Operation::Retry { id, generations, force });
            }
        }
        (_, Desired::Running) => operations.push(Operation::Start(id, generations)),
        (told, wanted) if told == wanted => {}
        (_, Desired::Stopped) => operations.push(Operation::Stop(id)),
        (_, Desired::Killed) => operations.push(Operation::Kill(id)),
    }
}

const fn generations(worker: &WorkerAssignment) -> Generations {
    Generations {
        restart: worker.restart_generation,
        retry: worker.retry_generation,
        forced: worker.forced_generation,
        clean: worker.clean_generation,
    }
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
            unit.worker.forced_generation = 0;
            // `clean_generation` stays: it names a folder.
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
            | Operation::Retry { generations, .. } => {
                told.desired = Desired::Running;
                told.restart_generation = generations.restart;
                told.retry_generation = generations.retry;
                told.forced_generation = generations.forced;
                told.clean_generation = generations.clean;
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
