//! `down`: a deliberate stop that leaves nothing, whatever had crashed before.
//!
//! ```text
//!   queen (SIGTERM: she stops hives, they stop workers)
//!     └▶ hives left by a killed queen ─▶ workers left by a killed hive ─▶ look again: nothing may be left
//! ```

use std::path::Path;

use daemon_lifecycle::{StopMode, Supervisor, SupervisorConfig};
use rbee_api::ShutdownRequest;
use rbee_runtime::config::Config;
use serde_json::json;

use super::queen::is_stopped;
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
    let mut changed = stop_queen(context, &config, now).await?;
    let dirs = &context.dirs;
    let workers = SupervisorConfig::new(dirs.workers_run_dir(), dirs.workers_log_dir());
    changed |= sweep(hive_lifecycle::supervisor_config(dirs), now).await?;
    changed |= sweep(workers, now).await?;
    let left = records(dirs.run_dir());
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

/// Stops queen, and by her everything she knows of. Whether there was anything of her.
async fn stop_queen(context: &Context, config: &Config, now: bool) -> Result<bool, Failure> {
    let manager = context.queen(config);
    let there = !is_stopped(&manager);
    if now && manager.is_running() {
        // Best effort: the signal that follows stops her anyway, with patience for what is in flight.
        let request = ShutdownRequest { keep_children: false, now: true };
        let asked = match context.client(&context.queen_url(config)) {
            Ok(client) => client.shutdown(&request).await.map_err(Failure::from),
            Err(failure) => Err(failure),
        };
        if let Err(failure) = asked {
            context.ui.detail(&format!("queen did not take the order to hurry: {}", failure.message));
        }
    }
    context.blocking(move || manager.stop()).await?;
    Ok(there)
}

/// Stops what a dead supervisor left in its run folder, and removes its files. Whether there was anything.
async fn sweep(config: SupervisorConfig, now: bool) -> Result<bool, Failure> {
    if records(&config.run_dir).is_empty() {
        return Ok(false);
    }
    let supervisor = Supervisor::open(config).await?;
    supervisor.shutdown(if now { StopMode::Now } else { StopMode::Graceful }).await?;
    Ok(true)
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
