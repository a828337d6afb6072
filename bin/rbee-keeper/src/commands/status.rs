//! `status`: the tree, and what can be told when queen does not answer.
//!
//! ```text
//!   queen answers ──▶ her tree                                   0
//!   recorded, process gone ──▶ stale   ┐                         1
//!   not running                        ├─ + what this machine's  3
//!   process there, no answer           ┘    hive tells itself,   4
//!                                           else what is on record
//! ```

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use daemon_lifecycle::{DaemonConfig, DaemonManager, DaemonStatus};
use rbee_api::{FleetStatus, HiveStatus, Phase, QueenStatus, ReplicaId, WorkerStatus};
use rbee_runtime::config::Config;
use rbee_runtime::dirs::Dirs;

use super::watch;
use crate::cli::StatusArgs;
use crate::context::{Context, Target};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ui::fleet_tree;
use crate::view;

/// What is known, and the exit code that says how much is well.
#[derive(Debug)]
pub(crate) struct Known {
    /// The tree as far as it is known.
    pub(crate) fleet: FleetStatus,
    /// For `status` and `queen status`.
    pub(crate) exit: Exit,
    /// Why it is not all.
    pub(crate) notes: Vec<String>,
}

pub(super) async fn run(context: &Context, args: &StatusArgs) -> Result<Exit, Failure> {
    let config = context.config()?.config;
    if args.watch {
        return if context.ui.has_screen() {
            view::run(context, &config, args.every).await
        } else {
            watch::run(context, &config, args.every).await
        };
    }
    let known = gather(context, &config).await?;
    print(context, &known);
    Ok(known.exit)
}

/// The tree on stdout, what is missing from it on stderr.
pub(super) fn print(context: &Context, known: &Known) {
    context.ui.answer(&known.fleet, |ui| fleet_tree(&known.fleet, ui.color()));
    for note in &known.notes {
        context.ui.note(note);
    }
    let queen = known.fleet.queen.iter().map(|queen| ("queen", &queen.history_trouble));
    let hives = known.fleet.hives.iter().map(|hive| (hive.name.as_str(), &hive.history_trouble));
    for (name, trouble) in queen.chain(hives).filter_map(|(name, trouble)| Some((name, trouble.as_ref()?))) {
        context.ui.warn(&format!("{name} cannot keep what it sees: {trouble}"));
    }
    if known.exit == Exit::NOT_RUNNING && !context.ui.is_json() {
        context.ui.hint("`rbee-keeper up` starts it");
    }
}

/// Everything that can be found out now.
pub(crate) async fn gather(context: &Context, config: &Config) -> Result<Known, Failure> {
    match context.target(config) {
        Target::Queen { url, local: true } => local_queen(context, config, url).await,
        Target::Hive { local: true, .. } => hive_alone(context, config).await,
        Target::Queen { url, local: false } | Target::Hive { url, local: false } => {
            let fleet = context.client(&url)?.status().await;
            let fleet = fleet.map_err(|error| Failure::from(error).exit(Exit::UNKNOWN))?;
            Ok(Known { fleet, exit: Exit::RUNNING, notes: Vec::new() })
        }
    }
}

/// What this machine's hive says, without a queen.
pub(super) async fn hive_alone(context: &Context, config: &Config) -> Result<Known, Failure> {
    let (hives, exit, notes) = local_hive(context, config).await?;
    Ok(Known { fleet: FleetStatus { queen: None, hives }, exit, notes })
}

async fn local_queen(context: &Context, config: &Config, url: String) -> Result<Known, Failure> {
    let mut notes = Vec::new();
    let (phase, pid) = match recorded(context, context.queen(config)).await? {
        DaemonStatus::Running(pid) => match context.client(&url)?.status().await {
            Ok(fleet) => return Ok(Known { fleet, exit: Exit::RUNNING, notes }),
            Err(error) => {
                notes.push(format!("queen (pid {pid}) runs, but: {}", Failure::from(error).message));
                (Phase::Unavailable, Some(pid))
            }
        },
        DaemonStatus::Stale(pid) => {
            notes.push(format!("queen's PID file names {pid}, but that process is gone"));
            (Phase::Stale, None)
        }
        DaemonStatus::Failed(reason) => {
            notes.push(format!("queen's last start failed: {reason}"));
            (Phase::Failed, None)
        }
        DaemonStatus::Stopped => (Phase::Stopped, None),
    };
    let exit = match phase {
        Phase::Unavailable => Exit::UNKNOWN,
        other => Exit::of_phase(other),
    };
    let (hives, _, hive_notes) = local_hive(context, config).await?;
    notes.extend(hive_notes);
    let queen =
        QueenStatus { usage: None, history_trouble: None, phase, pid, url, version: None, uptime_s: 0.0, restarts: 0 };
    Ok(Known { fleet: FleetStatus { queen: Some(queen), hives }, exit, notes })
}

/// This machine's hive as it tells itself: it goes on while queen is away.
async fn local_hive(context: &Context, config: &Config) -> Result<(Vec<HiveStatus>, Exit, Vec<String>), Failure> {
    let url = context.hive_url(config);
    let mut notes = Vec::new();
    let (phase, pid) = match recorded(context, context.hive(config)).await? {
        DaemonStatus::Running(pid) => match context.client(&url)?.status().await {
            Ok(fleet) => return Ok((fleet.hives, Exit::RUNNING, notes)),
            Err(error) => {
                notes.push(format!("the hive (pid {pid}) runs, but: {}", Failure::from(error).message));
                (Phase::Unavailable, Some(pid))
            }
        },
        DaemonStatus::Stale(pid) => {
            notes.push(format!("the hive's PID file names {pid}, but that process is gone"));
            (Phase::Stale, None)
        }
        DaemonStatus::Failed(reason) => {
            notes.push(format!("the hive's last start failed: {reason}"));
            (Phase::Failed, None)
        }
        DaemonStatus::Stopped => (Phase::Stopped, None),
    };
    let dirs = context.dirs.clone();
    let workers = context.blocking(move || Ok::<_, Failure>(orphans(&dirs))).await?;
    if phase == Phase::Stopped && workers.is_empty() {
        return Ok((Vec::new(), Exit::NOT_RUNNING, notes));
    }
    let exit = if phase == Phase::Unavailable { Exit::UNKNOWN } else { Exit::of_phase(phase) };
    let hive = HiveStatus {
        usage: None,
        history_trouble: None,
        name: config.hive.name.clone(),
        phase,
        pid,
        url,
        generation: 0,
        uptime_s: 0.0,
        restarts: 0,
        reason: notes.last().cloned(),
        workers,
    };
    Ok((vec![hive], exit, notes))
}

/// Workers on record while no hive tells about them: they go on without one.
fn orphans(dirs: &Dirs) -> Vec<WorkerStatus> {
    let Ok(entries) = std::fs::read_dir(dirs.workers_run_dir()) else { return Vec::new() };
    let files = entries.flatten().map(|entry| entry.path());
    let mut workers: Vec<WorkerStatus> =
        files.filter(|path| path.extension().is_some_and(|e| e == "state")).filter_map(|path| orphan(&path)).collect();
    workers.sort_by(|a, b| (&a.name, a.replica).cmp(&(&b.name, b.replica)));
    workers
}

fn orphan(state_file: &Path) -> Option<WorkerStatus> {
    let id = ReplicaId::from_unit_name(state_file.file_stem()?.to_str()?)?;
    let manager = DaemonManager::new(DaemonConfig {
        binary_path: PathBuf::new(),
        args: Vec::new(),
        pid_file: state_file.with_extension("pid"),
        working_dir: None,
        env: HashMap::new(),
        startup_timeout_secs: 0,
        shutdown_timeout_secs: 0,
    });
    let (phase, pid) = match manager.status().ok()? {
        DaemonStatus::Running(pid) => (Phase::Running, Some(pid)),
        DaemonStatus::Stale(_) => (Phase::Stale, None),
        DaemonStatus::Stopped | DaemonStatus::Failed(_) => return None,
    };
    let since = manager.started_at().ok().flatten();
    let uptime = since.and_then(|since| SystemTime::from(since).elapsed().ok()).unwrap_or_default();
    Some(WorkerStatus {
        usage: None,
        name: id.name,
        replica: id.replica,
        phase,
        pid,
        port: manager.listen_address().ok().flatten().map(|address| address.port()),
        model: None,
        incarnation: 0,
        restarts: 0,
        uptime_s: uptime.as_secs_f64(),
        rss_bytes: 0,
        cpu_percent: 0.0,
        health: None,
        reason: Some("no hive looks after it".to_owned()),
        last_log_lines: Vec::new(),
        restart_generation: 0,
        own_engine: false,
        waits_for: None,
        limits: Vec::new(),
        start_timeout_ms: 0,
        unloaded: false,
        behind: false,
    })
}

async fn recorded(context: &Context, manager: DaemonManager) -> Result<DaemonStatus, Failure> {
    let status = context.blocking(move || manager.status()).await;
    status.map_err(|failure| failure.exit(Exit::UNKNOWN))
}
