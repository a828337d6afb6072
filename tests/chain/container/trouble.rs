//! What may be wrong around a container: its image, its engine, its name, and a stop that comes in between.

use std::path::Path;
use std::time::Duration;

use rbee_tests::docker::{Docker, IMAGE};
use rbee_tests::registry::Registry;
use rbee_tests::{ports, processes, wait};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::{SOON, home, reason, runs, until, worker, worker_of};
use crate::{down, pid};

/// CONT-03, CONT-05, CONT-14
#[test]
fn what_is_missing_is_told_in_the_engines_words() {
    let Some(docker) = Docker::begin() else { return };
    let nobody = ports::free();
    let of = |name: &str, image: &str, more: &str| {
        format!(
            "[worker.{name}]\ncontainer = {{ image = \"{image}\", args = [\"/bin/{name}\"], network = \"none\"{more} }}\n\
             restart = {{ max_restarts = 1, backoff_min = \"10ms\", backoff_max = \"10ms\" }}\n"
        )
    };
    let config = of("never", "nowhere/x:1", ", pull = \"never\"")
        + &of("refused", &format!("127.0.0.1:{nobody}/x:1"), "")
        + &of("nothing", IMAGE, "")
        + &worker_of("taken", "sleep 1000", "");
    let home = home(&docker, &config);
    // A stranger has the name that a worker's container would have.
    let owner = home.path().join("run/workers");
    let name = format!("rbee-taken.0-{}", hash(&owner));
    let (status, made) =
        docker.send("POST", &format!("/containers/create?name={name}"), &json!({"Image": IMAGE, "Cmd": ["x"]}));
    assert_eq!(status, 201, "{made}");

    home.keeper(&["up"]).assert().failure();
    for (name, phase, words) in [
        ("never", "unavailable", "image nowhere/x:1 is not here, and `pull = \"never\"`"),
        ("nothing", "unavailable", "/bin/nothing"),
        ("taken", "unavailable", "is none of ours"),
        ("refused", "failed", "exit code 75"),
    ] {
        let seen = until(&home, name, |worker| worker["phase"] == phase);
        assert!(reason(&seen).contains(words), "{name}: {seen}");
    }
    let refused = worker(&home, "refused")["last_log_lines"].to_string();
    assert!(refused.contains("cannot pull image") && refused.contains("connection refused"), "{refused}");

    // Not ours: never touched.
    let left = docker.containers();
    assert_eq!((left.len(), &left[0]["Id"]), (1, &made["Id"]), "{left:?}");
    docker.call("DELETE", &format!("/containers/{}", made["Id"].as_str().unwrap()));
    home.keeper(&["worker", "retry", "taken"]).assert().success();
    until(&home, "taken", |worker| worker["phase"] == "running");
    down(&home);
    assert_eq!(docker.containers(), [Value::Null; 0]);
}

/// CONT-05
#[test]
fn a_missing_image_is_pulled_and_its_progress_is_the_reason() {
    let Some(docker) = Docker::begin() else { return };
    let registry = Registry::begin(docker.layer());
    let config = format!(
        "[worker.w]\ncontainer = {{ image = \"{}\", args = [\"/bin/sleep\", \"1000\"], network = \"none\" }}\n\
         stop_timeout = \"1s\"\nstart_timeout = \"5s\"\n",
        registry.image()
    );
    let home = home(&docker, &config);
    let starting = home.keeper(&["up"]);
    let starting = std::thread::spawn(move || {
        let mut starting = starting;
        starting.assert().success();
    });
    let pulling = until(&home, "w", |worker| reason(worker).contains("pulling image"));
    assert_eq!(pulling["phase"], "starting");
    assert!(reason(&pulling).contains(&registry.image()), "{pulling}");
    registry.open();
    starting.join().unwrap();
    until(&home, "w", runs(1));
    down(&home);
    assert_eq!(docker.containers(), [Value::Null; 0]);
}

/// As the shim's name has it.
fn hash(owner: &Path) -> String {
    let bytes = owner.to_str().unwrap().bytes();
    format!("{:08x}", bytes.fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)))
}

/// CONT-03, CONT-15
#[test]
fn an_engine_that_goes_and_comes_back_is_waited_for() {
    let Some(mut docker) = Docker::begin() else { return };
    let home = home(&docker, &worker_of("w", "trap 'exit 0' TERM; while :; do sleep 0.1; done", ""));
    home.keeper(&["up"]).assert().success();
    docker.restart();
    until(&home, "w", |worker| worker["phase"] == "running" && worker["incarnation"].as_u64() > Some(1));
    docker.stop();
    let gone = until(&home, "w", |worker| worker["phase"] == "unavailable");
    for words in ["no container engine answered", "d.sock", "`[hive] docker`"] {
        assert!(reason(&gone).contains(words), "{gone}");
    }
    docker.restart();
    home.keeper(&["worker", "retry", "w"]).assert().success();
    until(&home, "w", |worker| worker["phase"] == "running");
    down(&home);
    assert_eq!(docker.containers(), [Value::Null; 0]);
}

/// CONT-16
#[test]
fn one_that_is_paused_is_not_well_and_can_be_stopped() {
    let Some(docker) = Docker::begin() else { return };
    let web = format!(
        "[worker.web]\ncontainer = {{ image = \"{IMAGE}\", args = [\"/bin/httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/bin\"], ports = 8080 }}\n\
         health = {{ probe = \"http:/sh\", interval = \"100ms\", timeout = \"500ms\", failures = 2 }}\n\
         stop_timeout = \"2s\"\nrestart = {{ backoff_min = \"100ms\" }}\n"
    );
    let web = if docker.has_network() { web } else { String::new() };
    let home = home(&docker, &(worker_of("w", "trap 'exit 0' TERM; while :; do sleep 0.1; done", "") + &web));
    home.keeper(&["up"]).assert().success();
    let pause = |unit: &str| {
        let containers = docker.containers();
        let id = containers.iter().find(|it| it["Labels"]["rbee.unit"] == unit).unwrap()["Id"].as_str().unwrap();
        assert_eq!(docker.call("POST", &format!("/containers/{id}/pause")).0, 204);
    };
    pause("w.0");
    home.keeper(&["worker", "stop", "w"]).assert().success();
    assert!(docker.containers().iter().all(|it| it["Labels"]["rbee.unit"] != "w.0"));
    if docker.has_network() {
        pause("web.0");
        until(&home, "web", runs(2));
    }
    down(&home);
    assert_eq!(docker.containers(), [Value::Null; 0]);
}

/// CONT-13
#[test]
fn a_hive_that_stops_amid_a_start_leaves_nothing() {
    let Some(docker) = Docker::begin() else { return };
    let home = home(&docker, &worker_of("w", "sleep 1000", "replicas = 4\nauto_start = false"));
    home.keeper(&["up"]).assert().success();
    for pause_ms in [0, 60, 120, 240] {
        let starting = home.keeper(&["worker", "start", "w"]);
        let starting = std::thread::spawn(move || {
            let mut starting = starting;
            starting.output().unwrap();
        });
        wait::until("a shim", SOON, || (worker(&home, "w")["phase"] != "stopped").then_some(()));
        let until = std::time::Instant::now() + Duration::from_millis(pause_ms);
        wait::until("some of its way", SOON, || (std::time::Instant::now() >= until).then_some(()));
        home.keeper(&["worker", "stop", "w"]).assert().success();
        starting.join().unwrap();
        wait::until("nothing", SOON, || docker.containers().is_empty().then_some(()));
    }
    processes::send(pid(&home.status()["queen"]), Signal::TERM);
    wait::until("the end", SOON, || home.processes().is_empty().then_some(()));
    assert_eq!(docker.containers(), [Value::Null; 0]);
}
