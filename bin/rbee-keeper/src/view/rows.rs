//! The rows of the tree: what the filter lets through, with everything a row can show.

use rbee_api::status::ProcessUsage;
use rbee_api::{FleetStatus, HiveStatus, Phase, QueenStatus, WorkerStatus};

use super::state::{Pane, Place, State, contains};
use crate::ui::{bytes, harmless};

/// One row.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) place: Place,
    /// Lines of the tree in front of the name.
    pub(super) branch: &'static str,
    pub(super) name: String,
    pub(super) phase: Phase,
    /// Something is wrong with it, whatever its phase.
    pub(super) unhealthy: bool,
    pub(super) pid: Option<u32>,
    /// Seconds; absent where it does not run.
    pub(super) uptime_s: Option<f64>,
    pub(super) restarts: u32,
    pub(super) cpu_percent: Option<f64>,
    pub(super) rss_bytes: Option<u64>,
    pub(super) queue_depth: Option<u64>,
    pub(super) cache_hit_rate: Option<f64>,
    pub(super) note: String,
    /// What else there is to know, in the order of its worth.
    pub(super) facts: Vec<String>,
}

/// A URL for the eye.
pub(super) fn short_url(url: &str) -> &str {
    url.strip_prefix("http://").unwrap_or(url)
}

/// The rows that the tree's filter lets through; a hive stays with a worker of it.
pub(super) fn rows(state: &State) -> Vec<Row> {
    let filter = state.filter(Pane::Tree).to_lowercase();
    let fleet = &state.fleet;
    let mut rows = Vec::new();
    let hives: Vec<(&HiveStatus, Vec<&WorkerStatus>)> = fleet
        .hives
        .iter()
        .filter_map(|hive| {
            let whole = matches(&filter, &[&hive.name, hive.phase.as_str()]);
            let of = |worker: &&WorkerStatus| whole || is_wanted(&filter, worker);
            let workers: Vec<_> = hive.workers.iter().filter(of).collect();
            (whole || !workers.is_empty()).then_some((hive, workers))
        })
        .collect();
    if let Some(queen) = &fleet.queen
        && (matches(&filter, &["queen", queen.phase.as_str()]) || !hives.is_empty())
    {
        rows.push(queen_row(queen));
    }
    for (index, (hive, workers)) in hives.iter().enumerate() {
        let last = index + 1 == hives.len();
        rows.push(hive_row(hive, fleet.queen.is_some(), last));
        for (index, worker) in workers.iter().enumerate() {
            let end = index + 1 == workers.len();
            rows.push(worker_row(hive, worker, branch(fleet, last, end)));
        }
    }
    rows
}

fn branch(fleet: &FleetStatus, last_hive: bool, last: bool) -> &'static str {
    match (fleet.queen.is_some(), last_hive, last) {
        (false, _, false) => "├ ",
        (false, _, true) => "└ ",
        (true, true, false) => "  ├ ",
        (true, true, true) => "  └ ",
        (true, false, false) => "│ ├ ",
        (true, false, true) => "│ └ ",
    }
}

fn matches(filter: &str, texts: &[&str]) -> bool {
    texts.iter().any(|text| contains(text, filter))
}

fn is_wanted(filter: &str, worker: &WorkerStatus) -> bool {
    let name = format!("{}/{}", worker.name, worker.replica);
    let model = worker.model.as_deref().unwrap_or_default();
    let reason = worker.reason.as_deref().unwrap_or_default();
    matches(filter, &[&name, worker.phase.as_str(), model, reason])
}

fn queen_row(queen: &QueenStatus) -> Row {
    Row {
        place: Place::Queen,
        branch: "",
        name: "queen".to_owned(),
        phase: queen.phase,
        unhealthy: false,
        pid: queen.pid,
        uptime_s: queen.pid.map(|_| queen.uptime_s),
        restarts: queen.restarts,
        cpu_percent: queen.usage.as_ref().map(|usage| usage.figures.cpu_percent),
        rss_bytes: queen.usage.as_ref().map(|usage| usage.figures.rss_bytes),
        queue_depth: None,
        cache_hit_rate: None,
        note: match &queen.version {
            Some(version) => harmless(&format!("v{version} at {}", short_url(&queen.url))).into_owned(),
            None => harmless(short_url(&queen.url)).into_owned(),
        },
        facts: facts(queen.pid, queen.restarts, [], queen.usage.as_ref()),
    }
}

fn hive_row(hive: &HiveStatus, under_queen: bool, last: bool) -> Row {
    Row {
        place: Place::Hive(hive.name.clone()),
        branch: match (under_queen, last) {
            (false, _) => "",
            (true, true) => "└ ",
            (true, false) => "├ ",
        },
        name: harmless(&hive.name).into_owned(),
        phase: hive.phase,
        unhealthy: false,
        pid: hive.pid,
        uptime_s: hive.pid.map(|_| hive.uptime_s),
        restarts: hive.restarts,
        cpu_percent: hive.usage.as_ref().map(|usage| usage.figures.cpu_percent),
        rss_bytes: hive.usage.as_ref().map(|usage| usage.figures.rss_bytes),
        queue_depth: None,
        cache_hit_rate: None,
        note: harmless(hive.reason.as_deref().unwrap_or(short_url(&hive.url))).into_owned(),
        facts: facts(hive.pid, hive.restarts, [], hive.usage.as_ref()),
    }
}

fn worker_row(hive: &HiveStatus, worker: &WorkerStatus, branch: &'static str) -> Row {
    let runs = worker.pid.is_some();
    let health = worker.health.as_ref().filter(|_| runs);
    let unhealthy = health.is_some_and(|health| !health.healthy);
    let waits = worker.waits_for.as_ref().map(|waits| format!("waits for {waits}"));
    let model = worker.model.as_ref().map(|model| format!("model {model}"));
    let note = worker.reason.clone().or(waits);
    let note = note.or_else(|| unhealthy.then(|| "its health probe fails".to_owned())).or(model).unwrap_or_default();
    let own = [
        health.map(|health| format!("queue {}", health.queue_depth)),
        health.and_then(|health| health.cache_hit_rate).map(|rate| format!("cache {:.0}%", rate * 100.0)),
        health.filter(|health| health.error_count > 0).map(|health| format!("{} errors", health.error_count)),
        worker.port.map(|port| format!("port {port}")),
    ];
    let own = own.into_iter().flatten();
    Row {
        place: Place::Worker { hive: hive.name.clone(), name: worker.name.clone(), replica: worker.replica },
        branch,
        name: harmless(&format!("{}/{}", worker.name, worker.replica)).into_owned(),
        phase: worker.phase,
        unhealthy,
        pid: worker.pid,
        uptime_s: runs.then_some(worker.uptime_s),
        restarts: worker.restarts,
        cpu_percent: (runs && worker.rss_bytes > 0).then_some(worker.cpu_percent),
        rss_bytes: (runs && worker.rss_bytes > 0).then_some(worker.rss_bytes),
        queue_depth: health.map(|health| health.queue_depth),
        cache_hit_rate: health.and_then(|health| health.cache_hit_rate),
        note: harmless(&note).into_owned(),
        facts: facts(worker.pid, worker.restarts, own, worker.usage.as_ref().filter(|_| runs)),
    }
}

/// What there is to know of a daemon besides its figures.
fn facts(
    pid: Option<u32>,
    restarts: u32,
    own: impl IntoIterator<Item = String>,
    usage: Option<&ProcessUsage>,
) -> Vec<String> {
    let restarts = match restarts {
        1 => "1 restart".to_owned(),
        n => format!("{n} restarts"),
    };
    let used = usage.into_iter().flat_map(|usage| {
        let processes = (usage.processes > 1).then(|| format!("{} processes", usage.processes));
        let cards = usage.figures.gpu_bytes.map(|count| format!("gpu {}", bytes(count)));
        let files = usage.figures.fds.map(|fds| format!("{fds} files"));
        let read = usage.figures.read_bytes.map(|count| format!("read {}", bytes(count)));
        let written = usage.figures.written_bytes.map(|count| format!("written {}", bytes(count)));
        let threads = Some(format!("{} threads", usage.figures.threads));
        [cards, processes, threads, files, read, written].into_iter().flatten()
    });
    pid.map(|pid| format!("pid {pid}")).into_iter().chain([restarts]).chain(own).chain(used).collect()
}
