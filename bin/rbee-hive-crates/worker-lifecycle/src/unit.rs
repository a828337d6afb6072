//! The daemon that a worker is: command line, socket, proof of readiness, health, policy.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use container_order::{Contained, ContainerEngine, EngineElsewhere};
use daemon_lifecycle::{
    HealthProbe, IoClass, Launch, Limits, LogPolicy, Policy, Probe, Readiness, Restart, Spec, StopSignal, UnitSpec,
};
use rbee_api::assignment::{Engine, LimitsSpec, RestartSpec};
use rbee_api::container::ContainerSpec;
use rbee_api::{WorkerAssignment, WorkerSpec};
use rbee_runtime::config;
use serde::{Deserialize, Serialize};

use crate::engine::{EngineMissing, Programs, default_threads};
use crate::template::{self, Unfillable, Values};

/// What a slow disk reads of a model in a millisecond (64 MiB/s): a start may take so much longer.
const LOAD_BYTES_PER_MS: u64 = 64 * 1024;

/// Of the stop time-out, what our engine gets at most to save and end after its drain.
const KEPT_FOR_SAVING_MS_MAX: u64 = 2_000;

/// Facts of the machine that all its workers share.
#[derive(Debug, Clone)]
pub struct Machine {
    /// Where our engine listens.
    pub bind_ip: IpAddr,
    /// Folder for sockets and the like.
    pub run_dir: PathBuf,
    /// Folder in which each replica has one for what it keeps over restarts.
    pub state_dir: PathBuf,
    /// Where our engine's program is looked for.
    pub programs: Programs,
    /// What our engine asks of its clients; never shown to other commands.
    pub token: Option<String>,
    /// Processor cores.
    pub cores: u32,
    /// What `~/` stands for.
    pub home: Option<PathBuf>,
    /// Who runs containers here.
    pub containers: ContainerEngine,
}

/// What was chosen for one replica. Kept with it, so that the same command line comes out after a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// Its port, if it needs one.
    pub port: Option<u16>,
    /// The model's file, if it has one.
    pub model_path: Option<PathBuf>,
    /// The model's size, for the number of threads.
    pub model_bytes: u64,
}

/// Why a worker cannot be run as it is described.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnitError {
    /// Our engine is not installed.
    #[error(transparent)]
    EngineMissing(#[from] EngineMissing),
    /// A placeholder has no value.
    #[error(transparent)]
    Unfillable(#[from] Unfillable),
    /// Our engine has no model.
    #[error("it has neither `command` nor `model`")]
    NoModel,
    /// The command has no program.
    #[error("`command` is empty")]
    NoProgram,
    /// No container engine can be where it is said to be.
    #[error(transparent)]
    NoContainerEngine(#[from] EngineElsewhere),
    /// A word that means nothing.
    #[error("`{field}` cannot be `{text}`")]
    Malformed {
        /// Its key in the config.
        field: &'static str,
        /// What stands there.
        text: String,
    },
}

impl UnitError {
    /// Whether something is missing that may come, rather than wrong.
    #[must_use]
    pub const fn is_unavailable(&self) -> bool {
        matches!(self, Self::EngineMissing(_) | Self::NoContainerEngine(_))
    }
}

/// Whether the worker needs a port: our engine, whoever takes part in routing, and whatever is given or asked on one.
#[must_use]
pub fn wants_port(worker: &WorkerAssignment) -> bool {
    let (command, by_container): (&[String], bool) = match &worker.spec.engine {
        Engine::Llm { .. } => return true,
        Engine::Command { command } => (command, false),
        Engine::Container(container) => {
            (&[], container.ports.own().is_some() || container.texts().any(|text| template::wants_port(text)))
        }
    };
    let probe = worker.spec.health.as_ref().map(|health| &health.probe);
    // A socket that the hive opens is what is probed, then.
    let own_socket = worker.spec.listen.is_some();
    let by_port = |probe: &str| probe == "tcp" || (probe.starts_with("http:") && !probe.starts_with("http://unix:"));
    let asks_port = |probe: &String| (!own_socket && by_port(probe)) || template::wants_port(probe);
    let mut texts = command.iter().chain(worker.spec.env.values()).chain(&worker.spec.listen);
    worker.model.is_some()
        || by_container
        || texts.any(|text| template::wants_port(text))
        || probe.into_iter().chain([&worker.spec.ready]).any(asks_port)
}

/// The worker as a daemon. What it depends on is for the caller to say: it depends on which replicas there are.
///
/// # Errors
/// [`UnitError`] says what is missing or wrong.
pub fn unit_spec(worker: &WorkerAssignment, placement: &Placement, machine: &Machine) -> Result<UnitSpec, UnitError> {
    let spec = &worker.spec;
    let kept = state_dir(worker, machine);
    let values = Values {
        id: &worker.id,
        port: placement.port,
        model_path: placement.model_path.as_deref(),
        run_dir: &machine.run_dir,
        state_dir: &kept,
    };
    let is_engine = matches!(spec.engine, Engine::Llm { .. });
    let mut launch = match &spec.engine {
        Engine::Llm { .. } => engine_launch(worker, placement, machine)?,
        Engine::Command { command } => command_launch(command, &values)?,
        Engine::Container(container) => contained(worker, container, placement, machine)
            .launch(|text, model_path| Values { model_path, ..values }.fill(text).map_err(UnitError::from))?,
    };
    if !matches!(spec.engine, Engine::Container(_)) {
        // A container's are inside of it.
        for (key, value) in &spec.env {
            launch.env.insert(key.clone(), values.fill(value)?);
        }
        launch.working_dir = spec.working_dir.as_deref().map(|dir| path(dir, &values, machine)).transpose()?;
    }
    let mut unit = UnitSpec::new(worker.id.unit_name(), launch);
    unit.listen = match &spec.listen {
        Some(listen) => Some(parse("listen", &values.fill(listen)?)?),
        None => placement.port.filter(|_| is_engine).map(|port| SocketAddr::new(machine.bind_ip, port)),
    };
    // None: the unit's own socket. Any other command binds its port itself, and by itself on loopback.
    let binds_itself = unit.listen.is_none();
    let address = placement.port.filter(|_| binds_itself).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    unit.readiness = match parse::<config::Ready>("ready", &spec.ready)? {
        config::Ready::Notify => Readiness::Notify,
        config::Ready::Started => Readiness::Started,
        config::Ready::Probe(question) => Readiness::Probe(probe(question, address, &values, machine)?),
    };
    if let Some(health) = &spec.health {
        let probe = probe(parse("health.probe", &health.probe)?, address, &values, machine)?;
        let [interval, timeout] = [health.interval_ms, health.timeout_ms].map(Duration::from_millis);
        unit.health = Some(HealthProbe { probe, interval, timeout });
    }
    unit.watchdog = spec.watchdog_ms.map(Duration::from_millis);
    unit.pid_file = spec.pid_file.as_deref().map(|file| path(file, &values, machine)).transpose()?;
    unit.forking = spec.forking;
    unit.limits = limits(&spec.limits)?;
    unit.stale_locks = spec.stale_locks.iter().map(|file| path(file, &values, machine)).collect::<Result<_, _>>()?;
    let (log, millis) = (&spec.log, Duration::from_millis);
    unit.log =
        LogPolicy { file_bytes_max: log.file_bytes_max, files_kept: log.files_kept, age_max: millis(log.age_max_ms) };
    unit.stop_signal = parse::<StopSignal>("stop_signal", &spec.stop_signal)?;
    unit.policy = policy(spec)?;
    if spec.start_timeout_grows {
        unit.policy.start_timeout_ms += placement.model_bytes / LOAD_BYTES_PER_MS;
    }
    if let Engine::Container(container) = &spec.engine {
        contained(worker, container, placement, machine).adapt(&mut unit)?;
    }
    Ok(unit)
}

/// Where a replica keeps what survives its restarts. A clean restart gives it a new, empty one: so what it
/// had is not used again, however often it is restarted afterwards.
#[must_use]
pub fn state_dir(worker: &WorkerAssignment, machine: &Machine) -> PathBuf {
    let name = worker.id.unit_name();
    machine.state_dir.join(match worker.clean_generation {
        0 => name,
        generation => format!("{name}.{generation}"),
    })
}

fn engine_launch(worker: &WorkerAssignment, placement: &Placement, machine: &Machine) -> Result<Launch, UnitError> {
    let Engine::Llm { slots, context, threads, deterministic, cache_bytes_max, mlock, no_mmap } = &worker.spec.engine
    else {
        return Err(UnitError::NoModel);
    };
    let (Some(model), Some(path), Some(port)) = (&worker.model, &placement.model_path, placement.port) else {
        return Err(UnitError::NoModel);
    };
    let threads = threads.unwrap_or_else(|| default_threads(placement.model_bytes, machine.cores));
    let mut args = vec![
        "--model-path".to_owned(),
        path.to_string_lossy().into_owned(),
        "--model-name".to_owned(),
        model.name.clone(),
        "--listen".to_owned(),
        SocketAddr::new(machine.bind_ip, port).to_string(),
    ];
    for (flag, number) in [("--slots", slots), ("--context", context), ("--threads", &threads)] {
        args.extend([flag.to_owned(), number.to_string()]);
    }
    args.extend(["--state-dir".to_owned(), state_dir(worker, machine).to_string_lossy().into_owned()]);
    args.extend(["--state-mib".to_owned(), (cache_bytes_max >> 20).to_string()]);
    // It hands over what is still in flight, and saves what it keeps, before it is killed.
    let stop_timeout_ms = worker.spec.stop_timeout_ms;
    let drain_timeout_ms = stop_timeout_ms - (stop_timeout_ms / 4).min(KEPT_FOR_SAVING_MS_MAX);
    args.extend(["--drain-timeout".to_owned(), format!("{drain_timeout_ms}ms")]);
    let flags = [("--deterministic", deterministic), ("--mlock", mlock), ("--no-mmap", no_mmap)];
    args.extend(flags.into_iter().filter(|(_, is_set)| **is_set).map(|(flag, _)| flag.to_owned()));
    let mut launch = Launch::new(machine.programs.engine()?, args);
    launch.env.insert("RBEE_TOKEN".to_owned(), machine.token.clone().unwrap_or_default());
    Ok(launch)
}

fn contained<'a>(
    worker: &'a WorkerAssignment,
    container: &'a ContainerSpec,
    placement: &'a Placement,
    machine: &'a Machine,
) -> Contained<'a> {
    Contained {
        id: &worker.id,
        worker: &worker.spec,
        container,
        port: placement.port,
        model_path: placement.model_path.as_deref(),
        home: machine.home.as_deref(),
        engine: &machine.containers,
    }
}

fn command_launch(command: &[String], values: &Values<'_>) -> Result<Launch, UnitError> {
    let words = command.iter().map(|word| values.fill(word)).collect::<Result<Vec<_>, _>>()?;
    let (program, args) = words.split_first().ok_or(UnitError::NoProgram)?;
    let mut launch = Launch::new(program, args);
    // The token is not for others.
    launch.not_inherited = &["RBEE_TOKEN"];
    Ok(launch)
}

fn probe(
    question: config::Probe,
    address: Option<SocketAddr>,
    values: &Values<'_>,
    machine: &Machine,
) -> Result<Probe, UnitError> {
    Ok(match question {
        config::Probe::Tcp => Probe::Tcp { address },
        config::Probe::Http { path } => Probe::Http { address, path: values.fill(&path)? },
        config::Probe::HttpUnix { socket, path: asked } => {
            Probe::HttpUnix { socket: path(&socket, values, machine)?, path: values.fill(&asked)? }
        }
        config::Probe::Unix { path: socket } => Probe::Unix { path: path(&socket, values, machine)? },
        config::Probe::Exec { command } => {
            Probe::Exec { command: command.split_whitespace().map(|word| values.fill(word)).collect::<Result<_, _>>()? }
        }
    })
}

fn policy(spec: &WorkerSpec) -> Result<Spec, UnitError> {
    let RestartSpec { policy, backoff_min_ms, backoff_max_ms, max_restarts, within_ms, reset_after_ms } = &spec.restart;
    let policy = match policy.as_str() {
        "always" => Policy::Always,
        "on-failure" => Policy::OnFailure,
        "never" => Policy::Never,
        other => return Err(malformed("restart.policy", other)),
    };
    Ok(Spec {
        restart: Restart {
            policy,
            backoff_min_ms: *backoff_min_ms,
            backoff_max_ms: *backoff_max_ms,
            restarts_max: *max_restarts,
            within_ms: *within_ms,
            reset_after_ms: *reset_after_ms,
        },
        start_timeout_ms: spec.start_timeout_ms,
        stop_timeout_ms: spec.stop_timeout_ms,
        health_failures_max: spec.health.as_ref().map_or(0, |health| health.failures),
        ..Spec::default()
    })
}

fn limits(spec: &LimitsSpec) -> Result<Limits, UnitError> {
    let class = |word: &str| match word {
        "low" => Ok(IoClass::Low),
        "normal" => Ok(IoClass::Normal),
        "high" => Ok(IoClass::High),
        other => Err(malformed("limits.io", other)),
    };
    let io = spec.io.as_deref().map(class).transpose()?;
    let LimitsSpec { memory_max_bytes, memory_restart_bytes, cpus, nofile, nproc, nice, .. } = *spec;
    Ok(Limits { memory_max_bytes, memory_restart_bytes, cpus, nofile, nproc, nice, io })
}

/// A path as the config says it, `~/` and the known words filled in.
fn path(text: &str, values: &Values<'_>, machine: &Machine) -> Result<PathBuf, UnitError> {
    let filled = values.fill(text)?;
    let in_home = filled.strip_prefix("~/").zip(machine.home.as_ref());
    Ok(in_home.map_or_else(|| PathBuf::from(&filled), |(rest, home)| home.join(rest)))
}

fn parse<T: std::str::FromStr>(field: &'static str, text: &str) -> Result<T, UnitError> {
    text.parse().map_err(|_| malformed(field, text))
}

fn malformed(field: &'static str, text: &str) -> UnitError {
    UnitError::Malformed { field, text: text.to_owned() }
}

#[cfg(test)]
mod tests;
