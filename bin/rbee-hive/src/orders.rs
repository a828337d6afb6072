//! What a hive that stands alone wants: its config's workers, changed by verbs. Pure; the owner writes it down.
//!
//! ```text
//!   config ──┐
//!            ├─▶ Orders ──verb──▶ Orders, generation + 1 ──▶ assignment
//!   stored ──┘
//! ```
//!
//! A verb outlives restarts of the hive until the config says something new about the same thing.

use std::collections::{BTreeMap, BTreeSet};

use rbee_api::{
    ApiError, Assignment, Desired, ErrorCode, Phase, ReplicaId, Verb, VerbRequest, WorkerAssignment, WorkerRef,
};
use serde::{Deserialize, Serialize};

/// Fleet of the assignments that a hive makes for itself.
pub const STANDALONE_FLEET: &str = "standalone";
/// More replicas of one worker are taken for a slip.
const REPLICAS_MAX: u32 = 256;

/// What the config says about one worker.
#[derive(Debug, Clone, PartialEq)]
pub struct Configured {
    /// Its replica 0, with `desired` as the config asks for; the others are alike.
    pub template: WorkerAssignment,
    /// How many there are.
    pub replicas: u32,
}

/// Desired state, and what the config said when it was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredOrders {
    /// What is wanted.
    #[serde(flatten)]
    pub assignment: Assignment,
    /// By worker; empty for an assignment that came from queen.
    #[serde(default)]
    pub configured: BTreeMap<String, ConfiguredThen>,
}

/// The part of the config that verbs override.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfiguredThen {
    replicas: u32,
    desired: Desired,
}

/// What is wanted, and what it was made from.
#[derive(Debug, Clone)]
pub struct Orders {
    assignment: Assignment,
    configured: BTreeMap<String, Configured>,
}

/// What a verb did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// False where everything was as asked already.
    pub changed: bool,
    /// The replicas named.
    pub targets: Vec<ReplicaId>,
    /// Replicas that shall go.
    pub gone: Vec<ReplicaId>,
}

impl Orders {
    /// The config's workers, with the verbs that were stored where the config has not changed since.
    #[must_use]
    pub fn new(configured: BTreeMap<String, Configured>, stored: Option<&StoredOrders>) -> Self {
        let stored = stored.filter(|stored| stored.assignment.fleet_id == STANDALONE_FLEET);
        let mut before: BTreeMap<&str, Vec<&WorkerAssignment>> = BTreeMap::new();
        for worker in stored.iter().flat_map(|stored| &stored.assignment.workers) {
            before.entry(&worker.id.name).or_default().push(worker);
        }
        let of = |(name, worker): (&String, &Configured)| {
            let then = stored.and_then(|stored| stored.configured.get(name)).copied();
            replicas(worker, then, before.get(name.as_str()).map(Vec::as_slice).unwrap_or_default())
        };
        let workers = configured.iter().flat_map(of).collect();
        let generation = match stored {
            None => 1,
            Some(stored) if stored.assignment.workers == workers => stored.assignment.generation,
            Some(stored) => stored.assignment.generation + 1,
        };
        let assignment =
            Assignment { fleet_id: STANDALONE_FLEET.to_owned(), generation, workers, upgrade_generation: 0 };
        Self { assignment, configured }
    }

    /// What is wanted.
    #[must_use]
    pub fn assignment(&self) -> &Assignment {
        &self.assignment
    }

    /// What to write down.
    #[must_use]
    pub fn to_stored(&self) -> StoredOrders {
        let configured = self.configured.iter().map(|(name, worker)| (name.clone(), worker.then())).collect();
        StoredOrders { assignment: self.assignment.clone(), configured }
    }

    /// Carries out a verb. `phase` tells how a replica is now: one that gave up is tried again by `start`, too.
    ///
    /// # Errors
    /// [`ErrorCode::WorkerNotFound`] when nothing matches.
    pub fn verb(
        &mut self,
        target: &WorkerRef,
        verb: Verb,
        how: &VerbRequest,
        phase: impl Fn(&ReplicaId) -> Phase,
    ) -> Result<Edit, ApiError> {
        let targets = self.targets(target)?;
        refuse_what_needs_a_queen(verb, how)?;
        if how.clean
            && let Some(worker) = self.configured.get(&target.name)
        {
            worker.template.spec.check_clean(&target.name)?;
        }
        let mut changed = matches!(verb, Verb::Start | Verb::Restart | Verb::Retry) && self.start_needed(&target.name);
        for worker in self.assignment.workers.iter_mut().filter(|worker| targets.contains(&worker.id)) {
            changed |= change(worker, verb, how, phase(&worker.id));
        }
        self.assignment.generation += u64::from(changed);
        Ok(Edit { changed, targets, gone: Vec::new() })
    }

    /// Sets how many replicas run.
    ///
    /// # Errors
    /// [`ErrorCode::WorkerNotFound`], and [`ErrorCode::InvalidParameter`] for an absurd number.
    pub fn scale(&mut self, name: &str, count: u32) -> Result<Edit, ApiError> {
        let worker = self.configured.get(name).ok_or_else(|| self.not_found(name))?;
        if count > REPLICAS_MAX {
            let message = format!("{count} replicas are too many; the most is {REPLICAS_MAX}");
            return Err(ApiError::new(ErrorCode::InvalidParameter, message).with_param("replicas"));
        }
        let before = self.assignment.workers.clone();
        let is_gone = |id: &&ReplicaId| id.name == name && id.replica >= count;
        let gone: Vec<_> = before.iter().map(|worker| &worker.id).filter(is_gone).cloned().collect();
        let workers = &mut self.assignment.workers;
        workers.retain(|worker| !gone.contains(&worker.id));
        for replica in 0..count {
            match workers.iter_mut().find(|worker| worker.id.name == name && worker.id.replica == replica) {
                Some(worker) => worker.desired = Desired::Running,
                None => workers.push(WorkerAssignment { desired: Desired::Running, ..worker.replica(replica) }),
            }
        }
        workers.sort_by(|a, b| a.id.cmp(&b.id));
        let changed = before != *workers;
        self.assignment.generation += u64::from(changed);
        let targets = (0..count).map(|replica| ReplicaId { name: name.to_owned(), replica }).collect();
        Ok(Edit { changed, targets, gone })
    }

    /// What is started starts what it needs. Returns whether anything needed was not wanted before.
    fn start_needed(&mut self, name: &str) -> bool {
        let mut needed: BTreeSet<&str> = BTreeSet::new();
        let mut open = vec![name];
        while let Some(name) = open.pop() {
            for next in self.configured.get(name).into_iter().flat_map(|worker| &worker.template.spec.depends_on) {
                if needed.insert(next) {
                    open.push(next);
                }
            }
        }
        let mut changed = false;
        let needed = self.assignment.workers.iter_mut().filter(|worker| needed.contains(worker.id.name.as_str()));
        for worker in needed.filter(|worker| worker.desired != Desired::Running) {
            worker.desired = Desired::Running;
            changed = true;
        }
        changed
    }

    fn targets(&self, target: &WorkerRef) -> Result<Vec<ReplicaId>, ApiError> {
        if !self.configured.contains_key(&target.name) {
            return Err(self.not_found(&target.name));
        }
        let ids = self.assignment.workers.iter().map(|worker| &worker.id).filter(|id| id.name == target.name);
        let targets: Vec<_> =
            ids.clone().filter(|id| target.replica.is_none_or(|replica| replica == id.replica)).cloned().collect();
        match target.replica {
            Some(replica) if targets.is_empty() => {
                let count = ids.count();
                let message =
                    format!("worker `{}` has no replica {replica}; it has {count}, counted from 0", target.name);
                Err(ApiError::new(ErrorCode::WorkerNotFound, message))
            }
            _ => Ok(targets),
        }
    }

    fn not_found(&self, name: &str) -> ApiError {
        let known: Vec<_> = self.configured.keys().map(String::as_str).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        ApiError::new(ErrorCode::WorkerNotFound, format!("no worker is called `{name}`; there are: {known}"))
    }
}

impl Configured {
    fn replica(&self, replica: u32) -> WorkerAssignment {
        let mut worker = self.template.clone();
        worker.id.replica = replica;
        worker
    }

    const fn then(&self) -> ConfiguredThen {
        ConfiguredThen { replicas: self.replicas, desired: self.template.desired }
    }
}

fn replicas(worker: &Configured, then: Option<ConfiguredThen>, before: &[&WorkerAssignment]) -> Vec<WorkerAssignment> {
    let now = worker.then();
    let count = match then {
        Some(then) if then.replicas == now.replicas => u32::try_from(before.len()).unwrap_or(REPLICAS_MAX),
        _ => now.replicas,
    };
    let keep_desired = then.is_some_and(|then| then.desired == now.desired);
    (0..count)
        .map(|replica| {
            let mut fresh = worker.replica(replica);
            if let Some(old) = before.iter().find(|old| old.id.replica == replica) {
                fresh.restart_generation = old.restart_generation;
                fresh.retry_generation = old.retry_generation;
                fresh.forced_generation = old.forced_generation;
                fresh.clean_generation = old.clean_generation;
                if keep_desired {
                    fresh.desired = old.desired;
                }
            }
            fresh
        })
        .collect()
}

fn refuse_what_needs_a_queen(verb: Verb, how: &VerbRequest) -> Result<(), ApiError> {
    let refused = |message: &str, param: &str| Err(ApiError::new(ErrorCode::InvalidRequest, message).with_param(param));
    match verb {
        Verb::Drain | Verb::Undrain => {
            let message = "this hive stands alone and gives out no requests: it cannot keep them from a worker; \
                `worker stop` ends one after what it has in flight";
            refused(message, "verb")
        }
        Verb::Restart if how.rolling => {
            let message = "this hive stands alone and gives out no requests: it cannot move them to another replica \
                first; restart one replica after the other (`worker restart NAME/0`, then `NAME/1`)";
            refused(message, "rolling")
        }
        Verb::Restart => Ok(()),
        _ if how.rolling => refused("`rolling` is for restart", "rolling"),
        _ if how.clean => refused("`clean` is for restart", "clean"),
        _ => Ok(()),
    }
}

fn retry(worker: &mut WorkerAssignment, force: bool) {
    worker.retry_generation += 1;
    if force {
        worker.forced_generation = worker.retry_generation;
    }
}

/// Whether the verb changed what is wanted of one replica.
fn change(worker: &mut WorkerAssignment, verb: Verb, how: &VerbRequest, phase: Phase) -> bool {
    // Wanted, yet down for good.
    let gave_up = matches!(phase, Phase::Failed | Phase::Unavailable | Phase::Stopped | Phase::Stale);
    let desired = match verb {
        Verb::Start | Verb::Restart | Verb::Retry => Desired::Running,
        Verb::Kill => Desired::Killed,
        Verb::Stop if how.now => Desired::Killed,
        Verb::Stop => Desired::Stopped,
        // Refused before.
        Verb::Drain | Verb::Undrain => return false,
    };
    let before = std::mem::replace(&mut worker.desired, desired);
    match verb {
        Verb::Restart => {
            worker.restart_generation += 1;
            if how.clean {
                worker.clean_generation = worker.restart_generation;
            }
        }
        // Whoever starts one that gave up starts afresh; a mere retry counts as one restart more.
        Verb::Start if before == Desired::Running && gave_up => retry(worker, true),
        Verb::Retry if before == Desired::Running && (gave_up || phase == Phase::Restarting) => {
            retry(worker, how.force);
        }
        // Down either way.
        Verb::Stop | Verb::Kill if before != Desired::Running && phase == Phase::Stopped => {
            worker.desired = before;
            return false;
        }
        _ => return before != desired,
    }
    true
}

#[cfg(test)]
mod tests;
