//! `hive list | status | reload`.

use rbee_api::{FleetStatus, ReloadReply, ReloadRequest};

use super::status;
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
            let url = context.target(&config).url().to_owned();
            let mut fleet = context.client(&url)?.status().await?;
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
    let reply = {
        let _spinner = context.ui.spinner("reloading");
        context.client(&url)?.reload(&ReloadRequest { wait_ms: context.wait_ms() }).await?
    };
    context.ui.answer(&reply, |ui| {
        let ReloadReply { added, removed, restarted, updated, untouched, needs_hive_restart } = &reply;
        for (what, names) in
            [("added", added), ("removed", removed), ("restarted", restarted), ("changed without a restart", updated)]
        {
            if !names.is_empty() {
                ui.done(&format!("{what}: {}", names.join(", ")));
            }
        }
        ui.done(&format!("untouched: {untouched}"));
        for key in needs_hive_restart {
            ui.warn(&format!("`{key}` is read only when the hive starts; its workers survive `kill -9` of it"));
        }
        String::new()
    });
    Ok(Exit::DONE)
}
