//! The whole tree, as far as it is known: what hives said last, and what is not heard of said so.

use std::time::{Duration, Instant};

use axum::extract::State;
use rbee_api::{Desired, FleetStatus, HiveStatus, Phase, QueenStatus, ReplicaId, WorkerAssignment, WorkerStatus};
use rbee_runtime::http::Json;

use super::Api;
use crate::desired::{Load, Then};
use crate::fleet::{HiveView, View};
use crate::lease::LeaseState;

pub(super) async fn status(State(api): State<Api>) -> Json<FleetStatus> {
    Json(fleet_status(&api))
}

/// The tree as it is now.
pub(super) fn fleet_status(api: &Api) -> FleetStatus {
    let view = api.registry.view();
    let queen = QueenStatus {
        usage: api.own.latest(),
        history_trouble: api.history.trouble(),
        phase: if api.stopping.is_draining() { Phase::Stopping } else { Phase::Running },
        pid: Some(std::process::id()),
        url: api.about.url.clone(),
        version: Some(env!("CARGO_PKG_VERSION").to_owned()),
        uptime_s: api.about.started.elapsed().as_secs_f64(),
        restarts: api.about.restarts,
    };
    let now = Instant::now();
    let mut hives: Vec<HiveStatus> =
        view.hives.iter().map(|(name, hive)| hive_status(&view, name, hive, now)).collect();
    if let Some(local) = &api.local_hive {
        local.merge_into(&mut hives);
    }
    FleetStatus { queen: Some(queen), hives }
}

pub(super) fn hive_status(view: &View, name: &str, hive: &HiveView, now: Instant) -> HiveStatus {
    let record = view.desired.hives.get(name);
    let heartbeat = hive.heartbeat.as_deref();
    let alive = hive.lease == LeaseState::Alive;
    let stopping = heartbeat.is_some_and(|heartbeat| heartbeat.stopping);
    let drained = view.desired.upkeep.drained_hives.contains(name);
    let silent_s = now.saturating_duration_since(hive.renewed).as_secs_f64();
    let reason = match (alive, stopping, heartbeat) {
        (true, false, _) if drained => {
            Some(format!("no new work by order; `rbee-keeper hive undrain {name}` gives it work again"))
        }
        (true, false, _) => None,
        (_, true, _) => Some("it said that it is stopping".to_owned()),
        (false, false, Some(_)) => Some(format!("no heartbeat for {silent_s:.0} s")),
        (false, false, None) => Some(format!("not heard of since {}", wall_clock(hive.heard_ms))),
    };
    let workers = record.map(|record| record.workers.as_slice()).unwrap_or_default();
    HiveStatus {
        usage: heartbeat.filter(|_| alive).and_then(|heartbeat| heartbeat.usage.clone()),
        history_trouble: heartbeat.and_then(|heartbeat| heartbeat.history_trouble.clone()),
        name: name.to_owned(),
        phase: match (alive, stopping) {
            (true, false) if drained => Phase::Draining,
            (true, false) => Phase::Running,
            (_, true) if hive.lease != LeaseState::Lost => Phase::Stopping,
            _ => Phase::Unavailable,
        },
        // The pid of a process that is not heard of would be a guess.
        pid: heartbeat.filter(|_| alive).map(|heartbeat| heartbeat.pid),
        url: record.map(|record| record.url.clone()).unwrap_or_default(),
        generation: heartbeat.map_or(0, |heartbeat| heartbeat.generation),
        uptime_s: heartbeat.filter(|_| alive).map_or(0.0, |heartbeat| heartbeat.uptime_s + silent_s),
        restarts: 0,
        reason,
        workers: workers_of(view, name, hive, workers),
    }
}

/// What runs there, whether it shall or not, and what shall run there and is not reported yet.
fn workers_of(view: &View, name: &str, hive: &HiveView, assigned: &[WorkerAssignment]) -> Vec<WorkerStatus> {
    let reported = hive.heartbeat.iter().flat_map(|heartbeat| heartbeat.workers.iter().cloned());
    let missing = assigned.iter().filter(|worker| hive.worker(&worker.id).is_none()).map(not_reported);
    let mut workers: Vec<WorkerStatus> = reported.chain(missing).map(|status| as_ordered(view, name, status)).collect();
    workers.sort_by(|a, b| (&a.name, a.replica).cmp(&(&b.name, b.replica)));
    if hive.lease != LeaseState::Alive {
        for worker in &mut workers {
            worker.reason.get_or_insert_with(|| "as last heard of; its hive is silent".to_owned());
        }
    }
    workers
}

/// One replica, as far as it is known.
pub(super) fn worker_status(view: &View, id: &ReplicaId) -> WorkerStatus {
    let home = view.desired.placement.get(id);
    let reported = home.and_then(|home| view.hives.get(home)).and_then(|hive| hive.worker(id));
    let status = match (reported, view.desired.assigned(id)) {
        (Some(status), _) => status.clone(),
        (None, Some((_, assigned))) => not_reported(assigned),
        (None, None) => blank(id, Phase::Stopped, "no hive is there to run it"),
    };
    as_ordered(view, home.map_or("", String::as_str), status)
}

/// What queen knows beyond what the hive says: why a worker that runs gets no work, and that one is down for want of use.
fn as_ordered(view: &View, hive: &str, mut status: WorkerStatus) -> WorkerStatus {
    let id = ReplicaId { name: status.name.clone(), replica: status.replica };
    let desired = &view.desired;
    if status.phase == Phase::Running && desired.draining(hive, &id).is_some() {
        status.phase = Phase::Draining;
        status.reason = Some(why_drained(view, hive, &id));
    }
    let Some(wish) = view.wishes.get(&id.name) else { return status };
    let Some(on_demand) = wish.on_demand else { return status };
    let down = matches!(status.phase, Phase::Stopped | Phase::Starting) && status.pid.is_none();
    if down && desired.load(&id.name, wish) == Load::Unloaded && !desired.is_held_down(&id, wish) {
        status.phase = Phase::Stopped;
        status.unloaded = true;
        status.reason = Some(match desired.upkeep.loads.get(&id.name) {
            Some(_) => format!("unloaded after {} idle", short(on_demand.idle_ttl)),
            None => "not loaded: its first request loads it".to_owned(),
        });
    }
    status
}

fn why_drained(view: &View, hive: &str, id: &ReplicaId) -> String {
    let desired = &view.desired;
    let name = &id.name;
    if let Some(leaving) = desired.upkeep.moves.iter().find(|leaving| leaving.id == *id && leaving.from == hive) {
        let to = desired.placement.get(&leaving.id).map_or("another hive", String::as_str);
        return format!("it moves to {to}");
    }
    if let Some(rolling) = desired.rolling(name).filter(|rolling| rolling.drains(id.replica)) {
        return format!("rolling restart: {}", rolling.waits_for(name));
    }
    if desired.upkeep.loads.get(name) == Some(&Load::Leaving) {
        return "about to be unloaded: nobody uses it".to_owned();
    }
    if let Some(then) = desired.pending(id) {
        let then = if then == Then::Stop { "stopped" } else { "restarted" };
        return format!("it finishes what it has in flight, then it is {then}");
    }
    if desired.orders.get(id).is_some_and(|orders| orders.draining) {
        return format!("no new work by order; `rbee-keeper worker undrain {id}` gives it work again");
    }
    format!("its hive gets no new work; `rbee-keeper hive undrain {hive}` gives it work again")
}

/// `10m`, `90s`, `1h30m`.
fn short(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds == 0 {
        return format!("{}ms", duration.as_millis());
    }
    let parts = [(seconds / 3600, "h"), (seconds % 3600 / 60, "m"), (seconds % 60, "s")];
    parts.into_iter().filter(|(number, _)| *number > 0).map(|(number, unit)| format!("{number}{unit}")).collect()
}

fn not_reported(assigned: &WorkerAssignment) -> WorkerStatus {
    let status = match assigned.desired {
        Desired::Running => blank(&assigned.id, Phase::Starting, "its hive has not taken it up yet"),
        Desired::Stopped | Desired::Killed => blank(&assigned.id, Phase::Stopped, "its hive has not taken it up yet"),
    };
    WorkerStatus { model: assigned.model.as_ref().map(|model| model.name.clone()), ..status }
}

fn blank(id: &ReplicaId, phase: Phase, reason: &str) -> WorkerStatus {
    WorkerStatus {
        usage: None,
        name: id.name.clone(),
        replica: id.replica,
        phase,
        pid: None,
        port: None,
        model: None,
        incarnation: 0,
        restarts: 0,
        uptime_s: 0.0,
        rss_bytes: 0,
        cpu_percent: 0.0,
        health: None,
        reason: Some(reason.to_owned()),
        last_log_lines: Vec::new(),
        restart_generation: 0,
        own_engine: false,
        waits_for: None,
        limits: Vec::new(),
        start_timeout_ms: 0,
        unloaded: false,
        behind: false,
    }
}

fn wall_clock(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| "an unknown time".to_owned(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_in_the_config() {
        for (ms, text) in [(600_000, "10m"), (90_000, "1m30s"), (5_400_000, "1h30m"), (1_000, "1s"), (200, "200ms")] {
            assert_eq!(short(Duration::from_millis(ms)), text);
        }
    }
}
