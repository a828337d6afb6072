//! `service install | uninstall | status | show`: queen and hive under the machine's service manager.
//!
//! ```text
//!   plan ─▶ files ─▶ daemon-reload ─▶ enable ─▶ (what runs otherwise leaves its workers) ─▶ start ─▶ looked at: active
//! ```

mod after_end;

use std::path::Path;
use std::time::Duration;

use daemon_lifecycle::DaemonManager;
use nix::unistd::geteuid;
use rbee_api::ShutdownRequest;
use rbee_runtime::config::Config;
use rbee_runtime::services::{ServiceScope, Services};
use serde_json::json;
use service_definition::{Manager, Service, Tier};

use super::down::sweep;
use crate::cli::{How, ServiceCommand, Which};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::services::{Plan, Planned, Systemd, UnitState, Written, linger, linger_no_more, make_folder, remove, write};
use crate::ui::{Align, Cell, Table, Tone};

/// How long systemd may take for what it does by itself.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) async fn run(context: &Context, command: ServiceCommand) -> Result<Exit, Failure> {
    match command {
        ServiceCommand::Install { which, how } => install(context, &which, &how).await,
        ServiceCommand::Uninstall { which } => uninstall(context, &which).await,
        ServiceCommand::Status { which } => status(context, &which).await,
        ServiceCommand::Show { which, how } => show(context, &which, &how).await,
        ServiceCommand::AfterEnd { unit } => after_end::run(context, &unit).await,
    }
}

/// What a word names; without one, what the role asks for.
fn of_role(config: &Config, which: &Which) -> Vec<Tier> {
    match which.tier {
        Some(tier) => vec![tier.into()],
        None => [(Tier::Queen, config.starts_queen()), (Tier::Hive, config.starts_hive())]
            .into_iter()
            .filter_map(|(tier, starts)| starts.then_some(tier))
            .collect(),
    }
}

fn installed(services: &Services) -> Vec<Tier> {
    let of = [(Tier::Queen, services.queen.is_some()), (Tier::Hive, services.hive.is_some())];
    of.into_iter().filter_map(|(tier, is_there)| is_there.then_some(tier)).collect()
}

async fn show(context: &Context, which: &Which, how: &How) -> Result<Exit, Failure> {
    let plan = Plan::new(context, which, how, |config, _| of_role(config, which)).await?;
    if plan.services.is_empty() {
        return Ok(nothing_asked(&plan));
    }
    let document = |planned: &Planned| {
        let Service { unit, path, text, install, uninstall, removed } = &planned.service;
        json!({ "unit": unit, "path": path, "text": text, "install": install, "uninstall": uninstall, "removed": removed })
    };
    let documents: Vec<_> = plan.services.iter().map(document).collect();
    context.ui.answer(&json!({ "services": documents }), |ui| {
        let mut text = String::new();
        for Planned { service, .. } in &plan.services {
            if plan.services.len() > 1 {
                text += &format!("# {}\n", service.path.display());
            }
            text += &service.text;
            text.push('\n');
            let line = |words: &Vec<String>| format!("  {}", words.join(" "));
            let lines = |commands: &[Vec<String>]| commands.iter().map(line).collect::<Vec<_>>().join("\n");
            ui.note(&format!("to install, write {} and call:\n{}", service.path.display(), lines(&service.install)));
            let again = [service.uninstall.as_slice(), service.removed.as_slice()].concat();
            ui.note(&format!("to remove it, call these, and remove the file after the first:\n{}", lines(&again)));
        }
        text
    });
    Ok(Exit::DONE)
}

fn nothing_asked(plan: &Plan) -> Exit {
    plan.context.ui.answer(&json!({ "changed": false, "role": plan.config.role, "units": [] }), |ui| {
        ui.note("the role of this machine starts nothing by itself, so there is no service for it");
        ui.hint("`rbee-keeper service install hive` says which one you want; `role` in rbee.toml changes what starts");
        String::new()
    });
    Exit::DONE
}

/// The real service manager of this machine, or why it cannot be used.
fn manager_here(plan: &Plan, which: &Which) -> Result<Systemd, Failure> {
    if plan.manager != Manager::Systemd {
        let what = "only systemd is told by keeper itself".to_owned();
        let tier = which.tier.map_or("TIER".to_owned(), |tier| Tier::from(tier).word().to_owned());
        return Err(Failure::new("foreign_manager", what)
            .hint(format!(
                "`rbee-keeper service show {tier} --manager … > FILE` prints the file, and the commands that go with it"
            ))
            .exit(Exit::USAGE));
    }
    let systemd = Systemd::of(plan.scope);
    if !systemd.runs() {
        return Err(systemd.missing());
    }
    if plan.scope == ServiceScope::System && !geteuid().is_root() {
        return Err(Failure::new(
            "permission_denied",
            "a service of the machine needs root: to write below /etc/systemd/system and to be told to systemd",
        )
        .hint("call it with sudo, or `rbee-keeper service install --user` for a service of your own"));
    }
    Ok(systemd)
}

async fn install(context: &Context, which: &Which, how: &How) -> Result<Exit, Failure> {
    let plan =
        Plan::new(context, which, how, |config, services| [of_role(config, which), installed(services)].concat());
    let plan = plan.await?;
    if plan.services.is_empty() {
        return Ok(nothing_asked(&plan));
    }
    let systemd = manager_here(&plan, which)?;
    let ui = &plan.context.ui;
    let owner = plan.owner.1.filter(|_| plan.scope == ServiceScope::System);
    for folder in [plan.context.dirs.config_dir(), plan.context.dirs.state_dir()] {
        make_folder(folder, owner)?;
    }
    let made_to_linger = match plan.scope {
        ServiceScope::System => false,
        ServiceScope::User => linger(&plan.owner.0).await.unwrap_or_else(|failure| {
            ui.warn(&format!("{}: they start at login, and end with the last one", failure.message));
            if let Some(hint) = &failure.hint {
                ui.hint(hint);
            }
            false
        }),
    };
    let mut changed = made_to_linger;
    let mut written = Vec::new();
    for planned in &plan.services {
        written.push(write(&planned.service.path, &planned.service.text)?);
    }
    if written.iter().any(|written| *written != Written::Same) {
        changed = true;
        systemd.tell(&["daemon-reload"], RELOAD_TIMEOUT).await?;
    }
    note(&plan, made_to_linger)?;
    let mut units = Vec::new();
    for (planned, written) in plan.services.iter().zip(&written) {
        let unit = planned.service.unit.as_str();
        let before = systemd.state(unit).await?;
        if !before.enabled {
            changed = true;
            systemd.tell(&["enable", unit], RELOAD_TIMEOUT).await?;
        }
        if before.is_active() {
            if *written == Written::Changed {
                ui.note(&format!("{unit} has changed, and runs as before until it is started again"));
            }
            continue;
        }
        changed = true;
        if planned.tier == Tier::Hive {
            // Queen would start a hive anew that she keeps herself.
            make_way(&plan, Tier::Queen).await?;
        }
        make_way(&plan, planned.tier).await?;
        if planned.tier == Tier::Hive {
            // What queen noted of hives: from now on none is hers.
            sweep(hive_lifecycle::supervisor_config(&plan.context.dirs), true).await?;
        }
        let _spinner = ui.spinner(&format!("starting {unit}"));
        systemd.start(unit, planned.start_timeout + RELOAD_TIMEOUT).await?;
    }
    // Success is what is seen now, of all of them.
    for planned in &plan.services {
        let state = systemd.state(&planned.service.unit).await?;
        if !state.is_active() || !state.enabled {
            let what = format!("{} is {} ({})", state.unit, state.active, state.sub);
            return Err(Failure::new("start_failed", what).hint(systemd.log_hint(&state.unit)));
        }
        units.push(state);
    }
    ui.answer(&json!({ "changed": changed, "scope": plan.scope, "run_as": plan.owner.0, "units": units }), |ui| {
        for state in &units {
            let pid = state.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            ui.done(&format!("{} runs{pid} and starts by itself", state.unit));
        }
        if !changed {
            ui.note("all was as it should be: nothing has changed");
        }
        if plan.scope == ServiceScope::System && context.env.rbee_home.is_none() {
            let home = plan.context.dirs.config_dir().display();
            ui.hint(&format!("keeper finds it with RBEE_HOME={home}"));
        }
        String::new()
    });
    Ok(Exit::DONE)
}

/// Writes down what is installed, for who would start it otherwise.
fn note(plan: &Plan, made_to_linger: bool) -> Result<(), Failure> {
    let mut services = plan.installed.clone();
    services.scope = plan.scope;
    services.made_to_linger |= made_to_linger;
    for Planned { tier, service, .. } in &plan.services {
        match tier {
            Tier::Queen => services.queen = Some(service.unit.clone()),
            Tier::Hive => services.hive = Some(service.unit.clone()),
        }
    }
    save(plan, &services)
}

fn save(plan: &Plan, services: &Services) -> Result<(), Failure> {
    let file = plan.context.dirs.services_file();
    services
        .write(&file)
        .map_err(|error| Failure::new("services", format!("cannot write {}", file.display())).because(&error))
}

/// One that was started otherwise goes and leaves what is below it: the unit's adopts it.
async fn make_way(plan: &Plan, tier: Tier) -> Result<(), Failure> {
    let context = &plan.context;
    let (manager, url, timeout) = match tier {
        Tier::Queen => (
            context.queen(&plan.config),
            context.queen_url(&plan.config),
            queen_lifecycle::shutdown_timeout(&plan.config),
        ),
        Tier::Hive => {
            (context.hive(&plan.config), context.hive_url(&plan.config), hive_lifecycle::shutdown_timeout(&plan.config))
        }
    };
    let Some(pid) = manager.get_pid()? else { return Ok(()) };
    if is_a_units(plan, pid).await {
        return Ok(());
    }
    context.ui.note(&format!("the {} that runs (pid {pid}) makes way for its unit; its workers go on", tier.word()));
    let request = ShutdownRequest { keep_children: true, now: false };
    context.client(&url)?.shutdown(&request).await?;
    context.blocking(move || DaemonManager::wait_stopped(&manager, timeout.as_secs())).await
}

async fn is_a_units(plan: &Plan, pid: u32) -> bool {
    for planned in &plan.services {
        if Systemd::of(plan.scope).state(&planned.service.unit).await.is_ok_and(|state| state.pid == Some(pid)) {
            return true;
        }
    }
    false
}

async fn uninstall(context: &Context, which: &Which) -> Result<Exit, Failure> {
    let all = |_: &Config, services: &Services| match which.tier {
        Some(tier) => vec![tier.into()],
        None if services.is_empty() => vec![Tier::Queen, Tier::Hive],
        None => installed(services),
    };
    let plan = Plan::new(context, which, &How::default(), all).await?;
    let systemd = manager_here(&plan, which)?;
    let ui = &plan.context.ui;
    let (mut services, mut gone) = (plan.installed.clone(), Vec::new());
    // Queen first: what is in flight is answered while the workers still run.
    for planned in plan.services.iter().rev() {
        let unit = planned.service.unit.as_str();
        let is_known = systemd.state(unit).await?.installed;
        if is_known && planned.service.path.exists() {
            let _spinner = ui.spinner(&format!("stopping {unit}"));
            systemd.tell(&["disable", "--now", unit], planned.stop_timeout * 2 + RELOAD_TIMEOUT).await?;
        }
        if remove(&planned.service.path)? {
            gone.push(unit.to_owned());
        }
        match planned.tier {
            Tier::Queen => services.queen = None,
            Tier::Hive => services.hive = None,
        }
    }
    if !gone.is_empty() {
        systemd.tell(&["daemon-reload"], RELOAD_TIMEOUT).await?;
        for unit in &gone {
            // Of one that had not failed it knows nothing any more.
            let _ = systemd.tell(&["reset-failed", unit], RELOAD_TIMEOUT).await;
        }
    }
    if services.is_empty() && services.made_to_linger {
        linger_no_more(&plan.owner.0).await?;
    }
    save(&plan, &services)?;
    if plan.scope == ServiceScope::User {
        plan.services.iter().for_each(|planned| remove_empty_folders(&planned.service.path));
    }
    for unit in &gone {
        let state = systemd.state(unit).await?;
        if state.installed || state.is_active() {
            return Err(Failure::new(
                "not_removed",
                format!("systemd still knows {unit}: it is {} ({})", state.active, state.sub),
            ));
        }
    }
    let changed = !gone.is_empty();
    ui.answer(&json!({ "changed": changed, "removed": gone }), |ui| {
        gone.iter().for_each(|unit| ui.done(&format!("{unit} is stopped and removed")));
        if !changed {
            ui.note("no service of rbee is installed here");
        }
        if services.hive.is_none() && services.queen.is_some() && changed {
            ui.hint("`rbee-keeper service install queen` has queen start the hive herself from now on");
        }
        String::new()
    });
    Ok(Exit::DONE)
}

/// What systemd made for links, and we for units; what others have there stays.
fn remove_empty_folders(unit: &Path) {
    let Some(folder) = unit.parent() else { return };
    for folder in [&folder.join("default.target.wants"), folder, folder.parent().unwrap_or(folder)] {
        // One that is not empty stays.
        let _ = std::fs::remove_dir(folder);
    }
}

async fn status(context: &Context, which: &Which) -> Result<Exit, Failure> {
    let all = |_: &Config, services: &Services| match which.tier {
        Some(tier) => vec![tier.into()],
        None => installed(services),
    };
    let plan = Plan::new(context, which, &How::default(), all).await?;
    let systemd = Systemd::of(plan.scope);
    if !systemd.runs() {
        return Err(systemd.missing());
    }
    let mut units: Vec<UnitState> = Vec::new();
    for planned in plan.services.iter().rev() {
        units.push(systemd.state(&planned.service.unit).await?);
    }
    let is_well = !units.is_empty() && units.iter().all(|state| state.installed && state.is_active());
    context.ui.answer(&json!({ "scope": plan.scope, "units": units }), |ui| {
        if units.is_empty() {
            ui.note("no service of rbee is installed here");
            ui.hint("`rbee-keeper service install` installs what the role of this machine asks for");
            return String::new();
        }
        table(&units).render(ui.color())
    });
    Ok(if is_well { Exit::RUNNING } else { Exit::NOT_RUNNING })
}

fn table(units: &[UnitState]) -> Table {
    let left = ["UNIT", "STATE", "BOOT"].map(|name| (name, Align::Left));
    let right = ["PID", "RESTARTS"].map(|name| (name, Align::Right));
    let mut table = Table::new(&[left.as_slice(), &right, &[("RESULT", Align::Left)]].concat());
    for state in units {
        let tone = if state.is_active() { Tone::Good } else { Tone::Bad };
        let text =
            if state.installed { format!("{} ({})", state.active, state.sub) } else { "not installed".to_owned() };
        table.row(vec![
            Cell::new(&state.unit),
            Cell::toned(text, tone),
            Cell::new(if state.enabled { "enabled" } else { "disabled" }),
            Cell::new(state.pid.map(|pid| pid.to_string()).unwrap_or_default()),
            Cell::new(state.restarts.to_string()),
            Cell::new(&state.result),
        ]);
    }
    table
}
