//! Workers in containers, by a real engine of the test's own: the same phases, logs, limits and adoption as any command's.

mod trouble;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use rbee_tests::docker::{Docker, IMAGE};
use rbee_tests::home::Home;
use rbee_tests::{processes, wait};
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

/// CONT-04, CONT-09, CONT-10, CONT-12, CONT-13
#[test]
fn it_outlives_its_hive_and_ends_with_its_shim() {
    let Some(docker) = Docker::begin() else { return };
    // Numbered lines on both streams, so that a lost one is seen.
    let script = "i=0; while :; do echo out $i; echo err $i >&2; i=$((i+1)); sleep 0.02; done";
    let home = home(&docker, &(worker_of("w", script, "") + "[monitor]\ninterval = \"1s\"\n"));
    home.keeper(&["up"]).assert().success();
    let first = worker(&home, "w");
    let id = docker.only_id();
    let labels = &docker.inspect(&id)["Config"]["Labels"];
    assert_eq!(labels["rbee.unit"], "w.0");
    assert!(labels["rbee.owner"].as_str().unwrap().starts_with(home.path().to_str().unwrap()), "{labels}");
    until_logged(&home, "w", "out out 20");

    // What it uses is its container's: the shell and its sleep, besides the shim.
    until(&home, "w", |worker| worker["usage"]["processes"].as_u64() >= Some(3));

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
    let limits = worker(&home, "given")["limits"].clone();
    assert_eq!(limits, json!(["memory_max: container", "cpus: container", "nofile: container", "nproc: container"]));
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
