//! What a worker in a container becomes.

use std::collections::BTreeMap;
use std::path::Path;

use container_order::{ContainerOrder, ORDER_VARIABLE, container_name};
use daemon_lifecycle::{Limits, Probe, Readiness, UnitSpec};
use rbee_api::assignment::{Engine, HealthSpec, LimitsSpec};
use rbee_api::container::{ContainerSpec, Ports};
use rbee_api::{ReplicaId, WorkerAssignment};

use super::placement;
use crate::{Machine, Programs, unit_spec, wants_port};

fn worker(container: ContainerSpec) -> WorkerAssignment {
    let mut worker = super::worker(Engine::Container(Box::new(container)), false);
    let spec = worker.spec_mut();
    spec.env = BTreeMap::from([("AT".to_owned(), "{model_path} {port}".to_owned())]);
    spec.working_dir = Some("/{name}".into());
    spec.pid_file = None;
    spec.ready = "tcp".into();
    spec.health =
        Some(HealthSpec { probe: "exec:check {port}".into(), interval_ms: 3, timeout_ms: 4_000, failures: 5 });
    spec.limits = LimitsSpec {
        memory_max_bytes: Some(1 << 30),
        memory_restart_bytes: Some(1 << 29),
        cpus: Some(1.5),
        nofile: Some(64),
        nproc: Some(9),
        ..LimitsSpec::default()
    };
    worker
}

fn image(ports: &[&str]) -> ContainerSpec {
    let ports = Ports(ports.iter().map(|port| port.parse().unwrap()).collect());
    ContainerSpec { image: "a:1".into(), ports, ..ContainerSpec::default() }
}

fn machine() -> Machine {
    Machine { programs: Programs::new(None, None), ..super::machine(Path::new("/nowhere")) }
}

fn unit(worker: &WorkerAssignment) -> UnitSpec {
    unit_spec(worker, &placement(), &machine()).unwrap()
}

fn ordered(unit: &UnitSpec) -> ContainerOrder {
    serde_json::from_str(&unit.launch.env[ORDER_VARIABLE]).unwrap()
}

/// CONT-04, CONT-08, CONT-12
#[test]
fn the_unit_is_the_shims_and_the_order_the_containers() {
    let mut container = image(&["80", "9000:90"]);
    container.args = Some(vec!["-m".into(), "{model_path}".into(), "{\"a\": {port}}".into()]);
    container.volumes = vec!["~/c:/c".into(), "{state_dir}:/s".into()];
    let unit = unit(&worker(container));
    assert_eq!(
        (unit.launch.program.to_str(), unit.launch.args.join(" ")),
        (Some("/bin/rbee-hive"), "container run".into())
    );
    assert_eq!(unit.launch.not_inherited, ["RBEE_TOKEN"]);
    assert!(unit.launch.working_dir.is_none() && !unit.launch.env.contains_key("AT") && unit.notifies);
    let limits = Limits { memory_restart_bytes: Some(1 << 29), ..Limits::default() };
    assert_eq!(unit.limits, limits, "the rest is the engine's to keep");
    let order = ordered(&unit);
    assert_eq!(order.args.unwrap(), ["-m", "/models/m.gguf", "{\"a\": 7855}"], "where it is inside");
    assert_eq!((order.env["AT"].as_str(), order.working_dir.as_deref()), ("/models/m.gguf 7855", Some("/w")));
    assert_eq!(order.volumes, ["/home/u/c:/c", "/state/w/w.1:/s", "/models/m.gguf:/models/m.gguf:ro"]);
    let ports: Vec<String> = order.ports.0.iter().map(ToString::to_string).collect();
    assert_eq!(ports, ["127.0.0.1:7855:80", "127.0.0.1:9000:90"]);
    assert_eq!((order.memory_bytes, order.nano_cpus), (Some(1 << 30), Some(1_500_000_000)));
    assert_eq!((order.nofile, order.nproc, order.stop_signal.as_str()), (Some(64), Some(9), "INT"));
    let after = unit.after_exit.unwrap().command.join(" ");
    let expected =
        format!("/bin/rbee-hive container remove --socket /d.sock --name {} --owner /run/workers", order.name);
    assert_eq!(after, expected);
}

/// CONT-04
#[test]
fn each_unit_of_each_hive_has_a_name_of_its_own() {
    let name = |replica, owner: &str| container_name(&ReplicaId { name: "w".into(), replica }, Path::new(owner));
    assert_eq!(name(1, "/run/workers"), "rbee-w.1-1153334f", "the same in every build");
    assert_ne!(name(1, "/run/workers"), name(2, "/run/workers"));
    assert_ne!(name(1, "/run/workers"), name(1, "/run/others"));
}

/// CONT-07
#[test]
fn probes_speak_of_the_container() {
    let probes = |container: ContainerSpec| {
        let unit = unit(&worker(container));
        (unit.readiness, unit.health.unwrap().probe)
    };
    let (ready, health) = probes(image(&["80"]));
    let Readiness::Probe(Probe::Exec { command }) = ready else { panic!("{ready:?}") };
    assert!(command.join(" ").starts_with("/bin/rbee-hive container listens --socket /d.sock --name rbee-w.1-"));
    assert!(command.ends_with(&["--port".to_owned(), "80".to_owned()]), "{command:?}");
    let Probe::Exec { command } = health else { panic!("{health:?}") };
    assert!(command.join(" ").ends_with(" --timeout-ms 3700 -- check 7855"), "{command:?}");

    // Who has the machine's network is asked as any process.
    let in_host = ContainerSpec { network: Some("host".into()), ..image(&[]) };
    assert_eq!(ordered(&unit(&worker(in_host.clone()))).ports, Ports::default());
    let address = Some("127.0.0.1:7855".parse().unwrap());
    assert_eq!(probes(in_host).0, Readiness::Probe(Probe::Tcp { address }));

    let mut at_once = worker(image(&[]));
    at_once.spec_mut().ready = "started".into();
    assert_eq!(unit(&at_once).readiness, Readiness::Notify, "started is the container, not its shim");
    assert!(ordered(&unit(&at_once)).is_ready_when_started);
}

/// CONT-02
#[test]
fn a_port_is_wanted_by_who_has_one_to_lead_to() {
    let wants = |container: ContainerSpec, env: &str| {
        let mut worker = worker(container);
        let spec = worker.spec_mut();
        (spec.ready, spec.health) = ("started".into(), None);
        spec.env = BTreeMap::from([("A".to_owned(), env.to_owned())]);
        wants_port(&worker)
    };
    assert!(!wants(image(&["9000:90"]), "") && !wants(image(&[]), "x"));
    assert!(wants(image(&["80"]), "") && wants(image(&[]), "{port}"));
    assert!(wants(ContainerSpec { args: Some(vec!["{port}".into()]), ..image(&[]) }, ""));
}

/// CONT-03
#[test]
fn an_engine_elsewhere_is_unavailable_in_words() {
    let mut machine = machine();
    machine.containers.host = "tcp://10.0.0.1:2375".into();
    let error = unit_spec(&worker(image(&[])), &placement(), &machine).unwrap_err();
    assert!(error.is_unavailable());
    assert!(error.to_string().contains("`tcp://10.0.0.1:2375` is no unix socket"), "{error}");
}
