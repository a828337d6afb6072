//! `up`: models, then queen (or the hive alone), then every worker that is wanted, then the tree.

use std::collections::BTreeSet;

use futures_util::future::try_join_all;
use rbee_api::{Phase, Verb, VerbRequest, WorkerRef};
use rbee_runtime::config::{Config, Loaded};
use serde_json::json;
use service_definition::Tier;

use super::{model, queen, status, worker};
use crate::context::{Context, Target};
use crate::exit::Exit;
use crate::failure::Failure;

pub(super) async fn run(context: &Context, profile: Option<&str>) -> Result<Exit, Failure> {
    let Loaded { config, path } = context.config()?;
    config.check_profile(profile).map_err(|error| {
        let mut failure = Failure::new("unknown_profile", error.to_string());
        failure.hint = error.hint();
        failure.exit = Exit::CONFIG;
        failure
    })?;
    if path.is_none() {
        let file = context.settings.config_file.display();
        context.ui.note(&format!("no configuration at {file}: the built-in one holds"));
        context.ui.hint("`rbee-keeper config init` writes it there, for you to change");
    }
    for key in config.not_in_force() {
        context.ui.warn(&format!("`{}` has no effect here", key.key));
    }
    let (queen_here, hive_here) = (config.starts_queen(), config.starts_hive());
    if !queen_here && !hive_here {
        context.ui.answer(&json!({ "changed": false, "role": config.role }), |ui| {
            ui.note("the role of this machine is leecher: nothing starts by itself");
            ui.hint("`rbee-keeper queen start` starts queen; `role` in rbee.toml changes what `up` does");
            String::new()
        });
        return Ok(Exit::DONE);
    }
    context.dirs.create()?;
    context.token_or_new()?;
    let wanted = if hive_here { config.wanted_workers(profile) } else { BTreeSet::new() };
    let wanted: Vec<&str> = wanted.into_iter().collect();
    model::fetch_for(context, &config, &wanted).await?;
    if queen_here {
        if hive_here && context.unit_of(Tier::Hive).is_some() {
            start_hive(context, &config).await?;
        }
        let (pid, changed) = queen::start(context, &config).await?;
        context.ui.done(&format!("queen {} (pid {pid})", if changed { "started" } else { "runs" }));
    } else {
        start_hive(context, &config).await?;
    }
    if profile.is_some() && hive_here {
        let others = config.worker.keys().map(String::as_str).filter(|name| !wanted.contains(name));
        ask(context, &config, &others.collect::<Vec<_>>(), Verb::Stop, Phase::Stopped).await?;
    }
    let wanted = without_unloaded(context, &config, wanted).await?;
    ask(context, &config, &wanted, Verb::Start, Phase::Running).await?;
    let known = match status::gather(context, &config).await {
        // The hive runs, and dials her until she answers.
        Err(failure) if !queen_here && matches!(context.target(&config), Target::Queen { local: false, .. }) => {
            context.ui.warn(&format!("its queen does not answer: {}", failure.message));
            status::hive_alone(context, &config).await?
        }
        known => known?,
    };
    status::print(context, &known);
    if queen_here && known.exit == Exit::RUNNING {
        context.ui.hint(&format!("the API is at {}/v1", context.queen_url(&config)));
    }
    Ok(known.exit)
}

async fn start_hive(context: &Context, config: &Config) -> Result<(), Failure> {
    let manager = context.hive(config);
    let port = config.hive.listen.port();
    let _spinner = context.ui.spinner("starting the hive");
    let (pid, changed) = match context.unit_of(Tier::Hive) {
        Some(unit) => queen::start_unit(context, &unit, manager).await?,
        None => context.blocking(move || queen::start_blocking(&manager, port)).await?,
    };
    context.ui.done(&format!("hive {} {} (pid {pid})", config.hive.name, if changed { "started" } else { "runs" }));
    Ok(())
}

/// The workers without those that are not loaded because nobody uses them: requests load them.
async fn without_unloaded<'w>(
    context: &Context,
    config: &Config,
    mut wanted: Vec<&'w str>,
) -> Result<Vec<&'w str>, Failure> {
    if !wanted.iter().any(|name| config.worker.get(*name).is_some_and(|worker| worker.idle_ttl.is_some())) {
        return Ok(wanted);
    }
    let fleet = context.client(context.target(config).url())?.status().await?;
    wanted.retain(|name| !fleet.workers().any(|(_, worker)| worker.unloaded && worker.name == *name));
    Ok(wanted)
}

/// Asks the same of several workers at once and waits until all of them are as asked.
async fn ask(context: &Context, config: &Config, names: &[&str], verb: Verb, reached: Phase) -> Result<(), Failure> {
    let target = context.target(config);
    if names.is_empty() || matches!(target, Target::Queen { local: false, .. }) {
        // What this machine runs is decided by a queen elsewhere.
        return Ok(());
    }
    let client = context.client(target.url())?;
    let _spinner = context.ui.spinner(&format!("waiting for {}", names.join(", ")));
    let request = VerbRequest { wait_ms: context.wait_ms(), ..VerbRequest::default() };
    let calls = names.iter().map(|name| {
        let (client, request) = (&client, &request);
        let target = WorkerRef { hive: None, name: (*name).to_owned(), replica: None };
        async move {
            let reply = client.worker_verb(&target, verb, request).await?;
            worker::check_reached(&reply, reached)
        }
    });
    try_join_all(calls).await.map(drop)
}
