//! `queen start | stop | restart | kill | status | upgrade | reload | logs`: this machine's orchestrator.

use std::io;

use daemon_lifecycle::{DaemonError, DaemonManager, DaemonStatus};
use rbee_api::ShutdownRequest;
use rbee_runtime::config::Config;
use rbee_runtime::listen::holder_of;
use serde_json::json;
use service_definition::Tier;

use super::{status, upgrade};
use crate::cli::{LogArgs, QueenCommand};
use crate::context::{Context, Target};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::file_tail;
use crate::services::Unit;

pub(super) async fn run(context: &Context, command: QueenCommand) -> Result<Exit, Failure> {
    let config = context.config()?.config;
    match command {
        QueenCommand::Start => {
            let (pid, changed) = start(context, &config).await?;
            answer(context, &config, changed, Some(pid), if changed { "started" } else { "runs already" });
        }
        QueenCommand::Stop { keep_hives } => {
            let changed = stop(context, &config, keep_hives).await?;
            answer(context, &config, changed, None, if changed { "stopped" } else { "was not running" });
        }
        QueenCommand::Restart => {
            stop(context, &config, true).await?;
            let (pid, _) = start(context, &config).await?;
            answer(context, &config, true, Some(pid), "restarted");
        }
        QueenCommand::Kill => {
            let changed = kill(context, &config).await?;
            let what = match (changed, context.unit_of(Tier::Queen)) {
                (false, _) => "was not running".to_owned(),
                (true, None) => "killed; hives and workers go on".to_owned(),
                (true, Some(unit)) => format!("killed; hives and workers go on, and {} starts her again", unit.name),
            };
            answer(context, &config, changed, None, &what);
        }
        QueenCommand::Status => return show(context, &config).await,
        QueenCommand::Reload => return reload(context, &config).await,
        QueenCommand::Upgrade { binary } => return upgrade::queen(context, &config, binary).await,
        QueenCommand::Logs(args) => logs(context, args).await?,
    }
    Ok(Exit::DONE)
}

fn answer(context: &Context, config: &Config, changed: bool, pid: Option<u32>, what: &str) {
    let url = context.queen_url(config);
    context.ui.answer(&json!({ "changed": changed, "pid": pid, "url": url }), |ui| {
        let pid = pid.map(|pid| format!(" (pid {pid}) at {url}")).unwrap_or_default();
        ui.done(&format!("queen {what}{pid}"));
        String::new()
    });
}

/// Starts her and waits until she is ready; her pid, and whether she was not running before.
pub(crate) async fn start(context: &Context, config: &Config) -> Result<(u32, bool), Failure> {
    context.dirs.create()?;
    context.token_or_new()?;
    let manager = context.queen(config);
    let port = config.queen.listen.port();
    let started = {
        let _spinner = context.ui.spinner("starting queen");
        match context.unit_of(Tier::Queen) {
            Some(unit) => start_unit(context, &unit, manager).await?,
            None => context.blocking(move || start_blocking(&manager, port)).await?,
        }
    };
    if let Some(address) = context.queen(config).listen_address()?
        && let Err(error) = queen_lifecycle::remember_listen(&context.dirs, address)
    {
        context.ui.warn(&format!("cannot note where queen listens: {error}"));
    }
    Ok(started)
}

/// The same by the service manager that has a unit for it: there is never one beside that.
pub(super) async fn start_unit(context: &Context, unit: &Unit, manager: DaemonManager) -> Result<(u32, bool), Failure> {
    let before = manager.get_pid()?;
    unit.start().await?;
    context.ui.detail(&format!("{} runs", unit.name));
    let after = manager.get_pid()?.ok_or_else(|| {
        Failure::new("start_failed", format!("{} runs, but not with these files", unit.name))
            .hint("`rbee-keeper service install` puts the unit right")
    })?;
    Ok((after, before != Some(after)))
}

/// As [`start`], for any daemon with a port of its own.
pub(crate) fn start_blocking(manager: &DaemonManager, port: u16) -> Result<(u32, bool), Failure> {
    let before = manager.get_pid()?;
    let pid = manager.start().map_err(|error| {
        let taken = is_port_taken(&error);
        let failure = Failure::from(error);
        if taken {
            let hint = format!("port {port} is taken{}; stop that, or set `listen` in rbee.toml", holder_of(port));
            failure.hint(hint)
        } else {
            failure
        }
    })?;
    Ok((pid, before != Some(pid)))
}

fn is_port_taken(error: &DaemonError) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::AddrInUse) {
            return true;
        }
        next = error.source();
    }
    false
}

/// Stops her; with `keep_hives` what is below goes on. Whether she was running.
async fn stop(context: &Context, config: &Config, keep_hives: bool) -> Result<bool, Failure> {
    let manager = context.queen(config);
    let running = manager.get_pid()?.is_some();
    let _spinner = context.ui.spinner("stopping queen");
    let unit = context.unit_of(Tier::Queen);
    if !(running && keep_hives) {
        // One that has crashed would be started again otherwise.
        let mut stopped = stop_unit(unit).await?;
        if !keep_hives {
            stopped |= stop_unit(context.unit_of(Tier::Hive)).await?;
        }
        // A signal means the whole chain; it also clears what a dead queen left.
        context.blocking(move || manager.stop()).await?;
        return Ok(running || stopped);
    }
    let request = ShutdownRequest { keep_children: true, now: false };
    context.client(&context.queen_url(config))?.shutdown(&request).await?;
    let patience_s = queen_lifecycle::shutdown_timeout(config).as_secs();
    context.blocking(move || manager.wait_stopped(patience_s)).await?;
    // Her unit has an end of its own after hers.
    stop_unit(unit).await?;
    Ok(true)
}

/// Whether there was anything to stop.
pub(super) async fn stop_unit(unit: Option<Unit>) -> Result<bool, Failure> {
    let Some(unit) = unit else { return Ok(false) };
    if unit.state().await?.is_down() {
        return Ok(false);
    }
    unit.stop().await?;
    Ok(true)
}

async fn kill(context: &Context, config: &Config) -> Result<bool, Failure> {
    let manager = context.queen(config);
    let running = manager.get_pid()?.is_some();
    context.blocking(move || manager.kill()).await?;
    Ok(running)
}

async fn reload(context: &Context, config: &Config) -> Result<Exit, Failure> {
    match context.target(config) {
        Target::Queen { url, .. } => super::reload::reload(context, &url).await,
        Target::Hive { .. } => Err(Failure::new("no_queen", "this machine's hive stands alone; there is no queen")
            .hint("`rbee-keeper hive reload` has the hive read its configuration anew")
            .exit(Exit::NOT_RUNNING)),
    }
}

async fn show(context: &Context, config: &Config) -> Result<Exit, Failure> {
    let mut known = status::gather(context, config).await?;
    known.fleet.hives.clear();
    let Some(queen) = &known.fleet.queen else {
        return Err(
            Failure::new("no_queen", "this machine's hive stands alone; there is no queen").exit(Exit::NOT_RUNNING)
        );
    };
    if context.ui.is_json() {
        context.ui.json(queen);
    } else {
        status::print(context, &known);
    }
    Ok(known.exit)
}

async fn logs(context: &Context, args: LogArgs) -> Result<(), Failure> {
    let path = context.dirs.queen_log_file();
    let ui = context.ui.clone();
    let lines = args.lines as usize;
    if ui.is_json() && !args.follow {
        return logs_as_json(context, &path, lines).await;
    }
    let shown = {
        let (path, unit) = (path.clone(), context.unit_of(Tier::Queen));
        context.blocking(move || {
            match file_tail::tail(&path, lines, args.follow, |piece| ui.stream(piece)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && unit.is_some() => {
                    Err(in_journal(unit.as_ref()))
                }
                // Whoever read our output has gone: that is how `| head` ends us.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    Err(Failure::new("no_log", format!("there is no log yet at {}", path.display()))
                        .hint("`rbee-keeper queen start` starts one"))
                }
                other => other
                    .map_err(|error| Failure::new("log", format!("cannot read {}", path.display())).because(&error)),
            }
        })
    };
    shown.await
}

/// A service manager keeps her output.
fn in_journal(unit: Option<&Unit>) -> Failure {
    let hint = unit.map(|unit| unit.systemd.log_hint(&unit.name)).unwrap_or_default();
    Failure::new("no_log", "queen's log is in the journal of systemd, who starts her").hint(hint)
}

async fn logs_as_json(context: &Context, path: &std::path::Path, lines: usize) -> Result<(), Failure> {
    let file = path.to_owned();
    let text = context.blocking(move || {
        let mut text = Vec::new();
        let read = file_tail::tail(&file, lines, false, |piece| {
            text.extend_from_slice(piece);
            Ok(())
        });
        read.map(|()| String::from_utf8_lossy(&text).into_owned())
            .map_err(|error| Failure::new("log", format!("cannot read {}", file.display())).because(&error))
    });
    let text = text.await?;
    context.ui.json(&json!({ "lines": text.lines().collect::<Vec<_>>() }));
    Ok(())
}

/// Whether she runs, by her PID file alone.
pub(super) fn is_stopped(manager: &DaemonManager) -> bool {
    matches!(manager.status(), Ok(DaemonStatus::Stopped))
}
