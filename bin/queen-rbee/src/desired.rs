//! What queen wants: config ∪ what was ordered by hand, placed on hives. Pure; the store keeps it.
//!
//! One counter numbers everything that must be told apart by age: a hive's generation is the counter's value
//! when its assignment last changed in content, an order's number is its value when the order was given. So a
//! number never comes twice within a fleet, even when what it numbered was forgotten in between.

mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rbee_api::{Desired, ModelSpec, ReplicaId, WorkerAssignment, WorkerSpec};
use serde::{Deserialize, Serialize};

use crate::placement::{self, Candidate, Placement};

pub use upkeep::{Draining, Load, Move, Pending, Then, Upkeep};

/// Replicas a worker may have; more is a slip of the finger.
pub const REPLICAS_MAX: u32 = 256;

/// A worker as the config describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// How to run it.
    pub spec: WorkerSpec,
    /// The model it serves.
    pub model: Option<ModelSpec>,
    /// How many of it.
    pub replicas: u32,
    /// Whether it runs without being asked.
    pub auto_start: bool,
    /// When it is loaded, where that depends on its use.
    pub on_demand: Option<OnDemand>,
}

/// A worker that is there only while it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnDemand {
    /// Unloaded when unused for so long.
    pub idle_ttl: Duration,
    /// Loaded before the first request.
    pub from_start: bool,
}

/// Every worker of the config, by name.
pub type Wishes = BTreeMap<String, Wish>;

/// What was ordered by hand about one replica.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orders {
    /// Other than what the config says; absent: as it says.
    pub desired: Option<Desired>,
    /// Number of the last restart.
    pub restart_generation: u64,
    /// Number of the last retry.
    pub retry_generation: u64,
    /// Number of the last retry that also forgets the restarts counted.
    pub forced_generation: u64,
    /// Number of the last restart that drops what was kept.
    pub clean_generation: u64,
    /// It gets no new work.
    pub draining: bool,
}

/// A hive that has been seen, and what it shall run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HiveRecord {
    /// The machine that holds its name.
    pub machine_id: String,
    /// Where its API is.
    pub url: String,
    /// Cores of its machine.
    pub cores: u32,
    /// Last heard of, in milliseconds since the epoch; written when something else is, so it may be older than the truth.
    pub last_seen_ms: i64,
    /// Number of its assignment.
    pub generation: u64,
    /// Its assignment.
    pub workers: Vec<WorkerAssignment>,
}

/// Everything queen wants of the fleet.
#[derive(Debug, Clone, PartialEq)]
pub struct DesiredState {
    /// Identity of the store.
    pub fleet_id: String,
    /// See the module's head.
    pub counter: u64,
    /// Replicas where they were scaled by hand.
    pub scaled: BTreeMap<String, u32>,
    /// Orders by hand.
    pub orders: BTreeMap<ReplicaId, Orders>,
    /// Where each replica is.
    pub placement: Placement,
    /// Every hive ever seen.
    pub hives: BTreeMap<String, HiveRecord>,
    /// What goes on.
    pub upkeep: Upkeep,
}

impl DesiredState {
    /// A new fleet without anything in it.
    #[must_use]
    pub fn new(fleet_id: String) -> Self {
        Self {
            fleet_id,
            counter: 0,
            scaled: BTreeMap::new(),
            orders: BTreeMap::new(),
            placement: Placement::new(),
            hives: BTreeMap::new(),
            upkeep: Upkeep::default(),
        }
    }

    /// How many replicas the worker shall have.
    #[must_use]
    pub fn replicas(&self, name: &str, wish: &Wish) -> u32 {
        self.scaled.get(name).copied().unwrap_or(wish.replicas)
    }

    /// Every replica there shall be.
    #[must_use]
    pub fn wanted(&self, wishes: &Wishes) -> BTreeSet<ReplicaId> {
        wishes
            .iter()
            .flat_map(|(name, wish)| {
                let surge = u32::from(self.rolling(name).is_some());
                (0..self.replicas(name, wish) + surge).map(|replica| ReplicaId { name: name.clone(), replica })
            })
            .collect()
    }

    fn ordered(&self, id: &ReplicaId, wish: &Wish) -> Desired {
        let by_hand = self.orders.get(id).and_then(|orders| orders.desired);
        by_hand.unwrap_or(by_itself(wish))
    }

    /// What a replica shall be.
    #[must_use]
    pub fn desired(&self, id: &ReplicaId, wish: &Wish) -> Desired {
        match self.rolling(&id.name) {
            Some(rolling) if rolling.replicas == id.replica => return Desired::Running,
            _ => {}
        }
        match self.ordered(id, wish) {
            Desired::Running if self.load(&id.name, wish) == Load::Unloaded => Desired::Stopped,
            ordered => ordered,
        }
    }

    /// Orders a replica to be so; whether that is a change.
    pub fn order(&mut self, id: &ReplicaId, wish: &Wish, desired: Desired) -> bool {
        let loaded = desired == Desired::Running && self.set_load(&id.name, wish, Load::Loaded);
        if self.ordered(id, wish) == desired {
            return loaded;
        }
        let orders = self.orders.entry(id.clone()).or_default();
        orders.desired = (desired != by_itself(wish)).then_some(desired);
        true
    }

    /// Gives a replica no new work, or work again; whether that is a change.
    pub fn order_drain(&mut self, id: &ReplicaId, draining: bool) -> bool {
        if self.orders.get(id).is_some_and(|orders| orders.draining) == draining {
            return false;
        }
        self.orders.entry(id.clone()).or_default().draining = draining;
        true
    }

    /// Orders one restart; with `clean`, one that drops what was kept.
    pub fn order_restart(&mut self, id: &ReplicaId, clean: bool) {
        self.counter += 1;
        let orders = self.orders.entry(id.clone()).or_default();
        orders.restart_generation = self.counter;
        if clean {
            orders.clean_generation = self.counter;
        }
    }

    /// Orders one more try; with `force`, one that forgets the restarts counted so far.
    pub fn order_retry(&mut self, id: &ReplicaId, force: bool) {
        self.counter += 1;
        let orders = self.orders.entry(id.clone()).or_default();
        orders.retry_generation = self.counter;
        if force {
            orders.forced_generation = self.counter;
        }
    }

    /// Sets the number of replicas; whether that is a change.
    pub fn scale(&mut self, name: &str, wish: &Wish, replicas: u32) -> bool {
        if self.replicas(name, wish) == replicas {
            return false;
        }
        if replicas == wish.replicas {
            self.scaled.remove(name);
        } else {
            self.scaled.insert(name.to_owned(), replicas);
        }
        true
    }

    /// Places everything and renews the assignments whose content changes by it.
    pub fn replan(&mut self, wishes: &Wishes, candidates: &[Candidate]) {
        self.tidy_upkeep(wishes);
        let wanted = self.wanted(wishes);
        // What is ordered about a replica ends with the replica: scaled up again it is a new one.
        self.orders.retain(|id, _| wanted.contains(id));
        let needs = wishes.iter().map(|(name, wish)| (name.as_str(), wish.spec.depends_on.as_slice()));
        let placement = placement::plan(&wanted, candidates, &self.placement, &placement::groups(needs));
        self.note_moves(&placement, wishes, candidates);
        self.placement = placement;
        let mut workers: BTreeMap<String, Vec<WorkerAssignment>> = BTreeMap::new();
        let leaving = self.upkeep.moves.iter().map(|leaving| (&leaving.id, &leaving.from));
        for (id, hive) in self.placement.iter().chain(leaving) {
            if let Some(wish) = wishes.get(&id.name) {
                workers.entry(hive.clone()).or_default().push(self.assignment_of(id, wish));
            }
        }
        workers.values_mut().for_each(|workers| workers.sort_by(|a, b| a.id.cmp(&b.id)));
        for (name, hive) in &mut self.hives {
            let assigned = workers.remove(name).unwrap_or_default();
            if hive.workers != assigned || hive.generation == 0 {
                self.counter += 1;
                hive.generation = self.counter;
                hive.workers = assigned;
            }
        }
    }

    fn assignment_of(&self, id: &ReplicaId, wish: &Wish) -> WorkerAssignment {
        let orders = self.orders.get(id).cloned().unwrap_or_default();
        WorkerAssignment {
            id: id.clone(),
            spec: Arc::new(wish.spec.clone()),
            model: wish.model.clone(),
            desired: self.desired(id, wish),
            restart_generation: orders.restart_generation,
            retry_generation: orders.retry_generation,
            forced_generation: orders.forced_generation,
            clean_generation: orders.clean_generation,
        }
    }

    /// Everything there shall be, whether it has a place or not.
    #[must_use]
    pub fn all(&self, wishes: &Wishes) -> Vec<WorkerAssignment> {
        let wanted = self.wanted(wishes);
        wanted.iter().filter_map(|id| Some(self.assignment_of(id, wishes.get(&id.name)?))).collect()
    }

    /// What its hive is told about a replica.
    #[must_use]
    pub fn assigned(&self, id: &ReplicaId) -> Option<(&str, &WorkerAssignment)> {
        let (name, hive) = self.hives.get_key_value(self.placement.get(id)?)?;
        Some((name, hive.workers.iter().find(|worker| worker.id == *id)?))
    }
}

const fn by_itself(wish: &Wish) -> Desired {
    // What is loaded on demand is wanted, and loaded when it is needed.
    if wish.auto_start || wish.on_demand.is_some() { Desired::Running } else { Desired::Stopped }
}

#[cfg(test)]
pub(crate) mod tests;
