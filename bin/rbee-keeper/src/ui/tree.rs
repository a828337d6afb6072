//! The tree queen → hives → workers, for people.

use std::time::Duration;

use rbee_api::{FleetStatus, HiveStatus, Phase, QueenStatus, WorkerStatus};

use super::{Align, Cell, Table, Tone};

/// Characters of a note; all of it is in `--json` and `worker status NAME`.
const NOTE_LENGTH_MAX: usize = 60;

/// The whole tree as an aligned table.
pub(crate) fn fleet_tree(fleet: &FleetStatus, color: bool) -> String {
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("PHASE", Align::Left),
        ("PID", Align::Right),
        ("WHERE", Align::Left),
        ("UPTIME", Align::Right),
        ("RESTARTS", Align::Right),
        ("MEMORY", Align::Right),
        ("CPU", Align::Right),
        ("NOTE", Align::Left),
    ]);
    if let Some(queen) = &fleet.queen {
        table.row(queen_row(queen));
    }
    let indent = if fleet.queen.is_some() { 1 } else { 0 };
    for (index, hive) in fleet.hives.iter().enumerate() {
        let last_hive = index + 1 == fleet.hives.len();
        table.row(hive_row(hive, indent, last_hive));
        for (index, worker) in hive.workers.iter().enumerate() {
            let trunk = if indent == 0 {
                ""
            } else if last_hive {
                "   "
            } else {
                "│  "
            };
            let branch = if index + 1 == hive.workers.len() { "└─ " } else { "├─ " };
            table.row(worker_row(worker, &format!("{trunk}{branch}")));
        }
    }
    table.render(color)
}

fn queen_row(queen: &QueenStatus) -> Vec<Cell> {
    let running = queen.pid.is_some();
    vec![
        Cell::toned("queen", Tone::Bold),
        phase(queen.phase),
        number(queen.pid),
        Cell::new(&queen.url),
        uptime(running, queen.uptime_s),
        Cell::new(queen.restarts.to_string()),
        Cell::new(""),
        Cell::new(""),
        Cell::toned(queen.version.as_ref().map(|v| format!("v{v}")).unwrap_or_default(), Tone::Dim),
    ]
}

fn hive_row(hive: &HiveStatus, indent: usize, last: bool) -> Vec<Cell> {
    let branch = match (indent, last) {
        (0, _) => "",
        (_, true) => "└─ ",
        (_, false) => "├─ ",
    };
    vec![
        Cell::new(format!("{branch}{}", hive.name)),
        phase(hive.phase),
        number(hive.pid),
        Cell::new(&hive.url),
        uptime(hive.pid.is_some(), hive.uptime_s),
        Cell::new(hive.restarts.to_string()),
        Cell::new(""),
        Cell::new(""),
        Cell::new(note(hive.reason.as_deref().unwrap_or_default())),
    ]
}

fn worker_row(worker: &WorkerStatus, branch: &str) -> Vec<Cell> {
    let running = worker.pid.is_some();
    let model = worker.model.as_ref().map(|model| format!("model {model}")).unwrap_or_default();
    vec![
        Cell::new(format!("{branch}{}/{}", worker.name, worker.replica)),
        phase(worker.phase),
        number(worker.pid),
        Cell::new(worker.port.map(|port| format!(":{port}")).unwrap_or_default()),
        uptime(running, worker.uptime_s),
        Cell::new(worker.restarts.to_string()),
        Cell::new(if running && worker.rss_bytes > 0 { bytes(worker.rss_bytes) } else { String::new() }),
        Cell::new(if running && worker.rss_bytes > 0 { format!("{:.0}%", worker.cpu_percent) } else { String::new() }),
        Cell::new(note(worker.reason.as_ref().unwrap_or(&model))),
    ]
}

/// What the tree has no room for: the full reasons, what is waited for, limits.
pub(crate) fn reasons(fleet: &FleetStatus) -> String {
    let of = |(hive, worker): (&str, &WorkerStatus)| {
        let name = format!("{hive}:{}/{}", worker.name, worker.replica);
        let waits =
            worker.waits_for.as_ref().filter(|waits| !worker.reason.as_ref().is_some_and(|r| r.contains(*waits)));
        let lines = worker.reason.iter().cloned().chain(waits.map(|waits| format!("waits for {waits}")));
        let limits = (!worker.limits.is_empty()).then(|| format!("limits: {}", worker.limits.join(", ")));
        lines.chain(limits).map(|line| format!("{name}: {line}\n")).collect::<String>()
    };
    fleet.workers().map(of).collect()
}

/// The beginning of a reason; a tree is for a glance.
fn note(text: &str) -> String {
    if text.chars().count() <= NOTE_LENGTH_MAX {
        return text.to_owned();
    }
    text.chars().take(NOTE_LENGTH_MAX - 1).chain(['…']).collect()
}

/// The phase in its colour.
fn phase(phase: Phase) -> Cell {
    let tone = match phase {
        Phase::Running => Tone::Good,
        Phase::Failed | Phase::Unavailable | Phase::Stale => Tone::Bad,
        Phase::Stopped => Tone::Dim,
        _ => Tone::Warn,
    };
    Cell::toned(phase.as_str(), tone)
}

fn number(pid: Option<u32>) -> Cell {
    Cell::new(pid.map(|pid| pid.to_string()).unwrap_or_else(|| "-".to_owned()))
}

/// The two largest units of a duration; nothing for what does not run.
fn uptime(running: bool, seconds: f64) -> Cell {
    if !running {
        return Cell::new("-");
    }
    let whole = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    let text = humantime::format_duration(Duration::from_secs(whole)).to_string();
    Cell::new(text.split(' ').take(2).collect::<Vec<_>>().join(" "))
}

fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}

#[cfg(test)]
pub(super) mod tests {
    use rbee_api::{FleetStatus, HiveStatus, Phase, QueenStatus, WorkerStatus};

    use super::fleet_tree;

    pub(crate) fn worker(replica: u32, phase: Phase) -> WorkerStatus {
        let running = phase == Phase::Running;
        WorkerStatus {
            usage: None,
            name: "smollm2".to_owned(),
            replica,
            phase,
            pid: running.then_some(103),
            port: running.then_some(7855),
            model: Some("smollm2".to_owned()),
            incarnation: 1,
            restarts: 0,
            uptime_s: 3725.5,
            rss_bytes: 150 << 20,
            cpu_percent: 12.3,
            health: None,
            reason: (!running).then(|| "exit code 1".to_owned()),
            last_log_lines: Vec::new(),
            restart_generation: 0,
            own_engine: true,
            waits_for: None,
            limits: Vec::new(),
            start_timeout_ms: 0,
            unloaded: false,
            behind: false,
        }
    }

    pub(crate) fn queen() -> QueenStatus {
        QueenStatus {
            usage: None,
            history_trouble: None,
            phase: Phase::Running,
            pid: Some(101),
            url: "http://127.0.0.1:7833".to_owned(),
            version: Some("0.1.0".to_owned()),
            uptime_s: 61.0,
            restarts: 0,
        }
    }

    pub(crate) fn hive() -> HiveStatus {
        HiveStatus {
            usage: None,
            history_trouble: None,
            name: "local".to_owned(),
            phase: Phase::Running,
            pid: Some(102),
            url: "http://127.0.0.1:7835".to_owned(),
            generation: 3,
            uptime_s: 60.0,
            restarts: 2,
            reason: None,
            workers: Vec::new(),
        }
    }

    #[test]
    fn the_tree_is_aligned() {
        let workers = vec![worker(0, Phase::Running), worker(1, Phase::Failed)];
        let fleet = FleetStatus { queen: Some(queen()), hives: vec![HiveStatus { workers, ..hive() }] };
        insta::assert_snapshot!(fleet_tree(&fleet, false), @r"
        NAME             PHASE    PID  WHERE                  UPTIME  RESTARTS      MEMORY  CPU  NOTE
        queen            running  101  http://127.0.0.1:7833   1m 1s         0                   v0.1.0
        └─ local         running  102  http://127.0.0.1:7835      1m         2
           ├─ smollm2/0  running  103  :7855                   1h 2m         0  150.00 MiB  12%  model smollm2
           └─ smollm2/1  failed     -                              -         0                   exit code 1
        ");
    }
}
