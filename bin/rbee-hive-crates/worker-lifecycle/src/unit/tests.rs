//! What workers of both kinds become.

mod container;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rbee_api::assignment::{HealthSpec, LimitsSpec, LogSpec};
use rbee_api::{Desired, ModelSpec, ReplicaId};

use super::*;
use crate::ENGINE_PROGRAM;

fn worker(engine: Engine, model: bool) -> WorkerAssignment {
    let spec = WorkerSpec {
        engine,
        env: BTreeMap::from([("WHERE".to_owned(), "{run_dir}/{name}".to_owned())]),
        working_dir: Some("/srv".into()),
        pid_file: Some("/run/x.pid".into()),
        start_timeout_ms: 1_000,
        start_timeout_grows: false,
        stop_timeout_ms: 2_000,
        stop_signal: "INT".into(),
        ready: "http:/health".into(),
        health: Some(HealthSpec { probe: "exec:check {port}".into(), interval_ms: 3, timeout_ms: 4, failures: 5 }),
        restart: RestartSpec {
            policy: "on-failure".into(),
            backoff_min_ms: 1,
            backoff_max_ms: 2,
            max_restarts: 3,
            within_ms: 4,
            reset_after_ms: 5,
        },
        depends_on: Vec::new(),
        limits: LimitsSpec::default(),
        stale_locks: Vec::new(),
        log: LogSpec::default(),
        forking: false,
        listen: None,
        watchdog_ms: None,
        on: BTreeMap::new(),
        thresholds: None,
    };
    WorkerAssignment::new(
        ReplicaId { name: "w".into(), replica: 1 },
        Arc::new(spec),
        model.then(|| ModelSpec { name: "m".into(), source: "file:/m.gguf".into(), sha256: None }),
        Desired::Running,
    )
}

fn command(words: &[&str]) -> Engine {
    Engine::Command { command: words.iter().map(|word| (*word).to_owned()).collect() }
}

fn engine(threads: Option<u32>) -> Engine {
    Engine::Llm {
        slots: 4,
        context: 512,
        threads,
        deterministic: true,
        cache_bytes_max: 9 << 20,
        mlock: true,
        no_mmap: true,
    }
}

fn machine(folder: &Path) -> Machine {
    Machine {
        bind_ip: "10.0.0.1".parse().unwrap(),
        run_dir: "/run/w".into(),
        state_dir: "/state/w".into(),
        programs: Programs::new(Some(folder.to_owned()), None),
        token: Some("secret".into()),
        cores: 8,
        home: Some("/home/u".into()),
        containers: ContainerEngine {
            host: "unix:///d.sock".into(),
            timeout: Duration::from_secs(10),
            shim: "/bin/rbee-hive".into(),
            owner: "/run/workers".into(),
        },
    }
}

fn placement() -> Placement {
    Placement { port: Some(7855), model_path: Some("/models/m.gguf".into()), model_bytes: 1 << 31 }
}

#[test]
fn our_engine_inherits_its_socket_and_gets_the_token() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(ENGINE_PROGRAM), "").unwrap();
    let mut worker = worker(engine(None), true);
    let unit = unit_spec(&worker, &placement(), &machine(folder.path())).unwrap();
    assert_eq!(unit.name, "w.1");
    assert_eq!(unit.launch.program, folder.path().join(ENGINE_PROGRAM));
    assert_eq!(
        unit.launch.args.join(" "),
        "--model-path /models/m.gguf --model-name m --listen 10.0.0.1:7855 --slots 4 --context 512 --threads 7 \
         --state-dir /state/w/w.1 --state-mib 9 --drain-timeout 1500ms --deterministic \
         --mlock --no-mmap"
    );
    assert_eq!(unit.launch.env["RBEE_TOKEN"], "secret");
    assert_eq!(unit.listen, Some("10.0.0.1:7855".parse().unwrap()));
    assert_eq!(unit.readiness, Readiness::Probe(Probe::Http { address: None, path: "/health".into() }));
    worker.clean_generation = 7;
    let clean = unit_spec(&worker, &placement(), &machine(folder.path())).unwrap();
    assert!(clean.launch.args.contains(&"/state/w/w.1.7".to_owned()), "a clean restart begins with nothing");
}

/// HIVE-19
#[test]
fn a_command_gets_a_folder_of_its_own_and_another_one_when_it_starts_clean() {
    let mut worker = worker(command(&["serve", "--cache", "{state_dir}/c", "--listen", "{run_dir}/s"]), true);
    worker.spec_mut().ready = "http://unix:~/{name}.sock:/health".to_owned();
    let unit = |worker: &WorkerAssignment| unit_spec(worker, &placement(), &machine(Path::new("/x"))).unwrap();
    let first = unit(&worker);
    assert_eq!(first.launch.args, ["--cache", "/state/w/w.1/c", "--listen", "/run/w/s"]);
    let probe = Probe::HttpUnix { socket: "/home/u/w.sock".into(), path: "/health".into() };
    assert_eq!(first.readiness, Readiness::Probe(probe));
    worker.clean_generation = 7;
    assert_eq!(unit(&worker).launch.args[1], "/state/w/w.1.7/c");
    let mut by_socket = WorkerAssignment { model: None, ..worker };
    by_socket.spec_mut().health = None;
    assert!(!wants_port(&by_socket), "a unix socket needs no port");
}

/// QUEEN-24
#[test]
fn a_start_may_take_longer_the_larger_the_model() {
    let mut worker = worker(command(&["serve"]), true);
    let timeout = |worker: &WorkerAssignment, gib: u64| {
        let placement = Placement { model_bytes: gib << 30, ..placement() };
        unit_spec(worker, &placement, &machine(Path::new("/x"))).unwrap().policy.start_timeout_ms
    };
    assert_eq!((timeout(&worker, 0), timeout(&worker, 40)), (1_000, 1_000), "the user said so");
    worker.spec_mut().start_timeout_grows = true;
    assert_eq!((timeout(&worker, 0), timeout(&worker, 1), timeout(&worker, 40)), (1_000, 17_384, 656_360));
}

#[test]
fn a_missing_engine_is_unavailable_and_a_missing_model_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let error = unit_spec(&worker(engine(Some(1)), true), &placement(), &machine(folder.path())).unwrap_err();
    assert!(error.is_unavailable() && error.to_string().contains(&folder.path().display().to_string()), "{error}");
    let error = unit_spec(&worker(engine(Some(1)), false), &placement(), &machine(folder.path())).unwrap_err();
    assert!(!error.is_unavailable() && error == UnitError::NoModel);
}

/// HIVE-10
#[test]
fn any_other_command_is_filled_in_and_never_sees_the_token() {
    let worker = worker(command(&["serve", "-m", "{model_path}", "--port={port}", "{\"r\":{replica}}"]), true);
    let unit = unit_spec(&worker, &placement(), &machine(Path::new("/x"))).unwrap();
    assert_eq!(unit.launch.program, Path::new("serve"));
    assert_eq!(unit.launch.args, ["-m", "/models/m.gguf", "--port=7855", "{\"r\":1}"]);
    assert_eq!(unit.launch.env["WHERE"], "/run/w/w");
    assert_eq!(unit.launch.not_inherited, ["RBEE_TOKEN"]);
    assert!(unit.launch.inherit_env && unit.listen.is_none());
    let own = "127.0.0.1:7855".parse().unwrap();
    assert_eq!(unit.readiness, Readiness::Probe(Probe::Http { address: Some(own), path: "/health".into() }));
    let health = unit.health.unwrap();
    assert_eq!(health.probe, Probe::Exec { command: vec!["check".into(), "7855".into()] });
    assert_eq!((unit.stop_signal, unit.pid_file), (StopSignal::Int, Some("/run/x.pid".into())));
    assert_eq!(unit.policy.restart.policy, Policy::OnFailure);
    assert_eq!((unit.policy.start_timeout_ms, unit.policy.health_failures_max), (1_000, 5));
}

/// HIVE-11
#[test]
fn limits_locks_log_socket_and_watchdog_reach_the_unit() {
    let mut worker = worker(command(&["serve"]), false);
    worker.spec_mut().limits =
        LimitsSpec { cpus: Some(1.5), nofile: Some(64), io: Some("low".into()), ..LimitsSpec::default() };
    worker.spec_mut().stale_locks = vec!["~/.lotus/repo.lock".into(), "{run_dir}/{replica}.lock".into()];
    worker.spec_mut().log = LogSpec { file_bytes_max: 7, files_kept: 2, age_max_ms: 3_000 };
    worker.spec_mut().listen = Some("127.0.0.1:{port}".into());
    worker.spec_mut().watchdog_ms = Some(500);
    worker.spec_mut().pid_file = Some("{run_dir}/{name}.{replica}.pid".into());
    worker.spec_mut().forking = true;
    assert!(wants_port(&worker));
    let unit = unit_spec(&worker, &placement(), &machine(Path::new("/x"))).unwrap();
    assert_eq!((unit.limits.cpus, unit.limits.nofile, unit.limits.io), (Some(1.5), Some(64), Some(IoClass::Low)));
    assert_eq!(unit.stale_locks, [Path::new("/home/u/.lotus/repo.lock"), Path::new("/run/w/1.lock")]);
    assert_eq!((unit.log.file_bytes_max, unit.log.files_kept, unit.log.age_max), (7, 2, Duration::from_secs(3)));
    assert_eq!(unit.listen, Some("127.0.0.1:7855".parse().unwrap()));
    assert_eq!(unit.watchdog, Some(Duration::from_millis(500)));
    assert_eq!((unit.forking, unit.pid_file.as_deref()), (true, Some(Path::new("/run/w/w.1.pid"))));
    assert_eq!(
        unit.readiness,
        Readiness::Probe(Probe::Http { address: None, path: "/health".into() }),
        "its own socket"
    );
    worker.spec_mut().limits.io = Some("fast".into());
    let error = unit_spec(&worker, &placement(), &machine(Path::new("/x"))).unwrap_err();
    assert_eq!(error.to_string(), "`limits.io` cannot be `fast`");
}

#[test]
fn words_that_mean_nothing_are_named() {
    let mut wrong = worker(command(&["serve"]), false);
    wrong.spec_mut().ready = "soon".into();
    let error = unit_spec(&wrong, &placement(), &machine(Path::new("/x"))).unwrap_err();
    assert_eq!(error.to_string(), "`ready` cannot be `soon`");
    let empty = unit_spec(&worker(command(&[]), false), &placement(), &machine(Path::new("/x"))).unwrap_err();
    assert_eq!(empty, UnitError::NoProgram);
}

#[test]
fn only_who_uses_a_port_gets_one() {
    let plain = |words: &[&str]| {
        let mut worker = worker(command(words), false);
        worker.spec_mut().ready = "started".into();
        worker.spec_mut().health = None;
        worker
    };
    assert!(!wants_port(&plain(&["sleep", "1"])));
    assert!(wants_port(&plain(&["serve", "--port={port}"])));
    assert!(wants_port(&worker(engine(None), true)));
    for ready in ["tcp", "http:/health", "exec:ping {port}"] {
        let mut worker = plain(&["serve"]);
        worker.spec_mut().ready = ready.into();
        assert!(wants_port(&worker), "{ready}");
    }
    let mut routed = plain(&["serve"]);
    routed.model = worker(engine(None), true).model;
    assert!(wants_port(&routed));
}
