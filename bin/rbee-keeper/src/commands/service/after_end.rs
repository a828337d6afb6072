//! `service after-end`: what a unit asks when its daemon has ended, so that a stop leaves nothing.

use std::time::Duration;

use daemon_lifecycle::{SupervisorConfig, end_rest_of_unit};
use rbee_runtime::services::Services;
use serde_json::json;

use crate::commands::down::sweep;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::services::Systemd;

/// What a queen before this one gets, who still writes answers when all shall end.
const REST_PATIENCE: Duration = Duration::from_secs(5);

/// A stop that somebody asked for leaves nothing, also where the daemon did not get to its end in time. After a crash nobody asks for
/// a stop: then what it left goes on, and the next one adopts it.
pub(super) async fn run(context: &Context, unit: &str) -> Result<Exit, Failure> {
    let services = Services::read(&context.dirs.services_file()).unwrap_or_default();
    let is_queen = services.queen.as_deref() == Some(unit);
    let is_ours = is_queen || services.hive.as_deref() == Some(unit);
    if !is_ours || !Systemd::of(services.scope).is_stopping(unit).await {
        return Ok(Exit::DONE);
    }
    let dirs = &context.dirs;
    let mut swept = false;
    if is_queen && services.hive.is_none() {
        swept |= sweep(hive_lifecycle::supervisor_config(dirs), true).await?;
    }
    if !is_queen || services.hive.is_none() {
        swept |= sweep(SupervisorConfig::new(dirs.workers_run_dir(), dirs.workers_log_dir()), true).await?;
    }
    let of_unit = unit.to_owned();
    let rest = context.blocking(move || {
        end_rest_of_unit(&of_unit, REST_PATIENCE)
            .map_err(|error| Failure::new("not_stopped", format!("cannot end what {of_unit} left")).because(&error))
    });
    swept |= rest.await? > 0;
    let config = context.config().map(|loaded| loaded.config).unwrap_or_default();
    let manager = if is_queen { context.queen(&config) } else { context.hive(&config) };
    context.blocking(move || manager.cleanup_stale()).await?;
    context.ui.answer(&json!({ "changed": swept }), |ui| {
        if swept {
            ui.note(&format!("{unit} did not end in order: what it left is ended"));
        }
        String::new()
    });
    Ok(Exit::DONE)
}
