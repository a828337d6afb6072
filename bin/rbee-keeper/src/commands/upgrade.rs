//! `queen upgrade`: another process in queen's place; `hive upgrade`: another binary in a hive's process.

use std::path::PathBuf;
use std::time::Duration;

use rbee_api::{HiveUpgradeReply, HiveUpgradeRequest, UpgradeRequest};
use rbee_runtime::config::Config;
use serde_json::json;

use crate::context::{Context, Target};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::recovery::is_gone;

/// Questions that the process before the exec may still take.
const ASKED_MAX: u32 = 20;
/// What an answer may take besides the upgrade itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) async fn queen(context: &Context, config: &Config, binary: Option<PathBuf>) -> Result<Exit, Failure> {
    let (url, local) = match context.target(config) {
        Target::Queen { url, local } => (url, local),
        Target::Hive { .. } => {
            return Err(Failure::new("no_queen", "there is no queen here to upgrade")
                .hint("a hive that stands alone is upgraded by `rbee-keeper --hive URL hive upgrade NAME`")
                .exit(Exit::NOT_RUNNING));
        }
    };
    // Queen's own folder may be another one.
    let binary = binary.map(|path| std::path::absolute(&path).unwrap_or(path));
    let before = context.queen(config).get_pid().ok().flatten();
    let upgraded = {
        let _spinner = context.ui.spinner("upgrading queen");
        let timeout = config.queen.upgrade_timeout + ANSWER_TIMEOUT;
        context.client(&url)?.upgrade(&UpgradeRequest { binary }, timeout).await
    };
    match upgraded {
        Ok(reply) => {
            context.ui.answer(&reply, |ui| {
                let (old, new) = (&reply.previous_version, &reply.version);
                let versions = if old == new { new.clone() } else { format!("{old} → {new}") };
                ui.done(&format!("queen {versions} (pid {} → {})", reply.previous_pid, reply.pid));
                String::new()
            });
            Ok(Exit::DONE)
        }
        Err(error) if local && is_gone(&error) => {
            let failure = Failure::from(error);
            let manager = context.queen(config);
            let patience_s = config.queen.upgrade_timeout.as_secs();
            // The new one holds the lock until it serves, if it is about to.
            let taken_over = context.blocking(move || {
                manager.wait_ready(patience_s)?;
                manager.get_pid()
            });
            match taken_over.await {
                Ok(Some(pid)) if Some(pid) != before => {
                    context.ui.warn("the old queen died in the middle of the upgrade; the new one took her place");
                    let reply = json!({ "pid": pid, "previous_pid": before });
                    context.ui.answer(&reply, |ui| {
                        ui.done(&format!("queen runs (pid {pid})"));
                        String::new()
                    });
                    Ok(Exit::DONE)
                }
                _ => Err(failure),
            }
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn hive(context: &Context, config: &Config, name: &str) -> Result<Exit, Failure> {
    let reply = {
        let _spinner = context.ui.spinner(&format!("upgrading hive {name}"));
        match context.target(config) {
            Target::Queen { .. } => {
                let request = HiveUpgradeRequest { wait_ms: context.wait_ms() };
                context.call(config, async |client| client.hive_upgrade(name, &request).await).await?
            }
            Target::Hive { url, .. } => alone(context, &url, name).await?,
        }
    };
    context.ui.answer(&reply, |ui| {
        ui.done(&format!("hive {name} runs {} (pid {}, as before)", reply.upgrade.version, reply.pid));
        String::new()
    });
    Ok(Exit::DONE)
}

/// The connection breaks with the process that was asked; its socket does not, so the next question waits for the new one.
async fn alone(context: &Context, url: &str, name: &str) -> Result<HiveUpgradeReply, Failure> {
    let begun = context.client(url)?.hive_upgrade(name, &HiveUpgradeRequest::default()).await?;
    let mut left = ASKED_MAX;
    loop {
        match context.client(url)?.hive_upgraded(name, begun.upgrade.generation).await {
            Err(error) if is_gone(&error) && left > 0 => left -= 1,
            other => return Ok(other?),
        }
    }
}
