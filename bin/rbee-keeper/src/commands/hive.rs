//! `hive list | status | drain | undrain | upgrade | reload`.

use rbee_api::{DrainRequest, FleetStatus};
use rbee_runtime::config::Config;

use super::{status, upgrade};
use crate::cli::HiveCommand;
use crate::context::{Context, Target};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::ui::fleet_tree;

pub(super) async fn run(context: &Context, command: HiveCommand) -> Result<Exit, Failure> {
    if matches!(command, HiveCommand::Reload) {
        return reload(context).await;
    }
    let config = context.config()?.config;
    match command {
        HiveCommand::List => {
            let mut fleet = context.call(&config, async |client| client.status().await).await?;
            for hive in &mut fleet.hives {
                hive.workers.clear();
            }
            context.ui.answer(&serde_json::json!({ "hives": fleet.hives }), |ui| {
                let hives = FleetStatus { queen: None, hives: fleet.hives.clone() };
                fleet_tree(&hives, ui.color())
            });
            Ok(Exit::DONE)
        }
        HiveCommand::Reload => reload(context).await,
        HiveCommand::Upgrade { name } => upgrade::hive(context, &config, &name).await,
        HiveCommand::Drain { name } => drain(context, &config, &name, true).await,
        HiveCommand::Undrain { name } => drain(context, &config, &name, false).await,
        HiveCommand::Status { name } => {
            let known = status::gather(context, &config).await?;
            let Some(hive) = known.fleet.hives.into_iter().find(|hive| hive.name == name) else {
                if name == config.hive.name && known.exit != Exit::RUNNING {
                    return Err(Failure::new("not_running", format!("hive `{name}` is not running"))
                        .hint("`rbee-keeper up` starts it")
                        .exit(Exit::NOT_RUNNING));
                }
                return Err(Failure::new("hive_not_found", format!("no hive is called `{name}`"))
                    .hint("`rbee-keeper hive list` shows their names")
                    .exit(Exit::UNKNOWN));
            };
            let exit = Exit::of_phase(hive.phase);
            context
                .ui
                .answer(&hive, |ui| fleet_tree(&FleetStatus { queen: None, hives: vec![hive.clone()] }, ui.color()));
            Ok(exit)
        }
    }
}

async fn reload(context: &Context) -> Result<Exit, Failure> {
    let target = match &context.settings.hive {
        // The file that the hive shall read may be wrong, and be ours too: it is for the hive to say so.
        Some(url) => Target::Hive { url: url.clone(), local: false },
        None => context.target(&context.config()?.config),
    };
    let url = match target {
        Target::Hive { url, .. } => url,
        Target::Queen { .. } => {
            return Err(Failure::new("usage", "a hive that has a queen gets its workers from her")
                .hint("`--hive URL` names a hive that stands alone")
                .exit(Exit::USAGE));
        }
    };
    super::reload::reload(context, &url).await
}

async fn drain(context: &Context, config: &Config, name: &str, drain: bool) -> Result<Exit, Failure> {
    let target = context.target(config);
    if let Target::Hive { .. } = target {
        return Err(Failure::new(
            "usage",
            "a hive that stands alone gives out no requests: there is nothing to keep from it",
        )
        .hint("`rbee-keeper worker stop NAME` ends a worker after what it has in flight")
        .exit(Exit::USAGE));
    }
    let reply = {
        let _spinner = context.ui.spinner(&format!("{} hive {name}", if drain { "draining" } else { "undraining" }));
        let request = DrainRequest { wait_ms: context.wait_ms() };
        context.call(config, async |client| client.hive_drain(name, drain, &request).await).await?
    };
    let done = match (drain, reply.changed) {
        (true, true) => "drained: nothing is in flight there",
        (true, false) => "was drained already",
        (false, true) => "takes work again",
        (false, false) => "was not drained",
    };
    context.ui.answer(&reply, |ui| {
        ui.done(&format!("hive {name} {done}"));
        String::new()
    });
    Ok(Exit::DONE)
}
