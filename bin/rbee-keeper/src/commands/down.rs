//! `down`: a deliberate stop that leaves nothing, whatever had crashed before.
//!
//! ```text
//!   queen (SIGTERM: she stops hives, they stop workers)
//!     └▶ hives left by a killed queen ─▶ workers left by a killed hive ─▶ look again: nothing may be left
//! ```

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

use daemon_lifecycle::{DaemonManager, StopMode, Supervisor, SupervisorConfig};
use rbee_api::ShutdownRequest;
use rbee_runtime::config::Config;
use rbee_runtime::dirs::Dirs;
use serde_json::json;
use service_definition::Tier;

use super::queen::{is_stopped, stop_unit};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

pub(super) async fn run(context: &Context, now: bool) -> Result<Exit, Failure> {
    // A broken configuration must not keep anything running.
    let config = context.config().map(|loaded| loaded.config).unwrap_or_else(|failure| {
        context.ui.warn(&format!("{}; stopping by what is recorded", failure.message));
        Config::default()
    });
    let _spinner = context.ui.spinner("stopping");
    // Whoever starts again what has crashed goes first.
    let mut changed = super::monitor::stop(context).await?;
    // A service manager would start again what has crashed; queen first, while there is somebody to answer.
    for tier in [Tier::Queen, Tier::Hive] {
        changed |= stop_unit(context.unit_of(tier)).await?;
    }
    changed |= stop(context, context.queen(&config), &context.queen_url(&config), now).await?;
    changed |= stop(context, context.hive(&config), &context.hive_url(&config), now).await?;
    let dirs = &context.dirs;
    let workers = SupervisorConfig::new(dirs.workers_run_dir(), dirs.workers_log_dir());
    changed |= sweep(hive_lifecycle::supervisor_config(dirs), now).await?;
    changed |= sweep(workers, now).await?;
    let left = records(dirs.run_dir());
    if left.is_empty() {
        tidy(dirs).map_err(|error| Failure::new("not_stopped", "cannot remove what is left").because(&error))?;
    }
    if !left.is_empty() || !is_stopped(&context.queen(&config)) {
        return Err(Failure::new("not_stopped", format!("something is left: {}", left.join(", ")))
            .hint("`rbee-keeper status` shows what runs"));
    }
    context.ui.answer(&json!({ "changed": changed, "left": left }), |ui| {
        ui.done(if changed { "all is stopped; nothing is left" } else { "nothing was running" });
        String::new()
    });
    Ok(Exit::DONE)
}

/// Stops one of our daemons, and by it everything it knows of. Whether there was anything of it.
async fn stop(context: &Context, manager: DaemonManager, url: &str, now: bool) -> Result<bool, Failure> {
    if is_stopped(&manager) {
        return Ok(false);
    }
    if now && manager.is_running() {
        // Best effort: the signal that follows stops it anyway, with patience for what is in flight.
        let request = ShutdownRequest { keep_children: false, now: true };
        let asked = match context.client(url) {
            Ok(client) => client.shutdown(&request).await.map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        if let Err(failure) = asked {
            context.ui.detail(&format!("{url} did not take the order to hurry: {}", failure.message));
        }
    }
    context.blocking(move || manager.stop()).await?;
    Ok(true)
}

/// Stops what a dead supervisor left in its run folder, and removes its files. Whether anything was on record.
pub(crate) async fn sweep(config: SupervisorConfig, now: bool) -> Result<bool, Failure> {
    let any = std::fs::read_dir(&config.run_dir).is_ok_and(|mut entries| entries.next().is_some());
    if !any {
        return Ok(false);
    }
    let on_record = !records(&config.run_dir).is_empty();
    let supervisor = Supervisor::open(config).await?;
    supervisor.shutdown(if now { StopMode::Now } else { StopMode::Graceful }).await?;
    Ok(on_record)
}

/// Removes what a killed queen or hive could not remove itself. Called when no process of theirs is left.
fn tidy(dirs: &Dirs) -> io::Result<()> {
    if let Err(error) = std::fs::remove_dir_all(dirs.worker_files_dir())
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let path = dirs.queen_life_lock_file();
    match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        // Held by us while it is removed, so that it is nobody else's; who waits for it looks whether it is still there.
        Ok(lock) => match lock.try_lock() {
            Ok(()) => std::fs::remove_file(&path),
            Err(TryLockError::WouldBlock) => Ok(()),
            Err(TryLockError::Error(error)) => Err(error),
        },
    }
}

/// PID and state files anywhere below a run folder: each stands for a process somebody believes in.
fn records(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries
        .flatten()
        .flat_map(|entry| {
            let path = entry.path();
            if path.is_dir() {
                return records(&path);
            }
            let is_record = path.extension().is_some_and(|extension| extension == "pid" || extension == "state");
            is_record.then(|| path.display().to_string()).into_iter().collect()
        })
        .collect()
}
