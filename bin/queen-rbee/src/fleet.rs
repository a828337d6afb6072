//! The live state of the fleet: what is wanted, and what was last heard of each hive. Pure: [`crate::registry`]
//! owns the one instance and brings it time, messages and disk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use rbee_api::ids::is_valid_name;
use rbee_api::{ApiError, ErrorCode, Heartbeat, Phase, ReplicaId, WorkerStatus};

use crate::desired::{DesiredState, HiveRecord, Wishes};
use crate::lease::{Lease, LeaseState, Terms};
use crate::placement::{Candidate, Standing};
use crate::routes::{Endpoint, Routes, authority};

/// Hives a fleet may have.
pub const HIVES_MAX: usize = 256;

/// One moment, on both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For leases: never jumps.
    pub at: Instant,
    /// For people, in milliseconds since the epoch.
    pub wall_ms: i64,
}

impl Now {
    /// This moment.
    #[must_use]
    pub fn read() -> Self {
        Self { at: Instant::now(), wall_ms: jiff::Timestamp::now().as_millisecond() }
    }
}

/// What was last heard of one hive.
#[derive(Debug, Clone)]
struct Seen {
    lease: Lease,
    heard_ms: i64,
    heartbeat: Option<Arc<Heartbeat>>,
    /// Where its workers answered when it was last asked.
    endpoints: BTreeMap<ReplicaId, Endpoint>,
}

/// The fleet.
#[derive(Debug, Clone)]
pub struct Fleet {
    terms: Terms,
    wishes: Arc<Wishes>,
    desired: Arc<DesiredState>,
    seen: BTreeMap<String, Seen>,
}

/// Everything a reader may want to know, at one moment; never changes once published.
#[derive(Debug, Clone)]
pub struct View {
    /// The config's workers.
    pub wishes: Arc<Wishes>,
    /// What is wanted.
    pub desired: Arc<DesiredState>,
    /// Every hive ever seen.
    pub hives: BTreeMap<String, HiveView>,
    /// Where requests can go.
    pub routes: Routes,
}

/// One hive.
#[derive(Debug, Clone)]
pub struct HiveView {
    /// What its lease says.
    pub lease: LeaseState,
    /// When it was last heard of; queen's start, where that was before it.
    pub renewed: Instant,
    /// The same on the wall clock, over queen's restarts.
    pub heard_ms: i64,
    /// What it said; absent while this queen has not heard of it.
    pub heartbeat: Option<Arc<Heartbeat>>,
    /// Where its workers answered last.
    pub endpoints: BTreeMap<ReplicaId, Endpoint>,
}

impl HiveView {
    /// What the hive last said of a replica.
    #[must_use]
    pub fn worker(&self, id: &ReplicaId) -> Option<&WorkerStatus> {
        let heartbeat = self.heartbeat.as_ref()?;
        heartbeat.workers.iter().find(|worker| worker.name == id.name && worker.replica == id.replica)
    }
}

impl View {
    /// Whether the process behind an endpoint is known to have ended: nobody will answer there.
    #[must_use]
    pub fn is_gone(&self, endpoint: &Endpoint) -> bool {
        let Some(hive) = self.hives.get(&endpoint.hive) else { return true };
        let Some(heartbeat) = &hive.heartbeat else { return false };
        match hive.worker(&endpoint.id) {
            Some(worker) => {
                let alive = matches!(worker.phase, Phase::Running | Phase::Stopping | Phase::Draining);
                worker.incarnation != endpoint.incarnation || !alive
            }
            // A hive that has no orders yet may not have found its workers yet either.
            None => heartbeat.generation > 0,
        }
    }
}

impl Fleet {
    /// The fleet as an earlier queen left it, seen by nobody yet.
    #[must_use]
    pub fn new(wishes: Wishes, desired: DesiredState, terms: Terms, now: Now) -> Self {
        let seen = desired.hives.iter().map(|(name, record)| {
            let lease = Lease::restored(terms, &record.machine_id, now.at);
            (name.clone(), Seen { lease, heard_ms: record.last_seen_ms, heartbeat: None, endpoints: BTreeMap::new() })
        });
        let seen = seen.collect();
        Self { terms, wishes: Arc::new(wishes), desired: Arc::new(desired), seen }
    }

    /// What is wanted.
    #[must_use]
    pub fn desired(&self) -> &Arc<DesiredState> {
        &self.desired
    }

    /// The config's workers.
    #[must_use]
    pub fn wishes(&self) -> &Wishes {
        &self.wishes
    }

    /// Puts another configuration in place of the one that holds, which is returned.
    pub fn exchange_wishes(&mut self, wishes: Arc<Wishes>) -> Arc<Wishes> {
        std::mem::replace(&mut self.wishes, wishes)
    }

    /// Takes in what a hive says. A refused heartbeat changes nothing.
    ///
    /// # Errors
    /// A bad name or URL, another machine that holds the name, too many hives.
    pub fn heartbeat(&mut self, now: Now, name: &str, heartbeat: Heartbeat) -> Result<(), ApiError> {
        if !is_valid_name(name) {
            let message = format!("`{name}` is no name for a hive: use letters, digits, `-` and `_`");
            return Err(ApiError::new(ErrorCode::InvalidParameter, message).with_param("name"));
        }
        if authority(&heartbeat.url, 1).is_none() {
            let message = format!("`{}` is no URL of a hive", heartbeat.url);
            return Err(ApiError::new(ErrorCode::InvalidParameter, message).with_param("url"));
        }
        if !self.seen.contains_key(name) && self.seen.len() >= HIVES_MAX {
            let message = format!("this queen takes no more than {HIVES_MAX} hives");
            return Err(ApiError::new(ErrorCode::Conflict, message));
        }
        let seen = self.seen.entry(name.to_owned()).or_insert_with(|| Seen {
            lease: Lease::new(self.terms, &heartbeat.machine_id, now.at),
            heard_ms: now.wall_ms,
            heartbeat: None,
            endpoints: BTreeMap::new(),
        });
        seen.lease.heartbeat(now.at, &heartbeat.machine_id, heartbeat.stopping).map_err(|claimed| {
            let message = format!("a hive named `{name}` exists already: {claimed}; give this one another name");
            ApiError::new(ErrorCode::Conflict, message)
        })?;
        seen.heard_ms = now.wall_ms;
        note_endpoints(name, &heartbeat, &mut seen.endpoints);
        seen.heartbeat = Some(Arc::new(heartbeat));
        Ok(())
    }

    /// What is wanted at `now`, from `base` (the present state, or it with an order in it).
    #[must_use]
    pub fn replanned(&self, now: Now, mut base: DesiredState) -> DesiredState {
        for (name, seen) in &self.seen {
            record(now, seen, name, &mut base);
        }
        let candidates: Vec<Candidate> = self
            .seen
            .iter()
            .map(|(name, seen)| Candidate {
                name: name.clone(),
                standing: match seen.lease.state(now.at) {
                    LeaseState::Lost => Standing::Gone,
                    _ if base.upkeep.drained_hives.contains(name) => Standing::Drained,
                    LeaseState::Alive => Standing::Open,
                    LeaseState::Suspect => Standing::Holding,
                },
                cores: base.hives.get(name).map_or(1, |record| record.cores),
            })
            .collect();
        base.replan(&self.wishes, &candidates);
        base
    }

    /// Takes over what was planned; it must have been saved.
    pub fn accept(&mut self, desired: Arc<DesiredState>) {
        self.desired = desired;
    }

    /// When something changes by itself.
    #[must_use]
    pub fn deadline(&self, now: Now) -> Option<Instant> {
        self.seen.values().filter_map(|seen| seen.lease.deadline(now.at)).min()
    }

    /// The state at `now`, for readers.
    #[must_use]
    pub fn view(&self, now: Now) -> View {
        let hives: BTreeMap<String, HiveView> = self
            .seen
            .iter()
            .map(|(name, seen)| {
                let view = HiveView {
                    lease: seen.lease.state(now.at),
                    renewed: seen.lease.renewed(),
                    heard_ms: seen.heard_ms,
                    heartbeat: seen.heartbeat.clone(),
                    endpoints: seen.endpoints.clone(),
                };
                (name.clone(), view)
            })
            .collect();
        let routes = Routes::build(&self.wishes, &self.desired, &hives);
        View { wishes: Arc::clone(&self.wishes), desired: Arc::clone(&self.desired), hives, routes }
    }
}

/// Writes down what must survive of a hive; `last_seen_ms` only when it is written anyway or begins to matter.
fn record(now: Now, seen: &Seen, name: &str, base: &mut DesiredState) {
    let Some(heartbeat) = &seen.heartbeat else { return };
    let record = base.hives.entry(name.to_owned()).or_insert_with(|| HiveRecord {
        machine_id: String::new(),
        url: String::new(),
        cores: 0,
        last_seen_ms: 0,
        generation: 0,
        workers: Vec::new(),
    });
    let same =
        record.machine_id == heartbeat.machine_id && record.url == heartbeat.url && record.cores == heartbeat.cores;
    if !same || seen.lease.state(now.at) != LeaseState::Alive {
        record.machine_id.clone_from(&heartbeat.machine_id);
        record.url.clone_from(&heartbeat.url);
        record.cores = heartbeat.cores;
        record.last_seen_ms = seen.heard_ms;
    }
}

fn note_endpoints(hive: &str, heartbeat: &Heartbeat, endpoints: &mut BTreeMap<ReplicaId, Endpoint>) {
    let mut now = BTreeMap::new();
    for worker in &heartbeat.workers {
        let id = ReplicaId { name: worker.name.clone(), replica: worker.replica };
        let address = worker.port.and_then(|port| authority(&heartbeat.url, port));
        if let (Phase::Running, Some(address)) = (worker.phase, address) {
            let (incarnation, own_engine) = (worker.incarnation, worker.own_engine);
            now.insert(id.clone(), Endpoint { hive: hive.to_owned(), id, incarnation, address, own_engine });
        }
    }
    if heartbeat.generation == 0 {
        // A hive that has just come back may not have found its workers yet: what it does not speak of is as it was.
        for (id, endpoint) in endpoints.iter() {
            if !heartbeat.workers.iter().any(|worker| worker.name == id.name && worker.replica == id.replica) {
                now.insert(id.clone(), endpoint.clone());
            }
        }
    }
    *endpoints = now;
}

#[cfg(test)]
pub(crate) mod tests;
