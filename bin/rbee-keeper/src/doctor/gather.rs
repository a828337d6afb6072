//! Gathers the facts: reads files, the kernel's and the daemons' answers, and changes nothing. (For a moment it has a socket
//! on each port, and a cgroup: whether they can be had, nothing else shows.)

mod files;
mod kernel;
mod runs;
mod services;

use std::time::{Duration, SystemTime};

use daemon_lifecycle::inspect::Condition;
use rbee_runtime::config::{Config, ConfigError, Role};

use super::facts::{ConfigFacts, Facts, PortFact, PortState, RunFact, Tier, WorkerPorts};
use crate::context::Context;
use crate::failure::Failure;

/// How long a daemon may take for its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// All facts about this machine and this installation.
pub(crate) async fn gather(context: &Context) -> Result<Facts, Failure> {
    let config = config_facts(context);
    let (dirs, file, held) = (context.dirs.clone(), context.settings.config_file.clone(), config.config.clone());
    let of_files = context.blocking({
        let (dirs, config) = (dirs.clone(), held.clone());
        move || Ok::<_, Failure>((files::places(&dirs, &config), files::models(&dirs, &config), files::newest(&dirs)))
    });
    let of_runs = context.blocking({
        let dirs = dirs.clone();
        move || Ok::<_, Failure>((runs::runs(&dirs), runs::orphans(&dirs), runs::locks(&dirs), kernel::limits()))
    });
    let (places, of_runs, programs) = tokio::join!(of_files, of_runs, runs::programs(&held));
    let (places, models, newest_file) = places?;
    let (runs, orphans, locks, limits) = of_runs?;
    let ports = ports(&held, &runs);
    let worker_ports = worker_ports(&held, &runs);
    let fleet = fleet(context, &held, &runs).await;
    let token_problem = context.token().err().map(|failure| failure.message.clone());
    Ok(Facts {
        uid: nix::unistd::geteuid().as_raw(),
        now: SystemTime::now(),
        ports,
        worker_ports,
        config_file: files::standing(&file),
        token: files::standing(&dirs.token_file()),
        token_problem,
        dirs: places,
        limits,
        cgroup: daemon_lifecycle::inspect::cgroup_reach(),
        clock: super::facts::ClockFacts { is_synchronised: daemon_lifecycle::clock_is_synchronised(), newest_file },
        programs,
        models,
        runs,
        orphans,
        locks,
        fleet,
        monitoring: files::monitoring(&dirs),
        services: services::differing(context).await,
        config,
    })
}

fn config_facts(context: &Context) -> ConfigFacts {
    let settings = &context.settings;
    let there = settings.config_file.exists().then(|| settings.config_file.clone());
    let mut facts = ConfigFacts {
        file: there,
        // Of a file that cannot be used nothing is to be concluded: as if nothing started here.
        config: Config { role: Role::Leecher, ..Config::default() },
        problems: Vec::new(),
        unreadable: None,
        missing: Vec::new(),
    };
    match settings.load() {
        Ok(loaded) => facts.config = loaded.config,
        Err(ConfigError::Invalid { problems, .. }) => facts.problems = problems,
        Err(error) => facts.unreadable = Some(rbee_runtime::error_chain(&error)),
    }
    facts.missing = files::missing(&facts.config);
    facts
}

/// Whether a tier of ours runs, by what is recorded.
fn runs_now(runs: &[RunFact], tier: Tier) -> bool {
    runs.iter().any(|run| run.tier == tier && run.condition == Condition::Alive)
}

fn ports(config: &Config, runs: &[RunFact]) -> Vec<PortFact> {
    let wanted = [
        (config.starts_queen(), Tier::Queen, "queen.listen", config.queen.listen),
        (config.starts_hive(), Tier::Hive, "hive.listen", config.hive.listen),
    ];
    let wanted = wanted.into_iter().filter(|(starts, _, _, address)| *starts && address.port() != 0);
    wanted
        .map(|(_, tier, key, address)| {
            let is_ours = runs_now(runs, tier);
            let state = if is_ours { PortState::Ours } else { kernel::port(address) };
            PortFact { key, address, state }
        })
        .collect()
}

/// Names taken ports at most so many.
const TAKEN_TOLD_MAX: usize = 3;

fn worker_ports(config: &Config, runs: &[RunFact]) -> Option<WorkerPorts> {
    let ports = config.hive.ports;
    // While they run, they have them.
    if ports.is_any() || !config.starts_hive() || config.queen_is_elsewhere() || runs_now(runs, Tier::Worker) {
        return None;
    }
    let wants = |name: &&str| {
        config.worker.get(*name).filter(|worker| wants_port(worker)).map(|worker| u64::from(worker.replicas))
    };
    let needed = config.wanted_workers(None).iter().filter_map(wants).sum();
    let mut facts = WorkerPorts { range: ports.to_string(), needed, ..WorkerPorts::default() };
    let ip = config.hive.listen.ip();
    for port in ports.iter() {
        match kernel::port((ip, port).into()) {
            PortState::Taken(by) if facts.taken_by.len() < TAKEN_TOLD_MAX => {
                facts.taken_by.push(format!("{by} ({port})"))
            }
            PortState::Taken(_) | PortState::Refused(_) => {}
            PortState::Free | PortState::Ours => facts.usable += 1,
        }
        if facts.usable >= needed {
            break;
        }
    }
    Some(facts)
}

/// As a hive sees it, for most of what there is.
fn wants_port(worker: &rbee_runtime::config::WorkerConfig) -> bool {
    let words = worker.command.iter().flatten().chain(worker.env.values()).chain(&worker.listen);
    let words: Vec<&String> = words.collect();
    worker.model.is_some() || words.iter().any(|word| word.contains("{port}"))
}

/// What the daemons answer, where one that answers should be there.
async fn fleet(context: &Context, config: &Config, runs: &[RunFact]) -> Option<Result<rbee_api::FleetStatus, String>> {
    let (url, who) = if runs_now(runs, Tier::Queen) {
        (context.queen_url(config), "queen")
    } else if runs_now(runs, Tier::Hive) {
        (context.hive_url(config), "the hive")
    } else {
        return None;
    };
    // Without a usable token there is nobody to ask as; that is told by itself.
    let client = context.client(&url).ok()?;
    Some(match tokio::time::timeout(ANSWER_TIMEOUT, client.status()).await {
        Ok(Ok(fleet)) => Ok(fleet),
        Ok(Err(error)) => Err(format!("{who} runs, but does not answer: {}", Failure::from(error).message)),
        Err(_) => Err(format!("{who} runs, but did not answer within {} s", ANSWER_TIMEOUT.as_secs())),
    })
}
