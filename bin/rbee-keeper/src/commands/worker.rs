//! `worker list | start | stop | restart | drain | undrain | kill | retry | why | status | logs | scale`.

use std::io;

use futures_util::StreamExt;
use rbee_api::control::WorkerOnHive;
use rbee_api::ids::is_valid_name;
use rbee_api::{
    FleetStatus, HiveStatus, LogQuery, Phase, ReplicaId, ScaleRequest, Verb, VerbReply, VerbRequest, WorkerRef,
};
use rbee_runtime::config::Config;
use serde_json::json;

use super::status;
use crate::cli::{LogArgs, WorkerArgs, WorkerCommand};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ui::{fleet_tree, history, reasons};

pub(super) async fn run(context: &Context, command: WorkerCommand) -> Result<Exit, Failure> {
    let config = context.config()?.config;
    match command {
        WorkerCommand::List => list(context, &config).await,
        WorkerCommand::Start(WorkerArgs { name }) => verb(context, &config, &name, Verb::Start, plain()).await,
        WorkerCommand::Stop(WorkerArgs { name }) => verb(context, &config, &name, Verb::Stop, plain()).await,
        WorkerCommand::Restart { worker, rolling, clean } => {
            let how = VerbRequest { rolling, clean, ..plain() };
            verb(context, &config, &worker.name, Verb::Restart, how).await
        }
        WorkerCommand::Kill(WorkerArgs { name }) => verb(context, &config, &name, Verb::Kill, plain()).await,
        WorkerCommand::Retry { worker, force } => {
            let how = VerbRequest { force, ..plain() };
            verb(context, &config, &worker.name, Verb::Retry, how).await
        }
        WorkerCommand::Drain(WorkerArgs { name }) => verb(context, &config, &name, Verb::Drain, plain()).await,
        WorkerCommand::Undrain(WorkerArgs { name }) => verb(context, &config, &name, Verb::Undrain, plain()).await,
        WorkerCommand::Why(WorkerArgs { name }) => why(context, &config, &name).await,
        WorkerCommand::Status(WorkerArgs { name }) => show(context, &config, &name).await,
        WorkerCommand::Logs { worker, log } => logs(context, &config, &worker.name, log).await,
        WorkerCommand::Scale { name, replicas } => scale(context, &config, name, replicas).await,
    }
}

async fn list(context: &Context, config: &Config) -> Result<Exit, Failure> {
    let fleet = context.call(config, async |client| client.status().await).await?;
    let workers: Vec<WorkerOnHive> =
        fleet.workers().map(|(hive, worker)| WorkerOnHive { hive: hive.to_owned(), worker: worker.clone() }).collect();
    context.ui.answer(&json!({ "workers": workers }), |ui| {
        fleet_tree(&FleetStatus { queen: None, hives: fleet.hives.clone() }, ui.color())
    });
    Ok(Exit::DONE)
}

fn plain() -> VerbRequest {
    VerbRequest::default()
}

async fn verb(
    context: &Context,
    config: &Config,
    name: &WorkerRef,
    verb: Verb,
    how: VerbRequest,
) -> Result<Exit, Failure> {
    let reply = {
        let _spinner = context.ui.spinner(&format!("{verb} {name}"));
        let request = VerbRequest { wait_ms: context.wait_ms(), ..how };
        context.call(config, async |client| client.worker_verb(name, verb, &request).await).await?
    };
    match verb {
        Verb::Stop | Verb::Kill => check_reached(&reply, Phase::Stopped)?,
        Verb::Start | Verb::Restart | Verb::Retry => check_reached(&reply, Phase::Running)?,
        Verb::Drain | Verb::Undrain => {}
    }
    print_reply(context, &reply, verb_done(verb, reply.changed));
    Ok(Exit::DONE)
}

async fn scale(context: &Context, config: &Config, name: String, replicas: u32) -> Result<Exit, Failure> {
    if !is_valid_name(&name) {
        return Err(Failure::new("usage", format!("`{name}` names no worker"))
            .hint("scale takes the worker's name without replica")
            .exit(Exit::USAGE));
    }
    let reply = {
        let _spinner = context.ui.spinner(&format!("scaling {name} to {replicas}"));
        let request = ScaleRequest { replicas, wait_ms: context.wait_ms() };
        context.call(config, async |client| client.scale(&name, &request).await).await?
    };
    check_staying(&reply, replicas)?;
    print_reply(context, &reply, if reply.changed { "scaled" } else { "has that many already" });
    Ok(Exit::DONE)
}

/// What a verb did.
pub(crate) fn verb_done(verb: Verb, changed: bool) -> &'static str {
    match (verb, changed) {
        (Verb::Start, true) => "started",
        (Verb::Start, false) => "runs already",
        (Verb::Stop, true) => "stopped",
        (Verb::Kill, true) => "killed",
        (Verb::Stop | Verb::Kill, false) => "was not running",
        (Verb::Restart, true) => "restarted",
        (Verb::Restart, false) => "is not loaded: its next start is a new one",
        (Verb::Drain, true) => "drained: nothing is in flight there",
        (Verb::Drain, false) => "was drained already",
        (Verb::Undrain, true) => "takes work again",
        (Verb::Undrain, false) => "was not drained",
        (Verb::Retry, true) => "tried again",
        (Verb::Retry, false) => "has not given up",
    }
}

fn print_reply(context: &Context, reply: &VerbReply, what: &str) {
    context.ui.answer(reply, |ui| {
        for WorkerOnHive { hive, worker } in &reply.workers {
            let pid = worker.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            ui.done(&format!("{hive}:{}/{} {what}{pid}", worker.name, worker.replica));
        }
        String::new()
    });
}

/// Success is what was observed: a worker that is not where it was sent is a failure, with its reason and log.
pub(crate) fn check_reached(reply: &VerbReply, wanted: Phase) -> Result<(), Failure> {
    check_each(reply.workers.iter(), wanted)
}

/// Replicas that went are stopped or not in the answer any more; those that stay must run.
pub(crate) fn check_staying(reply: &VerbReply, replicas: u32) -> Result<(), Failure> {
    check_each(reply.workers.iter().filter(|worker| worker.worker.replica < replicas), Phase::Running)
}

fn check_each<'a>(workers: impl Iterator<Item = &'a WorkerOnHive>, wanted: Phase) -> Result<(), Failure> {
    let elsewhere = |on: &&WorkerOnHive| match (wanted, on.worker.phase) {
        // It is up; that it gets no work is somebody's order.
        (Phase::Running, Phase::Draining) => false,
        (Phase::Running, Phase::Stopped) if on.worker.unloaded => false,
        (wanted, phase) => wanted != phase,
    };
    let Some(WorkerOnHive { hive, worker }) = workers.into_iter().find(elsewhere) else { return Ok(()) };
    let name = format!("{hive}:{}/{}", worker.name, worker.replica);
    let reason = worker.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let code = match worker.phase {
        Phase::Unavailable => "unavailable",
        _ => "worker_failed",
    };
    Err(Failure::new(code, format!("{name} is {}, not {wanted}{reason}", worker.phase))
        .log_lines(worker.last_log_lines.clone())
        .hint(format!("`rbee-keeper worker logs {}/{}` shows all it wrote", worker.name, worker.replica)))
}

async fn why(context: &Context, config: &Config, name: &WorkerRef) -> Result<Exit, Failure> {
    let reply = context.call(config, async |client| client.worker_why(name).await).await?;
    context.ui.answer(&reply, |ui| history(&reply, ui.color()));
    Ok(Exit::DONE)
}

async fn show(context: &Context, config: &Config, name: &WorkerRef) -> Result<Exit, Failure> {
    let known = status::gather(context, config).await?;
    let hives: Vec<HiveStatus> = known
        .fleet
        .hives
        .into_iter()
        .filter_map(|mut hive| {
            let on = hive.name.clone();
            hive.workers
                .retain(|worker| name.matches(&on, &ReplicaId { name: worker.name.clone(), replica: worker.replica }));
            (!hive.workers.is_empty()).then_some(hive)
        })
        .collect();
    let found = FleetStatus { queen: None, hives };
    let workers: Vec<WorkerOnHive> =
        found.workers().map(|(hive, worker)| WorkerOnHive { hive: hive.to_owned(), worker: worker.clone() }).collect();
    if workers.is_empty() {
        return Err(if config.worker.contains_key(&name.name) && known.exit != Exit::RUNNING {
            Failure::new("not_running", format!("worker `{name}` is not running"))
                .hint("`rbee-keeper up` starts it")
                .exit(Exit::NOT_RUNNING)
        } else {
            Failure::new("worker_not_found", format!("no worker is called `{name}`"))
                .hint("`rbee-keeper worker list` shows their names")
                .exit(Exit::UNKNOWN)
        });
    }
    context.ui.answer(&json!({ "workers": workers }), |ui| fleet_tree(&found, ui.color()) + &reasons(&found));
    Ok(Exit::of_phases(workers.iter().map(|worker| worker.worker.phase)))
}

async fn logs(context: &Context, config: &Config, name: &WorkerRef, args: LogArgs) -> Result<Exit, Failure> {
    let query = LogQuery { replica: name.replica, hive: name.hive.clone(), lines: args.lines, follow: args.follow };
    let pieces = context.call(config, async |client| client.worker_logs(&name.name, &query).await).await?;
    let mut pieces = std::pin::pin!(pieces);
    let as_json = context.ui.is_json() && !args.follow;
    let mut text = Vec::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        if as_json {
            text.extend_from_slice(&piece);
            continue;
        }
        match context.ui.stream(&piece) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Exit::DONE),
            other => other.map_err(|error| Failure::new("output", "cannot write").because(&error))?,
        }
    }
    if as_json {
        let text = String::from_utf8_lossy(&text);
        context.ui.json(&json!({ "lines": text.lines().collect::<Vec<_>>() }));
    }
    Ok(Exit::DONE)
}
