//! Seed 003's coordination layer as `examples/ringrift.toml`: order, cascades, profiles, health, giving up and trying again. HIVE-20.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use rbee_tests::home::Home;
use rbee_tests::openai::Client;
use rbee_tests::{processes, wait};
use serde_json::{Value, json};

use crate::example::{self, incarnation, phase, until, until_anew, worker};
use crate::{down, pid};

const ALL: [&str; 4] = ["event_router", "data_pipeline", "selfplay", "training"];
/// What a test has no time for.
const QUICK: [(&str, &str); 2] =
    [("interval = \"30s\"", "interval = \"200ms\""), ("backoff_min = \"1s\"", "backoff_min = \"10ms\"")];

fn home() -> Home {
    let mut home = example::home_of("ringrift", &QUICK);
    home.set_env("STAND_IN_ORDER", home.path().join("order").display().to_string());
    let faults = home.path().join("faults");
    fs::create_dir(&faults).unwrap();
    home.set_env("STAND_IN_FAULTS", faults.display().to_string());
    let logger = home.path().join("bin/logger");
    fs::write(&logger, "#!/bin/sh\necho \"$@\" >>\"$HOME/logged\"\n").unwrap();
    fs::set_permissions(&logger, fs::Permissions::from_mode(0o755)).unwrap();
    home
}

/// What hooks have logged.
fn logged(home: &Home) -> String {
    fs::read_to_string(home.path().join("logged")).unwrap_or_default()
}

/// While this file is there, the daemon fails at its start.
fn fault(home: &Home, name: &str) -> PathBuf {
    home.path().join("faults").join(name)
}

/// What the daemons did, in its order, since this was asked last.
fn order(home: &Home) -> Vec<String> {
    let file = home.path().join("order");
    let text = fs::read_to_string(&file).unwrap();
    fs::remove_file(file).unwrap();
    text.lines().map(str::to_owned).collect()
}

fn at(order: &[String], what: &str) -> usize {
    order.iter().position(|line| line == what).unwrap_or_else(|| panic!("no `{what}` in {order:?}"))
}

fn client(worker: &Value) -> Client {
    Client::new(&format!("http://127.0.0.1:{}", worker["port"]), "")
}

fn up(home: &Home, profile: &str) -> Value {
    home.keeper(&["up", "--profile", profile]).assert().success();
    home.status()
}

/// DEPS-02 DEPS-03
#[test]
fn each_starts_when_what_it_needs_is_ready_and_stops_before_it() {
    let home = home();
    let status = up(&home, "full");
    for name in ALL {
        assert_eq!(worker(&status, name)["phase"], "running", "{status}");
    }
    assert_eq!(worker(&status, "gpu_evaluator")["phase"], "stopped", "it is in another profile");
    let started = order(&home);
    assert!(at(&started, "ready event_router") < at(&started, "start data_pipeline"), "{started:?}");
    for dependent in ["start selfplay", "start training"] {
        assert!(at(&started, "ready data_pipeline") < at(&started, dependent), "{started:?}");
    }
    down(&home);
    let stopped = order(&home);
    for dependent in ["stop selfplay", "stop training"] {
        assert!(at(&stopped, dependent) < at(&stopped, "stop data_pipeline"), "{stopped:?}");
    }
    assert!(at(&stopped, "stop data_pipeline") < at(&stopped, "stop event_router"), "{stopped:?}");
}

/// DEPS-05 HIVE-15
#[test]
fn the_crash_of_one_restarts_all_that_stand_on_it() {
    let home = home();
    let before = up(&home, "full");
    order(&home);
    processes::crash(pid(worker(&before, "event_router")));
    for name in ALL {
        until_anew(&home, name, incarnation(worker(&before, name)));
    }
    let restarted = order(&home);
    assert!(at(&restarted, "ready event_router") < at(&restarted, "start data_pipeline"), "{restarted:?}");
    assert!(at(&restarted, "ready data_pipeline") < at(&restarted, "start training"), "{restarted:?}");
    let after = home.status();
    assert_eq!(worker(&after, "event_router")["restarts"], 1, "{after}");
    assert_eq!(worker(&after, "training")["restarts"], 0, "a cascade is not its own failure: {after}");
    let (why, _) = home.json(&["worker", "why", "training"]);
    let fall = &why["workers"][0]["falls"][0];
    assert_eq!(fall["chain"], json!(["training/0", "data_pipeline/0", "event_router/0"]), "{why}");
    let told = |kind: &str, daemon: &str| {
        let events = example::events(&home, kind);
        let event = events.into_iter().find(|event| event["daemon"] == daemon);
        event.unwrap_or_else(|| panic!("no {kind} of {daemon}"))["cause"].as_str().unwrap().to_owned()
    };
    assert!(told("restarting", "event_router/0").contains("signal 9"));
    let cascade = told("cascade", "training/0");
    assert!(cascade.contains("event_router/0") && cascade.contains("signal 9"), "its whole story: {cascade}");
    assert_eq!(example::events(&home, "running").iter().filter(|event| event["daemon"] == "training/0").count(), 2);
    down(&home);
}

/// KEEP-10
#[test]
fn a_profile_says_who_runs() {
    let home = home();
    let phases = |status: &Value| ALL.map(|name| worker(status, name)["phase"].as_str().unwrap().to_owned());
    assert_eq!(phases(&up(&home, "minimal")), ["running", "running", "stopped", "stopped"]);
    let router = worker(&home.status(), "event_router")["pid"].clone();
    assert_eq!(phases(&up(&home, "full")), ["running"; 4]);
    assert_eq!(phases(&up(&home, "minimal")), ["running", "running", "stopped", "stopped"]);
    assert_eq!(worker(&home.status(), "event_router")["pid"], router, "who stays is not touched");
    down(&home);
}

/// LIFE-12 LIFE-14
#[test]
fn one_that_keeps_crashing_fails_and_a_forced_retry_begins_anew() {
    let home = home();
    let before = up(&home, "full");
    fs::write(fault(&home, "selfplay"), "").unwrap();
    processes::crash(pid(worker(&before, "selfplay")));
    let failed = until(&home, "selfplay", "selfplay to give up", |worker| worker["phase"] == "failed");
    assert_eq!(failed["restarts"], 5, "{failed}");
    let reason = failed["reason"].as_str().unwrap();
    assert!(reason.contains('5'), "the count: {reason}");
    assert!(failed["last_log_lines"].to_string().contains("cannot reach the cluster"), "{failed}");
    let told = example::events(&home, "failed");
    assert_eq!((told.len(), &told[0]["daemon"], &told[0]["cause"]), (1, &"selfplay/0".into(), &failed["reason"]));
    wait::until("the hook", example::SOON, || logged(&home).contains("selfplay/0 has given up").then_some(()));
    // Another try is one too many as long as the count stands.
    let (still, code) = home.json(&["worker", "retry", "selfplay"]);
    assert_eq!((code, phase(&home, "selfplay").as_str()), (1, "failed"), "{still}");
    fs::remove_file(fault(&home, "selfplay")).unwrap();
    home.keeper(&["worker", "retry", "selfplay", "--force"]).assert().success();
    let again = worker(&home.status(), "selfplay").clone();
    assert_eq!((&again["phase"], &again["restarts"]), (&"running".into(), &0.into()), "{again}");
    for name in ["event_router", "data_pipeline", "training"] {
        assert_eq!(worker(&home.status(), name)["pid"], worker(&before, name)["pid"], "{name} was not disturbed");
    }
    down(&home);
}

/// PROC-32
#[test]
fn what_a_daemon_says_of_its_health_is_shown_and_believed() {
    let home = home();
    let before = worker(&up(&home, "minimal"), "data_pipeline").clone();
    assert_eq!(client(&before).post_json("/items", &json!([1, 2, 3])).status, 202);
    let busy = until(&home, "data_pipeline", "its queue", |worker| worker["health"]["queue_depth"] == 3);
    assert_eq!((&busy["health"]["healthy"], &busy["health"]["error_count"]), (&true.into(), &0.into()), "{busy}");
    assert!(busy["health"]["last_activity"].is_string(), "{busy}");
    // Its answers are in order, and say that it is not.
    assert_eq!(client(&before).post_json("/errors", &json!(null)).status, 202);
    let after = until_anew(&home, "data_pipeline", incarnation(&before));
    let (why, _) = home.json(&["worker", "why", "data_pipeline"]);
    assert!(why["workers"][0]["falls"].to_string().contains("it says that it is not healthy"), "{why}");
    let well = until(&home, "data_pipeline", "its health", |worker| worker["health"]["healthy"] == true);
    assert_eq!((&well["pid"], &well["health"]["queue_depth"]), (&after["pid"], &0.into()), "{well}");
    down(&home);
}

/// LIFE-15 HIVE-07
#[test]
fn one_whose_program_is_missing_is_unavailable_until_it_is_there() {
    let home = home();
    let before = up(&home, "full");
    let (refused, code) = home.json(&["worker", "start", "gpu_evaluator"]);
    assert_eq!(code, 1, "{refused}");
    let missing = worker(&home.status(), "gpu_evaluator").clone();
    assert_eq!(missing["phase"], "unavailable", "{missing}");
    assert!(missing["reason"].as_str().unwrap().contains("ringrift-gpu"), "{missing}");
    symlink(example::stand_ins().join("ringrift"), home.path().join("bin/ringrift-gpu")).unwrap();
    home.keeper(&["worker", "retry", "gpu_evaluator"]).assert().success();
    let after = home.status();
    assert_eq!(worker(&after, "gpu_evaluator")["phase"], "running");
    for name in ALL {
        assert_eq!(worker(&after, name)["pid"], worker(&before, name)["pid"], "{name} was not disturbed");
    }
    down(&home);
}
