//! What the hive shows of its workers: the supervisor's words, put together with what the hive knows itself.

use std::sync::Arc;

use daemon_lifecycle::UnitStatus;
use jiff::Timestamp;
use rbee_api::assignment::{Engine, ThresholdsSpec};
use rbee_api::{Desired, Health, Phase, ReplicaId, WorkerAssignment, WorkerStatus};

use crate::reconcile::Told;

/// All workers at one moment; cheap to clone.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct View {
    /// Fleet of the assignment worked on.
    pub fleet_id: Option<String>,
    /// Its generation: the supervisor has been told all of it that can be told yet.
    pub generation: u64,
    /// Everything is being stopped.
    pub stopping: bool,
    /// The longest that a worker may take to end.
    pub stop_timeout_ms_max: u64,
    /// By name and replica.
    pub workers: Arc<Vec<WorkerView>>,
}

/// One worker at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerView {
    /// All but what grows by itself or must be sampled.
    pub status: WorkerStatus,
    /// When its process started.
    pub started_at: Option<Timestamp>,
    /// Its newest orders cannot be carried out, for the reason in `status`.
    pub blocked: bool,
    /// What is wanted of it; absent for one that is being removed.
    pub desired: Option<Desired>,
    /// The process that does its work, where that is none of its own.
    pub payload: Option<u32>,
    /// What it may use before somebody is told.
    pub thresholds: Option<ThresholdsSpec>,
}

/// What the hive itself does for a worker before the supervisor can.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ahead {
    /// Its model is being fetched or checked.
    Preparing {
        /// For people.
        note: String,
    },
    /// Workers that it depends on are not there yet.
    Waiting {
        /// Which, and how they are.
        for_whom: String,
    },
    /// It cannot be run as ordered.
    Blocked {
        /// Failed or unavailable.
        phase: Phase,
        /// For people.
        reason: String,
    },
}

impl View {
    /// The worker of that name and replica.
    #[must_use]
    pub fn get(&self, id: &ReplicaId) -> Option<&WorkerView> {
        let found = self.workers.binary_search_by(|worker| {
            let status = &worker.status;
            (status.name.as_str(), status.replica).cmp(&(id.name.as_str(), id.replica))
        });
        self.workers.get(found.ok()?)
    }

    /// The statuses as of now, without samples.
    #[must_use]
    pub fn statuses(&self) -> Vec<WorkerStatus> {
        self.workers.iter().map(WorkerView::status_now).collect()
    }
}

impl WorkerView {
    /// Puts one worker's view together. `wanted` is absent for one that is being removed.
    #[must_use]
    pub fn new(
        id: &ReplicaId,
        wanted: Option<&WorkerAssignment>,
        told: &Told,
        unit: Option<&UnitStatus>,
        ahead: Option<&Ahead>,
        port: Option<u16>,
    ) -> Self {
        let told = told.get(id).map(|unit| &unit.worker);
        let orders = wanted.or(told);
        let is_live = unit.is_some_and(is_live);
        let mut status = WorkerStatus {
            usage: None,
            name: id.name.clone(),
            replica: id.replica,
            phase: unit.map_or(Phase::Stopped, |unit| phase_of(unit.phase)),
            pid: unit.and_then(|unit| unit.pid),
            port: unit.and_then(|unit| unit.listen).map(|address| address.port()).or(port),
            model: orders.and_then(|worker| worker.model.as_ref()).map(|model| model.name.clone()),
            incarnation: unit.map_or(0, |unit| unit.incarnation),
            restarts: unit.map_or(0, |unit| unit.restarts),
            uptime_s: 0.0,
            rss_bytes: 0,
            cpu_percent: 0.0,
            health: unit.and_then(|unit| unit.health.as_ref()).and_then(health),
            reason: unit.and_then(reason),
            last_log_lines: unit
                .filter(|unit| shows_log(unit.phase))
                .map(|unit| unit.log_tail.clone())
                .unwrap_or_default(),
            restart_generation: told.map_or(0, |worker| worker.restart_generation),
            own_engine: orders.is_some_and(|worker| matches!(worker.spec.engine, Engine::Llm { .. })),
            waits_for: unit.and_then(|unit| unit.is_waiting_for.as_deref()).map(in_our_words),
            start_timeout_ms: 0,
            unloaded: false,
            behind: false,
            limits: unit.map(|unit| unit.limits_in_force.clone()).unwrap_or_default(),
        };
        if let Some(worker) = told.filter(|_| unit.is_some_and(|unit| unit.pid.is_some())) {
            status.limits.extend(kept_by_the_engine(worker));
        }
        let mut blocked = false;
        status.behind = is_live && ahead.is_some();
        match ahead {
            Some(Ahead::Preparing { note }) if !is_live => {
                status.phase = Phase::Starting;
                status.reason = Some(note.clone());
            }
            Some(Ahead::Blocked { phase, reason }) => {
                blocked = true;
                if is_live {
                    status.reason = Some(format!("its new orders cannot be carried out: {reason}"));
                } else {
                    status.phase = *phase;
                    status.reason = Some(reason.clone());
                }
            }
            Some(Ahead::Waiting { for_whom }) if !is_live => {
                status.phase = Phase::Starting;
                status.reason = Some(format!("waits for {for_whom}"));
                status.waits_for = Some(for_whom.clone());
            }
            Some(Ahead::Preparing { .. } | Ahead::Waiting { .. }) | None => {}
        }
        let started_at = unit.and_then(|unit| unit.started_at);
        let payload = unit.and_then(|unit| unit.payload);
        let thresholds = orders.and_then(|worker| worker.spec.thresholds.clone());
        Self { status, started_at, blocked, desired: wanted.map(|worker| worker.desired), payload, thresholds }
    }

    /// Which replica it is.
    #[must_use]
    pub fn id(&self) -> ReplicaId {
        ReplicaId { name: self.status.name.clone(), replica: self.status.replica }
    }

    /// The status with its uptime.
    #[must_use]
    pub fn status_now(&self) -> WorkerStatus {
        let mut status = self.status.clone();
        if let Some(started_at) = self.started_at.filter(|_| status.pid.is_some()) {
            status.uptime_s = Timestamp::now().duration_since(started_at).as_secs_f64().max(0.0);
        }
        status
    }
}

/// Whether a process of it exists, or may exist: one that is being spawned has no pid yet.
pub(crate) fn is_live(unit: &UnitStatus) -> bool {
    use daemon_lifecycle::Phase as Unit;
    matches!(unit.phase, Unit::Starting | Unit::Running | Unit::Stopping)
}

/// The supervisor's phase in the words of the fleet.
pub(crate) const fn phase_of(phase: daemon_lifecycle::Phase) -> Phase {
    use daemon_lifecycle::Phase as Unit;
    match phase {
        Unit::Stopped => Phase::Stopped,
        Unit::Starting => Phase::Starting,
        Unit::Running => Phase::Running,
        Unit::Stopping => Phase::Stopping,
        Unit::Restarting => Phase::Restarting,
        Unit::Failed => Phase::Failed,
        Unit::Unavailable => Phase::Unavailable,
    }
}

/// Of a worker in a container: the limits that are the container's.
fn kept_by_the_engine(worker: &WorkerAssignment) -> Vec<String> {
    if !matches!(worker.spec.engine, Engine::Container(_)) {
        return Vec::new();
    }
    let limits = &worker.spec.limits;
    let set = [
        ("memory_max", limits.memory_max_bytes.is_some()),
        ("cpus", limits.cpus.is_some()),
        ("nofile", limits.nofile.is_some()),
        ("nproc", limits.nproc.is_some()),
    ];
    set.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| format!("{name}: container")).collect()
}

/// Why it is not running, and while it starts, what it says it is doing.
fn reason(unit: &UnitStatus) -> Option<String> {
    let says = unit.status_text.as_ref().filter(|_| unit.phase == daemon_lifecycle::Phase::Starting);
    unit.reason.as_deref().map(in_our_words).or_else(|| says.cloned())
}

/// A unit's name in backquotes is a replica's: `cache.0` is `cache/0`.
pub(crate) fn in_our_words(text: &str) -> String {
    let word = |(at, part): (usize, &str)| match (at % 2, ReplicaId::from_unit_name(part)) {
        (1, Some(id)) => format!("`{id}`"),
        (1, None) => format!("`{part}`"),
        _ => part.to_owned(),
    };
    // An unpaired backquote is text like any other.
    if text.matches('`').count() % 2 == 1 { text.to_owned() } else { text.split('`').enumerate().map(word).collect() }
}

const fn shows_log(phase: daemon_lifecycle::Phase) -> bool {
    use daemon_lifecycle::Phase as Unit;
    matches!(phase, Unit::Failed | Unit::Unavailable | Unit::Restarting)
}

/// Seed 003's body, as far as the daemon gave one.
fn health(body: &serde_json::Value) -> Option<Health> {
    // A foreign daemon's body may be anything: only one that says `healthy` counts.
    let healthy = body.get("healthy")?.as_bool()?;
    let number = |key: &str| body.get(key).and_then(serde_json::Value::as_u64).unwrap_or(0);
    let last_activity = body.get("last_activity").and_then(serde_json::Value::as_str).and_then(|at| at.parse().ok());
    let cache_hit_rate = body.get("cache_hit_rate").and_then(serde_json::Value::as_f64);
    let (queue_depth, error_count) = (number("queue_depth"), number("error_count"));
    Some(Health { healthy, last_activity, queue_depth, error_count, cache_hit_rate })
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;
    use crate::reconcile::tests::worker;

    pub(crate) fn status(pid: Option<u32>) -> WorkerStatus {
        let id = ReplicaId { name: "w".into(), replica: 0 };
        let mut status = WorkerView::new(&id, None, &Told::default(), None, None, None).status;
        status.pid = pid;
        status
    }

    #[test]
    fn a_worker_nobody_was_told_of_is_stopped_or_what_the_hive_does_for_it() {
        let wanted = worker("w", 0, Desired::Running);
        let view =
            |ahead: Option<&Ahead>| WorkerView::new(&wanted.id, Some(&wanted), &Told::default(), None, ahead, None);
        assert_eq!(view(None).status.phase, Phase::Stopped);
        let preparing = view(Some(&Ahead::Preparing { note: "pulling model m: 45%".into() }));
        assert_eq!(preparing.status.phase, Phase::Starting);
        assert_eq!(preparing.status.reason.as_deref(), Some("pulling model m: 45%"));
        let blocked = view(Some(&Ahead::Blocked { phase: Phase::Unavailable, reason: "gone".into() }));
        assert_eq!((blocked.status.phase, blocked.blocked), (Phase::Unavailable, true));
    }

    #[test]
    fn a_unit_that_is_named_is_a_replica_to_people() {
        for (text, expected) in [
            ("its dependency `cache.0` is not running", "its dependency `cache/0` is not running"),
            ("`a.1`, `b.c` and a.2", "`a/1`, `b.c` and a.2"),
            ("an odd ` one", "an odd ` one"),
            ("", ""),
        ] {
            assert_eq!(in_our_words(text), expected);
        }
    }

    #[test]
    fn only_a_body_that_says_healthy_is_health() {
        let body = json!({"healthy": true, "last_activity": "2026-01-01T00:00:00Z", "queue_depth": 3, "slots": 4});
        let seen = health(&body).unwrap();
        assert!(seen.healthy && seen.last_activity.is_some());
        assert_eq!((seen.queue_depth, seen.error_count), (3, 0));
        assert_eq!(health(&json!({"status": "ok"})), None);
        assert_eq!(health(&json!("fine")), None);
        assert!(!health(&json!({"healthy": false, "last_activity": "yesterday"})).unwrap().healthy);
    }
}
