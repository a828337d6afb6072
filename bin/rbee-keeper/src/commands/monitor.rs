//! `monitor start | stop | status`: keeper's guard, for machines whose service manager guards nobody.

use std::collections::HashMap;

use bytesize::ByteSize;
use daemon_lifecycle::{DaemonConfig, DaemonManager, DaemonStatus, Readiness};
use rbee_api::{FleetStatus, Phase, ProcessUsage};
use rbee_runtime::config::Config;
use serde::Serialize;
use serde_json::json;
use service_definition::Tier;

use super::status::gather;
use crate::cli::MonitorCommand;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::guard::{self, Doing, Record, Ward};
use crate::ui::{Align, Cell, Table, Tone};

/// How long the guard may take to begin, and to end: it has nothing to read and nothing to finish.
const GUARD_TIMEOUT_S: u64 = 10;

pub(super) async fn run(context: &Context, command: MonitorCommand) -> Result<Exit, Failure> {
    match command {
        MonitorCommand::Start => start(context).await,
        MonitorCommand::Stop => {
            let changed = stop(context).await?;
            context.ui.answer(&json!({ "changed": changed }), |ui| {
                ui.done(if changed { "nobody is guarded any more" } else { "there was no guard" });
                String::new()
            });
            Ok(Exit::DONE)
        }
        MonitorCommand::Status { detailed } => status(context, detailed).await,
        MonitorCommand::Run => {
            guard::run(context, context.config()?.config).await?;
            Ok(Exit::DONE)
        }
    }
}

async fn start(context: &Context) -> Result<Exit, Failure> {
    let config = context.config()?.config;
    let ward = Ward::of(&config);
    let tier = if ward == Ward::Queen { Tier::Queen } else { Tier::Hive };
    if let Some(unit) = context.unit_of(tier) {
        return Err(Failure::new("guarded_already", format!("{} guards {} already", unit.name, ward.name()))
            .hint("`rbee-keeper service uninstall` takes that away"));
    }
    context.dirs.create()?;
    let manager = manager(context)?;
    let before = manager.get_pid()?;
    let pid = context.blocking(move || manager.start()).await?;
    let changed = before != Some(pid);
    context.ui.answer(&json!({ "changed": changed, "pid": pid, "guards": ward.name() }), |ui| {
        ui.done(&format!("{} is guarded{} (pid {pid})", ward.name(), if changed { "" } else { " already" }));
        String::new()
    });
    Ok(Exit::DONE)
}

/// Ends the guard; whether there was one.
pub(super) async fn stop(context: &Context) -> Result<bool, Failure> {
    let manager = manager(context)?;
    if matches!(manager.status(), Ok(DaemonStatus::Stopped)) {
        return Ok(false);
    }
    context.blocking(move || manager.stop()).await?;
    Ok(true)
}

fn manager(context: &Context) -> Result<DaemonManager, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::new("internal", "cannot tell where rbee-keeper is").because(&error))?;
    let mut args = vec!["monitor".to_owned(), "run".to_owned()];
    if let Some(file) = context.config_file_for_children() {
        args.extend(["--config".to_owned(), file.to_string_lossy().into_owned()]);
    }
    let config = DaemonConfig {
        binary_path: program,
        args,
        pid_file: context.dirs.guard_pid_file(),
        working_dir: None,
        env: HashMap::new(),
        startup_timeout_secs: GUARD_TIMEOUT_S,
        shutdown_timeout_secs: GUARD_TIMEOUT_S,
    };
    Ok(DaemonManager::new(config).with_readiness(Readiness::Notify).with_log_file(context.dirs.guard_log_file()))
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Shown {
    monitor: Guard,
    #[serde(skip_serializing_if = "Option::is_none")]
    daemons: Option<Vec<Daemon>>,
}

#[derive(Debug, Serialize)]
struct Guard {
    phase: Phase,
    pid: Option<u32>,
    /// What it said last; also of one that is gone.
    record: Option<Record>,
}

/// One daemon, as seed 001 wants it.
#[derive(Debug, Serialize)]
struct Daemon {
    name: String,
    phase: Phase,
    pid: Option<u32>,
    healthy: Option<bool>,
    cpu_percent: Option<f64>,
    memory_bytes: Option<u64>,
    disk_bytes: Option<u64>,
    fds: Option<u64>,
    threads: Option<u64>,
    uptime_s: f64,
    restarts: u32,
}

async fn status(context: &Context, detailed: bool) -> Result<Exit, Failure> {
    let manager = manager(context)?;
    let (phase, pid) = match context.blocking(move || manager.status()).await? {
        DaemonStatus::Running(pid) => (Phase::Running, Some(pid)),
        DaemonStatus::Stale(pid) => (Phase::Stale, Some(pid)),
        DaemonStatus::Failed(_) => (Phase::Failed, None),
        DaemonStatus::Stopped => (Phase::Stopped, None),
    };
    let record = Record::read(&context.dirs.guard_file());
    let config: Config = context.config()?.config;
    let daemons = match detailed {
        true => Some(daemons_of(&gather(context, &config).await?.fleet)),
        false => None,
    };
    let shown = Shown { monitor: Guard { phase, pid, record }, daemons };
    context.ui.answer(&shown, |ui| {
        let mut text = sentence(&shown.monitor, Ward::of(&config));
        if let Some(daemons) = &shown.daemons {
            text.push_str("\n\n");
            text.push_str(&table(daemons).render(ui.color()));
        }
        text
    });
    if phase == Phase::Stopped && !context.ui.is_json() {
        context.ui.hint(
            "`rbee-keeper monitor start` starts one; `rbee-keeper service install` is the better way where it can be",
        );
    }
    Ok(Exit::of_phase(phase))
}

fn sentence(guard: &Guard, ward: Ward) -> String {
    let name = ward.name();
    let (pid, record) = match (&guard.phase, guard.pid, &guard.record) {
        (Phase::Running, Some(pid), Some(record)) => (pid, record),
        (Phase::Running, Some(pid), None) => return format!("monitor: guards {name} (pid {pid})"),
        (Phase::Stale, Some(pid), _) => return format!("monitor: the guard (pid {pid}) has died"),
        _ => return format!("monitor: nobody guards {name}"),
    };
    let doing = match record.doing {
        Doing::Watches => {
            let health = match record.healthy {
                Some(true) => ", which answers",
                Some(false) => ", which does not answer",
                None => "",
            };
            let watched = record.watched_pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            format!("guards {}{watched}{health}", record.guards)
        }
        Doing::Rests => format!("rests: {} was stopped, or never started", record.guards),
        Doing::Waits => format!("is about to start {} again", record.guards),
        Doing::GaveUp => format!("gave {} up", record.guards),
    };
    let restarts = if record.restarts > 0 { format!("; {} restarts", record.restarts) } else { String::new() };
    let cause = record.cause.as_ref().map(|cause| format!("\nlast: {cause}")).unwrap_or_default();
    format!("monitor (pid {pid}): {doing}{restarts}{cause}")
}

fn daemons_of(fleet: &FleetStatus) -> Vec<Daemon> {
    let mut daemons = Vec::new();
    if let Some(queen) = &fleet.queen {
        let healthy = (queen.phase == Phase::Running).then_some(true);
        let of = Of { phase: queen.phase, pid: queen.pid, healthy, uptime_s: queen.uptime_s, restarts: queen.restarts };
        daemons.push(daemon("queen".to_owned(), of, queen.usage.as_ref()));
    }
    for hive in &fleet.hives {
        let healthy = (hive.phase == Phase::Running).then_some(true);
        let of = Of { phase: hive.phase, pid: hive.pid, healthy, uptime_s: hive.uptime_s, restarts: hive.restarts };
        daemons.push(daemon(format!("hive {}", hive.name), of, hive.usage.as_ref()));
        for worker in &hive.workers {
            let of = Of {
                phase: worker.phase,
                pid: worker.pid,
                healthy: worker.health.as_ref().map(|health| health.healthy),
                uptime_s: worker.uptime_s,
                restarts: worker.restarts,
            };
            let name = format!("{}:{}/{}", hive.name, worker.name, worker.replica);
            let mut seen = daemon(name, of, worker.usage.as_ref());
            if worker.pid.is_some() {
                seen.cpu_percent = Some(worker.cpu_percent);
                seen.memory_bytes = Some(worker.rss_bytes);
            }
            daemons.push(seen);
        }
    }
    daemons
}

struct Of {
    phase: Phase,
    pid: Option<u32>,
    healthy: Option<bool>,
    uptime_s: f64,
    restarts: u32,
}

fn daemon(name: String, of: Of, usage: Option<&ProcessUsage>) -> Daemon {
    Daemon {
        name,
        phase: of.phase,
        pid: of.pid,
        healthy: of.healthy,
        cpu_percent: usage.map(|usage| usage.figures.cpu_percent),
        memory_bytes: usage.map(|usage| usage.figures.rss_bytes),
        disk_bytes: usage.map(|usage| usage.figures.disk_bytes),
        fds: usage.and_then(|usage| usage.figures.fds),
        threads: usage.map(|usage| usage.figures.threads),
        uptime_s: of.uptime_s,
        restarts: of.restarts,
    }
}

fn table(daemons: &[Daemon]) -> Table {
    let (left, right) = (Align::Left, Align::Right);
    let mut table = Table::new(&[
        ("DAEMON", left),
        ("PHASE", left),
        ("HEALTH", left),
        ("CPU", right),
        ("MEMORY", right),
        ("DISK", right),
        ("FILES", right),
        ("THREADS", right),
        ("UPTIME", right),
        ("RESTARTS", right),
    ]);
    let unknown = || "-".to_owned();
    let bytes = |bytes: Option<u64>| bytes.map_or_else(unknown, |bytes| ByteSize::b(bytes).to_string());
    let number = |number: Option<u64>| number.map_or_else(unknown, |number| number.to_string());
    for daemon in daemons {
        let (health, tone) = match daemon.healthy {
            Some(true) => ("good", Tone::Good),
            Some(false) => ("bad", Tone::Bad),
            None => ("-", Tone::Plain),
        };
        table.row(vec![
            Cell::new(&daemon.name),
            Cell::new(daemon.phase.to_string()),
            Cell::toned(health, tone),
            Cell::new(daemon.cpu_percent.map_or_else(unknown, |percent| format!("{percent:.1}%"))),
            Cell::new(bytes(daemon.memory_bytes)),
            Cell::new(bytes(daemon.disk_bytes)),
            Cell::new(number(daemon.fds)),
            Cell::new(number(daemon.threads)),
            Cell::new(humantime::format_duration(std::time::Duration::from_secs(daemon.uptime_s as u64)).to_string()),
            Cell::new(daemon.restarts.to_string()),
        ]);
    }
    table
}
