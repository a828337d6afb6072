//! What a reload changes: the workers wanted before and after, and what became of each. Pure.
//!
//! ```text
//!   wanted before ─┐                              runs before ─┐
//!                  ├─▶ Difference::between ─▶ … ───────────────┼─▶ Difference::reply
//!   wanted after ──┘                              runs after ──┘
//! ```

use std::collections::{BTreeMap, BTreeSet};

use crate::{Phase, ReloadReply, ReplicaId, WorkerAssignment, WorkerStatus};

/// What is wanted otherwise than before.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// New.
    pub added: Vec<ReplicaId>,
    /// Wanted no more.
    pub removed: Vec<ReplicaId>,
    /// Wanted otherwise.
    pub changed: Vec<ReplicaId>,
    /// As before by itself; what it depends on, changed.
    pub concerned: Vec<ReplicaId>,
    /// How many are as they were.
    pub untouched: usize,
}

/// Which process each replica has, if any.
pub type Runs = BTreeMap<ReplicaId, (u64, bool)>;

/// The processes that these statuses tell of.
pub fn runs<'a>(workers: impl Iterator<Item = &'a WorkerStatus>) -> Runs {
    workers
        .map(|status| {
            let id = ReplicaId { name: status.name.clone(), replica: status.replica };
            (id, (status.incarnation, matches!(status.phase, Phase::Running | Phase::Draining)))
        })
        .collect()
}

impl Difference {
    /// What `after` wants otherwise than `before`.
    #[must_use]
    pub fn between(before: &[WorkerAssignment], after: &[WorkerAssignment]) -> Self {
        let old: BTreeMap<_, _> = before.iter().map(|worker| (&worker.id, worker)).collect();
        let new: BTreeSet<_> = after.iter().map(|worker| &worker.id).collect();
        let mut difference = Self {
            removed: before.iter().map(|worker| &worker.id).filter(|id| !new.contains(id)).cloned().collect(),
            ..Self::default()
        };
        let mut same = Vec::new();
        for worker in after {
            match old.get(&worker.id) {
                None => difference.added.push(worker.id.clone()),
                Some(old) if *old != worker => difference.changed.push(worker.id.clone()),
                Some(_) => same.push(worker),
            }
        }
        // Down the dependencies: whatever stands on something that may go down for a while.
        let moved = difference.added.iter().chain(&difference.removed).chain(&difference.changed);
        let mut moved: BTreeSet<String> = moved.map(|id| id.name.clone()).collect();
        loop {
            let (concerned, rest): (Vec<_>, Vec<_>) =
                same.into_iter().partition(|worker| worker.spec.depends_on.iter().any(|name| moved.contains(name)));
            same = rest;
            if concerned.is_empty() {
                break;
            }
            moved.extend(concerned.iter().map(|worker| worker.id.name.clone()));
            difference.concerned.extend(concerned.into_iter().map(|worker| worker.id.clone()));
        }
        difference.untouched = same.len();
        difference
    }

    /// The replicas whose settling is worth waiting for.
    pub fn touched(&self) -> impl Iterator<Item = &ReplicaId> {
        self.added.iter().chain(&self.changed).chain(&self.concerned)
    }

    /// What became of it, by the processes before and after.
    #[must_use]
    pub fn reply(&self, before: &Runs, after: &Runs) -> ReloadReply {
        let same_run = |id: &&ReplicaId| before.get(*id) == after.get(*id);
        let (updated, mut restarted): (Vec<&ReplicaId>, Vec<_>) = self.changed.iter().partition(same_run);
        let (as_before, cascaded): (Vec<&ReplicaId>, Vec<_>) = self.concerned.iter().partition(same_run);
        restarted.extend(cascaded);
        restarted.sort();
        ReloadReply {
            added: words(&self.added),
            removed: words(&self.removed),
            restarted: restarted.into_iter().map(ToString::to_string).collect(),
            updated: updated.into_iter().map(ToString::to_string).collect(),
            untouched: self.untouched + as_before.len(),
            ..ReloadReply::default()
        }
    }
}

/// Replicas as people write them.
#[must_use]
pub fn words(ids: &[ReplicaId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}
