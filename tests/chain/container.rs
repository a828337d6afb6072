//! Workers in containers, by a real engine of the test's own: the same phases, logs, limits and adoption as any command's.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use rbee_tests::docker::{Docker, IMAGE};
use rbee_tests::home::Home;
use rbee_tests::registry::Registry;
use rbee_tests::{ports, processes, wait};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{down, pid};

const SOON: Duration = Duration::from_secs(60);

/// A worker that runs this shell script.
fn worker_of(name: &str, script: &str, more: &str) -> String {
    let script = script.replace('\\', "\\\\").replace('"', "\\\"");
    format!(
        "[worker.{name}]\ncontainer = {{ image = \"{IMAGE}\", args = [\"/bin/sh\", \"-c\", \"{script}\"], network = \"none\" }}\n\
         stop_timeout = \"3s\"\nrestart = {{ backoff_min = \"100ms\" }}\n{more}\n"
    )
}

/// A home whose hive talks to this engine.
fn home(docker: &Docker, config: &str) -> Home {
    let mut home = Home::with_config(config);
    home.set_env("DOCKER_HOST", docker.host());
    home
}

fn worker(home: &Home, name: &str) -> Value {
    let status = home.status();
    let workers = status["hives"][0]["workers"].as_array().cloned().unwrap_or_default();
    workers.into_iter().find(|worker| worker["name"] == name).unwrap_or(Value::Null)
}

/// The worker, once it is as wished.
fn until(home: &Home, name: &str, is_wished: impl Fn(&Value) -> bool) -> Value {
    wait::until(name, SOON, || Some(worker(home, name)).filter(&is_wished))
}

fn runs(incarnation: u64) -> impl Fn(&Value) -> bool {
    move |worker| worker["phase"] == "running" && worker["incarnation"] == incarnation
}

fn reason(worker: &Value) -> &str {
    worker["reason"].as_str().unwrap_or_default()
}

/// The end of each line of its log, and from which stream it is.
fn log(home: &Home, name: &str) -> Vec<String> {
    let (logs, code) = home.json(&["worker", "logs", name, "-n", "100000"]);
    assert_eq!(code, 0, "{logs}");
    let lines = logs["lines"].as_array().unwrap_or_else(|| panic!("{logs}"));
    lines.iter().map(|line| line.as_str().unwrap().split_once(' ').unwrap().1.to_owned()).collect()
}

fn until_logged(home: &Home, name: &str, line: &str) -> Vec<String> {
    wait::until(line, SOON, || Some(log(home, name)).filter(|lines| lines.iter().any(|found| found == line)))
}

fn get(port: u16, path: &str) -> String {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).unwrap();
    connection.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(connection, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

/// CONT-04, CONT-09, CONT-10, CONT-13
#[test]
fn it_outlives_its_hive_and_ends_with_its_shim() {
    let Some(docker) = Docker::begin() else { return };
    // Numbered lines on both streams, so that a lost one is seen.
    let script = "i=0; while :; do echo out $i; echo err $i >&2; i=$((i+1)); sleep 0.02; done";
    let home = home(&docker, &worker_of("w", script, ""));
    home.keeper(&["up"]).assert().success();
    let first = worker(&home, "w");
    let id = docker.only_id();
    let labels = &docker.inspect(&id)["Config"]["Labels"];
    assert_eq!(labels["rbee.unit"], "w.0");
    assert!(labels["rbee.owner"].as_str().unwrap().starts_with(home.path().to_str().unwrap()), "{labels}");
    until_logged(&home, "w", "out out 20");

    // The hive dies: shim and container go on, and the next one takes them over.
    processes::crash(pid(&home.status()["hives"][0]));
    let adopted = wait::until("the worker adopted", SOON, || {
        let status = home.status();
        let is_new = status["hives"][0]["restarts"].as_u64() > Some(0);
        Some(worker(&home, "w")).filter(|worker| is_new && runs(1)(worker))
    });
    assert_eq!((pid(&adopted), docker.only_id()), (pid(&first), id.clone()));
    let seen = log(&home, "w").len();
    wait::until("more lines", SOON, || (log(&home, "w").len() > seen + 40).then_some(()));
    for stream in ["out", "err"] {
        let prefix = format!("{stream} {stream} ");
        let numbers: Vec<usize> =
            log(&home, "w").iter().filter_map(|line| line.strip_prefix(&prefix)?.parse().ok()).collect();
        assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>(), "every line of {stream} once, in its order");
    }

    // The shim dies: the container goes with it, and a new run begins.
    processes::crash(pid(&adopted));
    let second = until(&home, "w", runs(2));
    assert_ne!(docker.only_id(), id);
    let (why, _) = home.json(&["worker", "why", "w"]);
    assert!(why.to_string().contains("signal 9"), "{why}");

    // Somebody else ends the container: that is an exit like any other.
    let (status, answer) = docker.call("POST", &format!("/containers/{}/kill", docker.only_id()));
    assert_eq!(status, 204, "{answer}");
    let third = until(&home, "w", runs(3));
    assert_ne!(pid(&third), pid(&second));
    let (why, _) = home.json(&["worker", "why", "w"]);
    assert!(why.to_string().contains("exit code 137"), "{why}");

    down(&home);
    assert_eq!(docker.containers(), [Value::Null; 0]);
}

/// CONT-11
#[test]
fn what_a_dead_hive_and_a_dead_shim_left_goes_with_the_next_hive() {
    let Some(docker) = Docker::begin() else { return };
    let home = home(&docker, &worker_of("w", "exec sleep 1000", ""));
    home.keeper(&["up"]).assert().success();
    let (shim, id) = (pid(&worker(&home, "w")), docker.only_id());
    let status = home.status();
    // Queen first, or she would start another hive.
    processes::crash(pid(&status["queen"]));
    processes::crash(pid(&status["hives"][0]));
    processes::crash(shim);
    assert_eq!(docker.only_id(), id, "nobody was there to remove it");
    home.write_config("");
    home.keeper(&["up"]).assert().success();
    wait::until("its removal", SOON, || docker.containers().is_empty().then_some(()));
    down(&home);
}

/// CONT-04, CONT-08
#[test]
fn it_gets_what_it_is_given() {
    let Some(docker) = Docker::begin() else { return };
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "from outside\n").unwrap();
    let script = "id -u; pwd; echo $WHO $ALSO $0; cat /data/file; touch /data/x || echo read-only data; \
         touch /x || echo read-only root; ulimit -n; sleep 1000";
    let script = script.replace('"', "\\\"");
    let volume = format!("{}:/data:ro", folder.path().display());
    let config = format!(
        "[worker.given]\ncontainer = {{ image = \"{IMAGE}\", entrypoint = [\"/bin/sh\", \"-c\"], args = [\"{script}\", \"{{name}}/{{replica}}\"], \
         env = {{ ALSO = \"{{port}}\" }}, volumes = [\"{volume}\"], user = \"1234\", network = \"host\", read_only = true }}\n\
         env = {{ WHO = \"me\" }}\nworking_dir = \"/tmp\"\nready = \"started\"\nstop_timeout = \"1s\"\n\
         limits = {{ memory_max = \"64MiB\", cpus = 0.5, nofile = 77, nproc = 50 }}\n"
    );
    let home = home(&docker, &config);
    home.keeper(&["up"]).assert().success();
    let port = worker(&home, "given")["port"].clone();
    let lines = until_logged(&home, "given", "out 77");
    let expected = ["out 1234", "out /tmp", &format!("out me {port} given/0"), "out from outside"];
    for line in expected.into_iter().chain(["out read-only data", "out read-only root"]) {
        assert!(lines.iter().any(|found| found == line), "{line}: {lines:?}");
    }
    let host = &docker.inspect(&docker.only_id())["HostConfig"];
    for (key, expected) in [
        ("Memory", json!(64 << 20)),
        ("NanoCpus", json!(500_000_000)),
        ("PidsLimit", json!(50)),
        ("NetworkMode", json!("host")),
    ] {
        assert_eq!(host[key], expected, "{host}");
    }
    down(&home);
    assert_eq!(docker.containers(), [Value::Null; 0]);
}

/// CONT-06, CONT-09
#[test]
fn its_end_is_told_as_it_was() {
    let Some(docker) = Docker::begin() else { return };
    let never = "\nrestart = { policy = \"never\" }";
    let once = |name: &str, script: &str, more: &str| {
        worker_of(name, script, more).replace("\nrestart = { backoff_min = \"100ms\" }", never)
    };
    let config = once("code", "exit 7", "ready = \"tcp\"\nstart_timeout = \"20s\"")
        + &once("hungry", "head -c 200m /dev/zero | tail", "limits = { memory_max = \"16MiB\" }")
        + &worker_of("polite", "trap 'echo told; exit 0' INT; while :; do sleep 0.1; done", "stop_signal = \"INT\"")
        + &worker_of("deaf", "trap '' TERM; while :; do sleep 0.1; done", "stop_timeout = \"500ms\"")
            .replace("stop_timeout = \"3s\"\n", "");
    let home = home(&docker, &config);
    // Those that end are no success.
    home.keeper(&["up"]).assert().failure();
    let code = until(&home, "code", |worker| worker["phase"] == "failed");
    assert!(reason(&code).contains("exit code 7"), "{code}");
    let hungry = until(&home, "hungry", |worker| worker["phase"] == "failed");
    assert!(reason(&hungry).contains("out-of-memory"), "{hungry}");
    for name in ["polite", "deaf"] {
        until(&home, name, runs(1));
        home.keeper(&["worker", "stop", name]).assert().success();
    }
    assert!(log(&home, "polite").contains(&"out told".to_owned()));
    assert_eq!(docker.containers(), [Value::Null; 0], "what ended is gone");
    down(&home);
}

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

/// CONT-07
#[test]
fn it_is_ready_and_well_when_it_answers() {
    let Some(docker) = Docker::begin() else { return };
    if !docker.has_network() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("open");
    let mark = folder.path().join("ill");
    let script = "until test -e /gate/open; do sleep 0.05; done; exec /bin/httpd -f -p 8080 -h /gate";
    let config = format!(
        "[worker.web]\ncontainer = {{ image = \"{IMAGE}\", args = [\"/bin/sh\", \"-c\", \"{script}\"], ports = 8080, \
         volumes = [\"{}:/gate\"] }}\nstop_timeout = \"1s\"\nrestart = {{ backoff_min = \"100ms\" }}\n\
         health = {{ probe = \"exec:/gate/well\", interval = \"200ms\", timeout = \"5s\", failures = 2 }}\n",
        folder.path().display()
    );
    let well = folder.path().join("well");
    fs::write(&well, "#!/bin/sh\n! test -e /gate/ill\n").unwrap();
    fs::set_permissions(&well, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let home = home(&docker, &config);
    let starting = home.keeper(&["up", "--timeout", "60s"]);
    let starting = std::thread::spawn(move || {
        let mut starting = starting;
        starting.assert().success();
    });
    // The engine's forwarder accepts long before anybody listens inside.
    let seen = until(&home, "web", |worker| reason(worker).contains("its container runs"));
    let port = seen["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap();
    wait::until("the forwarder", SOON, || TcpStream::connect(("127.0.0.1", port)).ok());
    assert_eq!(worker(&home, "web")["phase"], "starting");
    fs::write(&gate, "hello").unwrap();
    starting.join().unwrap();
    until(&home, "web", runs(1));
    assert!(get(port, "/open").ends_with("hello"));

    fs::write(&mark, "").unwrap();
    let again = until(&home, "web", |worker| worker["incarnation"].as_u64() > Some(1));
    fs::remove_file(&mark).unwrap();
    assert_eq!(again["port"], port);
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
