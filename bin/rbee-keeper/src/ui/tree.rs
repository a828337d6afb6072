//! The tree queen → hives → workers, for people.

use rbee_api::{FleetStatus, HiveStatus, Phase, QueenStatus, WorkerStatus};

use super::{Align, Cell, Table, Tone, bytes, duration, harmless, percent};

/// Characters of a note; all of it is in `--json` and `worker status NAME`.
const NOTE_LENGTH_MAX: usize = 60;

/// The whole tree as an aligned table.
pub(crate) fn fleet_tree(fleet: &FleetStatus, color: bool) -> String {
    let mut table = Table::new(&[
        ("NAME", Align::Left),
        ("PHASE", Align::Left),
        ("PID", Align::Right),
        ("PORT", Align::Right),
        ("UPTIME", Align::Right),
        ("RST", Align::Right),
        ("MEM", Align::Right),
        ("CPU", Align::Right),
        ("QUEUE", Align::Right),
        ("HIT", Align::Right),
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
    table.without_empty_columns().render(color)
}

fn queen_row(queen: &QueenStatus) -> Vec<Cell> {
    let version = queen.version.as_ref().map(|version| format!("v{version} at ")).unwrap_or_default();
    let mut row = vec![Cell::toned("queen", Tone::Bold), phase(queen.phase), number(queen.pid), port_of(&queen.url)];
    row.extend([uptime(queen.pid.is_some(), queen.uptime_s), Cell::new(queen.restarts.to_string())]);
    row.extend(used(queen.usage.as_ref().map(|usage| (usage.figures.rss_bytes, usage.figures.cpu_percent))));
    row.extend([Cell::new(""), Cell::new(""), Cell::toned(harmless(&format!("{version}{}", queen.url)), Tone::Dim)]);
    row
}

fn hive_row(hive: &HiveStatus, indent: usize, last: bool) -> Vec<Cell> {
    let branch = match (indent, last) {
        (0, _) => "",
        (_, true) => "└─ ",
        (_, false) => "├─ ",
    };
    let name = Cell::new(format!("{branch}{}", harmless(&hive.name)));
    let mut row = vec![name, phase(hive.phase), number(hive.pid), port_of(&hive.url)];
    row.extend([uptime(hive.pid.is_some(), hive.uptime_s), Cell::new(hive.restarts.to_string())]);
    row.extend(used(hive.usage.as_ref().map(|usage| (usage.figures.rss_bytes, usage.figures.cpu_percent))));
    row.extend([Cell::new(""), Cell::new(""), Cell::new(note(hive.reason.as_deref().unwrap_or(&hive.url)))]);
    row
}

fn worker_row(worker: &WorkerStatus, branch: &str) -> Vec<Cell> {
    let running = worker.pid.is_some();
    let health = worker.health.as_ref().filter(|_| running);
    let model = worker.model.as_ref().map(|model| format!("model {model}")).unwrap_or_default();
    let port = worker.port.map(|port| port.to_string()).unwrap_or_default();
    let name = Cell::new(format!("{branch}{}/{}", worker.name, worker.replica));
    let mut row = vec![name, phase(worker.phase), number(worker.pid), Cell::new(port)];
    row.extend([uptime(running, worker.uptime_s), Cell::new(worker.restarts.to_string())]);
    row.extend(used((running && worker.rss_bytes > 0).then_some((worker.rss_bytes, worker.cpu_percent))));
    row.push(Cell::new(health.map(|health| health.queue_depth.to_string()).unwrap_or_default()));
    let rate = health.and_then(|health| health.cache_hit_rate);
    row.push(Cell::new(rate.map(|rate| percent(rate * 100.0)).unwrap_or_default()));
    row.push(Cell::new(note(worker.reason.as_ref().unwrap_or(&model))));
    row
}

/// Memory and share of a core.
fn used(usage: Option<(u64, f64)>) -> [Cell; 2] {
    let (memory, cpu) = usage.map(|(rss, cpu)| (bytes(rss), percent(cpu))).unwrap_or_default();
    [Cell::new(memory), Cell::new(cpu)]
}

/// The port at the end of a URL.
fn port_of(url: &str) -> Cell {
    let port = url.trim_end_matches('/').rsplit(':').next().filter(|port| port.parse::<u16>().is_ok());
    Cell::new(port.unwrap_or_default())
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
    let text = harmless(text);
    if text.chars().count() <= NOTE_LENGTH_MAX {
        return text.into_owned();
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

/// Nothing for what does not run.
fn uptime(running: bool, seconds: f64) -> Cell {
    Cell::new(if running { duration(seconds) } else { "-".to_owned() })
}

#[cfg(test)]
pub(super) mod tests {
    use rbee_api::{FleetStatus, Health, HiveStatus, Phase, QueenStatus, WorkerStatus};

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

    /// KEEP-20
    #[test]
    fn the_tree_is_aligned_and_its_figures_fit_in_80_columns() {
        let mut busy = worker(0, Phase::Running);
        let health = |cache_hit_rate| Health {
            healthy: true,
            last_activity: None,
            queue_depth: 3,
            error_count: 0,
            cache_hit_rate,
        };
        busy.health = Some(health(Some(0.83)));
        let workers = vec![busy, worker(1, Phase::Failed)];
        let mut fleet = FleetStatus { queen: Some(queen()), hives: vec![HiveStatus { workers, ..hive() }] };
        insta::assert_snapshot!(fleet_tree(&fleet, false), @r"
        NAME             PHASE    PID  PORT  UPTIME  RST   MEM  CPU  QUEUE  HIT  NOTE
        queen            running  101  7833   1m01s    0                         v0.1.0 at http://127.0.0.1:7833
        └─ local         running  102  7835   1m00s    2                         http://127.0.0.1:7835
           ├─ smollm2/0  running  103  7855   1h02m    0  150M  12%      3  83%  model smollm2
           └─ smollm2/1  failed     -             -    0                         exit code 1
        ");
        let figures = WorkerStatus { pid: Some(4_194_304), port: Some(65_535), ..worker(1, Phase::Running) };
        let figures = WorkerStatus { uptime_s: 8_639_999.0, restarts: 123, rss_bytes: 999 << 30, ..figures };
        fleet.hives[0].workers[1] = WorkerStatus { cpu_percent: 800.0, health: Some(health(Some(1.0))), ..figures };
        let tree = fleet_tree(&fleet, false);
        let figures_end = tree.lines().next().unwrap().find("NOTE").unwrap() - 2;
        assert!(figures_end <= 80, "{figures_end}: {tree}");
        fleet.hives[0].workers.iter_mut().for_each(|worker| worker.health = None);
        assert!(!fleet_tree(&fleet, false).contains("QUEUE"), "nobody tells it");
    }
}
