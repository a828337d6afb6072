//! `optimize [--apply]`: what this machine and its history say about the configuration.

use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rbee_api::report::Period;
use rbee_api::report::Report;
use rbee_runtime::config::{Config, DEFAULT_TEXT, Loaded};
use serde_json::json;

use super::reload;
use crate::cli::OptimizeArgs;
use crate::context::{Context, Target};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::optimize::{self, Machine, Proposal};
use crate::ui::proposals;

pub(super) async fn run(context: &Context, args: OptimizeArgs) -> Result<Exit, Failure> {
    let Loaded { config, path } = context.config()?;
    let machine = context.blocking({
        let (dirs, config) = (context.dirs.clone(), config.clone());
        move || Ok::<_, Failure>(Machine::look(&dirs, &config))
    });
    let machine = machine.await?;
    let (history, no_history) = match history(context, &config).await {
        // Used as far as it goes: a slow start is one at any age.
        Ok(report) if !optimize::is_known_long(&report) => {
            (Some(report), Some("it is of less than an hour".to_owned()))
        }
        Ok(report) => (Some(report), None),
        Err(why) => (None, Some(why)),
    };
    let found = optimize::propose(&machine, &config, history.as_ref());
    let advice = optimize::advise(&machine, &config);
    let applied = args.apply && !found.is_empty();
    if applied {
        let file = context.settings.config_file.clone();
        let (there, found) = (path.is_some(), found.clone());
        context.blocking(move || write(&file, there, &found)).await?;
    }
    let reloaded = if applied { reload_running(context, &config).await? } else { None };
    context.ui.answer(
        &json!({ "proposals": found, "advice": advice, "applied": applied, "history": no_history.is_none(),
            "no_history": no_history, "reloaded": reloaded, "config_file": context.settings.config_file }),
        |ui| {
            if let Some(why) = &no_history {
                ui.note(&format!("no history to go by: {why}; these follow from machine and configuration"));
            }
            if found.is_empty() {
                ui.done("nothing to change");
            } else if applied {
                ui.done(&format!("wrote {} changes to {}", found.len(), context.settings.config_file.display()));
            } else {
                ui.hint("`rbee-keeper optimize --apply` writes them, and has the running daemons read them");
            }
            proposals(&found, &advice, ui.color())
        },
    );
    if let Some(reply) = reloaded {
        if !context.ui.is_json() {
            reload::tell(&context.ui, &reply);
        }
    } else if applied && !context.ui.is_json() {
        context.ui.hint("nothing runs; the next start takes it");
    }
    Ok(Exit::DONE)
}

/// The last week, from whoever answers; else why there is none.
async fn history(context: &Context, config: &Config) -> Result<Report, String> {
    let target = context.target(config);
    if !runs(context, config, &target) {
        return Err("nothing runs here that could tell".to_owned());
    }
    let report = match context.client(target.url()) {
        Ok(client) => client.report(Period::Week).await.map_err(Failure::from),
        Err(failure) => Err(failure),
    };
    let report = report.map_err(|failure| format!("{} does not tell: {}", target.url(), failure.message))?;
    if report.daemons.is_empty() && report.models.is_empty() {
        return Err("nothing is recorded yet".to_owned());
    }
    Ok(report)
}

/// Whether somebody is there, as far as files show it.
fn runs(context: &Context, config: &Config, target: &Target) -> bool {
    match target {
        Target::Queen { local: true, .. } => context.queen(config).is_running(),
        Target::Hive { local: true, .. } => context.hive(config).is_running(),
        // Asked for by flag, variable or file.
        Target::Queen { local: false, .. } | Target::Hive { local: false, .. } => true,
    }
}

/// Writes the file with the proposals in it; without a file, the built-in one with them.
fn write(path: &Path, is_there: bool, found: &[Proposal]) -> Result<(), Failure> {
    let failed = |what: &str, error: &io::Error| {
        Failure::new("config", format!("cannot {what} {}", path.display())).because(error).exit(Exit::CONFIG)
    };
    let text = if is_there {
        std::fs::read_to_string(path).map_err(|error| failed("read", &error))?
    } else {
        DEFAULT_TEXT.to_owned()
    };
    let result = optimize::apply(&text, found, path).map_err(|error| {
        Failure::new("config", format!("{} stays as it is", path.display())).because(&error).exit(Exit::CONFIG)
    })?;
    replace(path, &result).map_err(|error| failed("write", &error))
}

/// The new text is there whole or not at all, in the file that a link names, with the mode that it had.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let file = if path.exists() { std::fs::canonicalize(path)? } else { path.to_owned() };
    let mode = file.metadata().map_or(0o600, |about| about.permissions().mode() & 0o7777);
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let draft = file.with_extension(format!("toml.{}", std::process::id()));
    let written = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&draft)
        .and_then(|mut draft| draft.write_all(text.as_bytes()).and_then(|()| draft.sync_all()))
        .and_then(|()| std::fs::rename(&draft, &file));
    if written.is_err() {
        // The error that counts is the first.
        let _ = std::fs::remove_file(&draft);
    }
    written
}

/// Has whoever runs here read the file anew; `None` where nobody does.
async fn reload_running(context: &Context, config: &Config) -> Result<Option<rbee_api::ReloadReply>, Failure> {
    let target = context.target(config);
    // A queen elsewhere reads a file of her own.
    let is_hers = matches!(target, Target::Queen { local: false, .. });
    if is_hers || !runs(context, config, &target) {
        return Ok(None);
    }
    let reply = reload::ask(context, target.url()).await.map_err(|mut failure| {
        let file = context.settings.config_file.display();
        failure.message = format!("{file} was changed, but not all that runs followed: {}", failure.message);
        failure
    })?;
    Ok(Some(reply))
}
