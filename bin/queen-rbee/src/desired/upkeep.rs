//! What queen wants by and by: drains, rolling restarts, moves, what is loaded on demand. Pure; the store keeps it.

use std::collections::{BTreeMap, BTreeSet};

use rbee_api::{Desired, ReplicaId};
use serde::{Deserialize, Serialize};

use super::{DesiredState, Wish, Wishes};
use crate::once::Remembered;
use crate::placement::{Candidate, Placement, Standing};
use crate::rolling::{Rolling, Step};

/// Whether a worker that is loaded on demand is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Load {
    /// It shall run.
    Loaded,
    /// It gets nothing new; it goes if nothing is in flight.
    Leaving,
    /// It shall not run until it is needed.
    Unloaded,
}

/// A replica on its way from one hive to another: the old place is kept until the new one is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// Which replica.
    pub id: ReplicaId,
    /// The hive that it leaves.
    pub from: String,
}

/// What comes of a replica when nothing is in flight there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Then {
    /// It is stopped.
    Stop,
    /// It is restarted.
    Restart,
    /// It is restarted, and what it kept is dropped.
    Clean,
}

/// A replica that finishes what it has first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// Which replica.
    pub id: ReplicaId,
    /// What comes then.
    pub then: Then,
}

/// What queen does by and by, besides what is ordered of single replicas; it survives her.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Upkeep {
    /// Hives that get no new work.
    pub drained_hives: BTreeSet<String>,
    /// Workers that are loaded on demand, by name; absent: as at the start.
    pub loads: BTreeMap<String, Load>,
    /// Rolling restarts, by worker; the last one stays here when it is over.
    pub rolling: BTreeMap<String, Rolling>,
    /// Replicas that leave a drained hive.
    pub moves: Vec<Move>,
    /// Replicas that finish what they have before they are stopped or restarted.
    pub pending: Vec<Pending>,
    /// Number of the last upgrade of each hive.
    pub hive_upgrades: BTreeMap<String, u64>,
    /// The last orders that came with a key.
    pub remembered: Remembered,
}

/// Why a replica gets no new work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Draining {
    /// By order: it gets nothing, even if nobody else can take it.
    Ordered,
    /// Another one is there for it, or comes: where none is, it goes on.
    Relieved,
}

impl DesiredState {
    /// The rolling restart of a worker that goes on.
    #[must_use]
    pub fn rolling(&self, name: &str) -> Option<&Rolling> {
        self.upkeep.rolling.get(name).filter(|rolling| rolling.is_active())
    }

    /// Whether a worker is loaded; one that is not loaded on demand always is.
    #[must_use]
    pub fn load(&self, name: &str, wish: &Wish) -> Load {
        let Some(on_demand) = wish.on_demand else { return Load::Loaded };
        let at_start = if on_demand.from_start { Load::Loaded } else { Load::Unloaded };
        self.upkeep.loads.get(name).copied().unwrap_or(at_start)
    }

    /// Whether somebody wants the replica down by order: then no request brings it up.
    #[must_use]
    pub fn is_held_down(&self, id: &ReplicaId, wish: &Wish) -> bool {
        self.ordered(id, wish) != Desired::Running || self.pending(id) == Some(Then::Stop)
    }

    /// Why a replica gets no new work on a hive, if it does not.
    #[must_use]
    pub fn draining(&self, hive: &str, id: &ReplicaId) -> Option<Draining> {
        if self.orders.get(id).is_some_and(|orders| orders.draining) || self.pending(id).is_some() {
            return Some(Draining::Ordered);
        }
        let leaves = self.upkeep.moves.iter().any(|leaving| leaving.id == *id && leaving.from == hive);
        let rolled = self.rolling(&id.name).is_some_and(|rolling| rolling.drains(id.replica));
        if leaves || rolled {
            return Some(Draining::Relieved);
        }
        // A request that comes meanwhile calls the unloading off.
        let unloading = self.upkeep.loads.get(&id.name) == Some(&Load::Leaving);
        (unloading || self.upkeep.drained_hives.contains(hive)).then_some(Draining::Ordered)
    }

    /// What comes of a replica once it has finished what it has.
    #[must_use]
    pub fn pending(&self, id: &ReplicaId) -> Option<Then> {
        self.upkeep.pending.iter().find(|pending| pending.id == *id).map(|pending| pending.then)
    }

    /// Has a replica finish what it has first; whether that is a change.
    pub fn order_then(&mut self, id: &ReplicaId, then: Then) -> bool {
        let changed = self.pending(id) != Some(then);
        self.forget_pending(id);
        self.upkeep.pending.push(Pending { id: id.clone(), then });
        changed
    }

    /// Whether a replica was about to be stopped or restarted, and is not any more.
    pub fn forget_pending(&mut self, id: &ReplicaId) -> bool {
        let before = self.upkeep.pending.len();
        self.upkeep.pending.retain(|pending| pending.id != *id);
        self.upkeep.pending.len() != before
    }

    /// Loads or unloads a worker; whether that is a change. Nothing of one that is not loaded on demand.
    pub fn set_load(&mut self, name: &str, wish: &Wish, load: Load) -> bool {
        if wish.on_demand.is_none() || self.load(name, wish) == load {
            return false;
        }
        self.upkeep.loads.insert(name.to_owned(), load);
        true
    }

    /// Takes a step of a rolling restart.
    pub fn roll(&mut self, name: &str, step: Step) {
        let Some(rolling) = self.upkeep.rolling.get_mut(name) else { return };
        let clean = rolling.clean;
        rolling.step = step.clone();
        if let Step::Restart(replica) = step {
            self.order_restart(&ReplicaId { name: name.to_owned(), replica }, clean);
        }
    }

    /// Ends a rolling restart that a later order leaves no sense to.
    pub fn stop_rolling(&mut self, name: &str, why: &str) {
        if let Some(rolling) = self.upkeep.rolling.get_mut(name).filter(|rolling| rolling.is_active()) {
            rolling.step = Step::Ended { why: Some(why.to_owned()) };
        }
    }

    /// What goes on about workers that are not what they were.
    pub(super) fn tidy_upkeep(&mut self, wishes: &Wishes) {
        let mut upkeep = std::mem::take(&mut self.upkeep);
        upkeep.loads.retain(|name, _| wishes.get(name).is_some_and(|wish| wish.on_demand.is_some()));
        upkeep.rolling.retain(|name, _| wishes.contains_key(name));
        let exists =
            |id: &ReplicaId| wishes.get(&id.name).is_some_and(|wish| id.replica < self.replicas(&id.name, wish));
        upkeep.pending.retain(|pending| exists(&pending.id));
        for (name, rolling) in upkeep.rolling.iter_mut().filter(|(_, rolling)| rolling.is_active()) {
            if wishes.get(name).is_some_and(|wish| self.replicas(name, wish) != rolling.replicas) {
                rolling.step = Step::Ended { why: Some("it has another number of replicas now".to_owned()) };
            }
        }
        self.upkeep = upkeep;
    }

    /// A replica that runs and goes elsewhere because its hive is drained is kept there until it is ready at its new place.
    pub(super) fn note_moves(&mut self, next: &Placement, wishes: &Wishes, candidates: &[Candidate]) {
        let drained = |hive: &str| {
            candidates.iter().any(|candidate| candidate.name == hive && candidate.standing == Standing::Drained)
        };
        let moved = next.iter().filter_map(|(id, to)| Some((id, self.placement.get(id).filter(|from| *from != to)?)));
        let fresh: Vec<Move> = moved
            .filter(|(_, from)| drained(from))
            .map(|(id, from)| Move { id: id.clone(), from: from.clone() })
            .collect();
        let known = |hive: &str| {
            candidates.iter().any(|candidate| candidate.name == hive && candidate.standing != Standing::Gone)
        };
        let runs = |id: &ReplicaId| wishes.get(&id.name).is_some_and(|wish| self.desired(id, wish) == Desired::Running);
        let overtaken = |old: &Move| fresh.iter().any(|new| new.id == old.id);
        let older = self.upkeep.moves.iter().filter(|old| !overtaken(old)).cloned();
        let mut moves: Vec<Move> = older.chain(fresh.iter().cloned()).collect();
        moves.retain(|Move { id, from }| next.get(id).is_some_and(|home| home != from) && known(from) && runs(id));
        moves.sort_by(|a, b| a.id.cmp(&b.id));
        self.upkeep.moves = moves;
    }
}
