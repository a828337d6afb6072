//! A worker in a container: the order its shim gets, and how the unit around the shim differs from that of a command.
//!
//! The shim (`rbee-hive container run`) is the unit's process. It makes the container, copies its output, passes on signals
//! and ends with its exit code, so that phases, logs and adoption are those of any other unit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use daemon_lifecycle::{AfterExit, Launch, Limits, Probe, Readiness, UnitSpec};
use rbee_api::container::{ContainerSpec, FixedPort, Gpus, Port, Ports, Pull};
use rbee_api::{ReplicaId, WorkerSpec};
use serde::{Deserialize, Serialize};

/// The variable in which a shim finds its order. Not an argument: those are for everybody to read.
pub const ORDER_VARIABLE: &str = "RBEE_CONTAINER";
/// Where a container finds its model.
const MODELS_DIR: &str = "/models";
/// What the removal of a container may take: the engine kills, unmounts and deletes.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(20);
/// An exec probe for readiness that takes longer is put again by the supervisor.
const READY_PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// So much earlier than its asker a probe inside gives up, to end what it began.
const HEAD_START: Duration = Duration::from_millis(300);

/// The container engine of this machine, and who talks to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerEngine {
    /// Where it listens, as `DOCKER_HOST` has it.
    pub host: String,
    /// How long one that does not answer is waited for.
    pub timeout: Duration,
    /// Our own program: with `container …` it is a shim.
    pub shim: PathBuf,
    /// The name of everything that this hive runs, among others of this engine: its run directory.
    pub owner: PathBuf,
}

/// Everything a shim needs to know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerOrder {
    /// The engine's socket.
    pub socket: PathBuf,
    /// How long it is waited for, in milliseconds.
    pub engine_timeout_ms: u64,
    /// The container's name: one for each unit, so that the engine itself refuses a second.
    pub name: String,
    /// Which unit.
    pub unit: String,
    /// Whose unit.
    pub owner: String,
    /// The image.
    pub image: String,
    /// When it is fetched.
    pub pull: Pull,
    /// Instead of the image's own.
    pub entrypoint: Option<Vec<String>>,
    /// Instead of the image's own.
    pub args: Option<Vec<String>>,
    /// Variables.
    pub env: BTreeMap<String, String>,
    /// A folder of the container.
    pub working_dir: Option<String>,
    /// User and group.
    pub user: Option<String>,
    /// The network.
    pub network: Option<String>,
    /// As the engine has them: `SOURCE:TARGET:MODE`.
    pub volumes: Vec<String>,
    /// Each leads from the machine to the container.
    pub ports: Ports,
    /// Graphics processors.
    pub gpus: Option<Gpus>,
    /// Size of `/dev/shm`.
    pub shm_bytes: Option<u64>,
    /// Devices.
    pub devices: Vec<String>,
    /// Its own files cannot be written.
    pub read_only: bool,
    /// With a first process of the engine's.
    pub init: bool,
    /// Memory it never gets more than.
    pub memory_bytes: Option<u64>,
    /// Processors, in billionths of one.
    pub nano_cpus: Option<u64>,
    /// Open files of each process.
    pub nofile: Option<u64>,
    /// Processes and threads.
    pub nproc: Option<u64>,
    /// The signal that asks it to end, such as `TERM`.
    pub stop_signal: String,
    /// What its start may take once its image is there.
    pub start_timeout_ms: u64,
    /// The shim says that it is ready once the container runs.
    pub is_ready_when_started: bool,
}

/// One worker that shall run in a container.
#[derive(Debug, Clone, Copy)]
pub struct Contained<'a> {
    /// Which replica.
    pub id: &'a ReplicaId,
    /// Everything that is said of it.
    pub worker: &'a WorkerSpec,
    /// What of that is the container's.
    pub container: &'a ContainerSpec,
    /// Its port, where it has one.
    pub port: Option<u16>,
    /// Its model's file, where it has one.
    pub model_path: Option<&'a Path>,
    /// What `~/` stands for.
    pub home: Option<&'a Path>,
    /// Who runs it.
    pub engine: &'a ContainerEngine,
}

/// No container engine can be where it is said to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{host}` is no unix socket of a container engine: set `[hive] docker` (or DOCKER_HOST) to one such as unix:///var/run/docker.sock"
)]
pub struct EngineElsewhere {
    /// Where it is said to be.
    pub host: String,
}

impl Contained<'_> {
    /// The launch of its shim. `fill` fills in placeholders, `{model_path}` with the path it is given.
    ///
    /// # Errors
    /// Those of `fill`, and an engine that is no unix socket.
    pub fn launch<E: From<EngineElsewhere>>(
        &self,
        fill: impl Fn(&str, Option<&Path>) -> Result<String, E>,
    ) -> Result<Launch, E> {
        let order = self.order(fill)?;
        let mut launch = Launch::new(&self.engine.shim, ["container", "run"]);
        launch.not_inherited = &["RBEE_TOKEN"];
        // Texts, numbers and lists of them: that can always be put into words.
        launch.env.insert(ORDER_VARIABLE.to_owned(), serde_json::json!(order).to_string());
        Ok(launch)
    }

    /// What differs once the unit of a command would be complete: who enforces its limits, what ends it, how it is asked.
    ///
    /// # Errors
    /// When the engine is no unix socket.
    pub fn adapt(&self, unit: &mut UnitSpec) -> Result<(), EngineElsewhere> {
        if let Readiness::Probe(probe) = &mut unit.readiness {
            self.ask_inside(probe, READY_PROBE_TIMEOUT)?;
        }
        if let Some(health) = &mut unit.health {
            self.ask_inside(&mut health.probe, health.timeout)?;
        }
        if unit.readiness == Readiness::Started {
            // Spawned is the shim; it says when the container is.
            unit.readiness = Readiness::Notify;
        }
        unit.notifies = true;
        unit.limits = Limits { memory_restart_bytes: unit.limits.memory_restart_bytes, ..Limits::default() };
        let owner = self.engine.owner.to_string_lossy();
        let timeout_ms = u64::try_from(REMOVAL_TIMEOUT.as_millis()).unwrap_or(u64::MAX);
        unit.after_exit = Some(AfterExit { command: self.helper("remove", &["--owner", &owner])?, timeout_ms });
        Ok(())
    }

    /// The command of a shim's helper.
    fn helper(&self, verb: &str, more: &[&str]) -> Result<Vec<String>, EngineElsewhere> {
        let (shim, socket) = (self.engine.shim.to_string_lossy(), socket_of(&self.engine.host)?);
        let name = container_name(self.id, &self.engine.owner);
        let head = [shim.as_ref(), "container", verb, "--socket", &socket.to_string_lossy(), "--name", &name]
            .map(str::to_owned);
        Ok(head.into_iter().chain(more.iter().map(|word| (*word).to_owned())).collect())
    }

    fn ask_inside(&self, probe: &mut Probe, timeout: Duration) -> Result<(), EngineElsewhere> {
        match probe {
            Probe::Exec { command } => {
                let timeout_ms = timeout.saturating_sub(HEAD_START).max(timeout / 2).as_millis().to_string();
                let mut whole = self.helper("exec", &["--timeout-ms", &timeout_ms, "--"])?;
                whole.append(command);
                *command = whole;
            }
            // The engine's own forwarder accepts before anybody listens behind it: only the container itself tells.
            Probe::Tcp { .. } if !self.container.is_in_host_network() => {
                if let Some(port) = container_port(self.container, self.port) {
                    *probe = Probe::Exec { command: self.helper("listens", &["--port", &port.to_string()])? };
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn order<E: From<EngineElsewhere>>(
        &self,
        fill: impl Fn(&str, Option<&Path>) -> Result<String, E>,
    ) -> Result<ContainerOrder, E> {
        let Self { id, worker, container, engine, .. } = *self;
        let model = self.model_path.and_then(|path| Some((path, Path::new(MODELS_DIR).join(path.file_name()?))));
        let inside = |text: &String| fill(text, model.as_ref().map(|(_, inside)| inside.as_path()));
        let fill_all = |texts: &Vec<String>| texts.iter().map(&inside).collect::<Result<Vec<_>, E>>();
        let mut volumes = Vec::new();
        for volume in &container.volumes {
            let filled = fill(volume, self.model_path)?;
            let in_home = filled.strip_prefix("~/").zip(self.home);
            volumes.push(in_home.map_or(filled.clone(), |(rest, home)| home.join(rest).to_string_lossy().into_owned()));
        }
        if let Some((outside, inside)) = &model {
            volumes.push(format!("{}:{}:ro", outside.display(), inside.display()));
        }
        let limits = &worker.limits;
        Ok(ContainerOrder {
            socket: socket_of(&engine.host)?,
            engine_timeout_ms: u64::try_from(engine.timeout.as_millis()).unwrap_or(u64::MAX),
            name: container_name(id, &engine.owner),
            unit: id.unit_name(),
            owner: engine.owner.to_string_lossy().into_owned(),
            image: container.image.clone(),
            pull: container.pull,
            entrypoint: container.entrypoint.as_ref().map(fill_all).transpose()?,
            args: container.args.as_ref().map(fill_all).transpose()?,
            env: worker.env.iter().map(|(key, value)| Ok((key.clone(), inside(value)?))).collect::<Result<_, E>>()?,
            working_dir: worker.working_dir.as_ref().map(&inside).transpose()?,
            user: container.user.clone(),
            network: container.network.clone(),
            volumes,
            ports: ports(container, self.port),
            gpus: container.gpus.clone(),
            shm_bytes: container.shm_bytes,
            devices: container.devices.clone(),
            read_only: container.read_only,
            init: container.init,
            memory_bytes: limits.memory_max_bytes,
            nano_cpus: limits.cpus.map(|cpus| (cpus * 1e9) as u64),
            nofile: limits.nofile,
            nproc: limits.nproc,
            stop_signal: worker.stop_signal.clone(),
            start_timeout_ms: worker.start_timeout_ms,
            is_ready_when_started: worker.ready == "started",
        })
    }
}

/// The port of the container that the worker's own leads to: the one that is named, else the same number.
fn container_port(container: &ContainerSpec, own: Option<u16>) -> Option<u16> {
    container.ports.own().or(own)
}

/// Each as the engine shall lead it; none where the container shares a network.
fn ports(container: &ContainerSpec, own: Option<u16>) -> Ports {
    let has_none = |network: &str| network == "host" || network == "none" || network.starts_with("container:");
    if container.network.as_deref().is_some_and(has_none) {
        return Ports::default();
    }
    let own = own.zip(container_port(container, own)).map(|(host, container)| {
        Port::Fixed(FixedPort { address: std::net::Ipv4Addr::LOCALHOST.into(), host, container, is_udp: false })
    });
    Ports(own.into_iter().chain(container.ports.fixed().cloned().map(Port::Fixed)).collect())
}

/// The socket behind `unix:///PATH`.
fn socket_of(host: &str) -> Result<PathBuf, EngineElsewhere> {
    let path = host.strip_prefix("unix://").filter(|path| path.starts_with('/'));
    path.map(PathBuf::from).ok_or_else(|| EngineElsewhere { host: host.to_owned() })
}

/// One name for each unit of each hive on a machine.
#[must_use]
pub fn container_name(id: &ReplicaId, owner: &Path) -> String {
    // FNV-1a: the same in every build, because the next one looks for what this one left.
    let hash = owner
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    format!("rbee-{}-{hash:08x}", id.unit_name())
}
