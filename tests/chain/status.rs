//! `status --json`, phases and exit codes as the contract has them: KEEP-01, KEEP-02, KEEP-03, KEEP-04, KEEP-07.

use predicates::prelude::*;
use rbee_tests::home::Home;
use serde_json::Value;

use crate::{SLEEPER, down, pid, up, worker};

/// Keys of an object, sorted.
fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[test]
fn the_tree_has_the_contracts_form() {
    let home = Home::with_config(SLEEPER);
    let status = up(&home);
    for (tier, wanted) in [
        (&status, vec!["hives", "queen"]),
        (&status["queen"], vec!["phase", "pid", "restarts", "uptime_s", "url", "version"]),
        (&status["hives"][0], vec!["generation", "name", "phase", "pid", "restarts", "uptime_s", "url", "workers"]),
        (
            worker(&status),
            vec![
                "cpu_percent",
                "health",
                "incarnation",
                "model",
                "name",
                "phase",
                "pid",
                "port",
                "reason",
                "replica",
                "restarts",
                "rss_bytes",
                "uptime_s",
            ],
        ),
    ] {
        let there = keys(tier);
        let absent: Vec<_> = wanted.iter().filter(|key| !there.contains(key)).collect();
        assert!(absent.is_empty(), "{absent:?} not in {tier}");
    }
    assert_eq!(status["queen"]["url"], home.queen_url());
    assert_eq!(status["hives"][0]["name"], "local");
    for tier in [&status["queen"], &status["hives"][0], worker(&status)] {
        assert_eq!(tier["phase"], "running", "{tier}");
        assert_eq!(tier["restarts"], 0, "{tier}");
        assert!(tier["uptime_s"].as_f64() >= Some(0.0), "{tier}");
        assert!(rbee_tests::processes::is_alive(pid(tier)));
    }
    let worker = worker(&status);
    assert_eq!(
        (&worker["name"], &worker["replica"], &worker["incarnation"]),
        (&"sleeper".into(), &0.into(), &1.into())
    );
    assert!(worker["rss_bytes"].as_u64() > Some(0), "{worker}");
    assert_eq!(worker["reason"], Value::Null);
    down(&home);
}

#[test]
fn status_verbs_follow_lsb_before_during_and_after() {
    let home = Home::with_config(SLEEPER);
    home.keeper(&["status"]).assert().code(3);
    home.keeper(&["queen", "status"]).assert().code(3);
    home.keeper(&["worker", "list"]).assert().code(69).stderr(predicate::str::contains("error: "));
    up(&home);
    for words in [&["status"][..], &["queen", "status"], &["hive", "status", "local"], &["worker", "status", "sleeper"]]
    {
        home.keeper(words).assert().code(0);
    }
    home.keeper(&["worker", "stop", "sleeper"]).assert().success();
    home.keeper(&["worker", "status", "sleeper"]).assert().code(3);
    down(&home);
    home.keeper(&["status"]).assert().code(3);
    home.keeper(&["statsu"]).assert().code(64);
}

#[test]
fn verbs_are_idempotent_and_say_so() {
    let home = Home::with_config(SLEEPER);
    let before = up(&home);
    assert_eq!(pid(worker(&up(&home))), pid(worker(&before)), "a second `up` changes nothing");
    for (words, changed) in [
        (["worker", "start", "sleeper"], false),
        (["worker", "stop", "sleeper"], true),
        (["worker", "stop", "sleeper"], false),
        (["worker", "start", "sleeper"], true),
    ] {
        let (answer, code) = home.json(&words);
        assert_eq!((answer["changed"].as_bool(), code), (Some(changed), 0), "{words:?}: {answer}");
    }
    let (answer, code) = home.json(&["queen", "start"]);
    assert_eq!((answer["changed"].as_bool(), code), (Some(false), 0), "{answer}");
    down(&home);
    down(&home);
}

#[test]
fn replicas_come_and_go() {
    let home = Home::with_config(SLEEPER);
    let first = pid(worker(&up(&home)));
    home.keeper(&["worker", "scale", "sleeper", "3"]).assert().success();
    let status = home.status();
    let workers = status["hives"][0]["workers"].as_array().unwrap();
    assert_eq!(workers.len(), 3, "{status}");
    assert!(workers.iter().all(|worker| worker["phase"] == "running"), "{status}");
    assert_eq!(pid(&workers[0]), first, "the first replica was disturbed");
    home.keeper(&["worker", "restart", "sleeper/2"]).assert().success();
    let after = home.status();
    assert_eq!(pid(worker(&after)), first);
    assert_ne!(pid(&after["hives"][0]["workers"][2]), pid(&workers[2]));
    home.keeper(&["worker", "scale", "sleeper", "1"]).assert().success();
    let sleeping = home.processes().into_iter().filter(|process| process.command == "sleep 1000").count();
    assert_eq!(sleeping, 1);
    down(&home);
}

#[test]
fn with_json_every_verb_prints_one_document_errors_too() {
    let home = Home::with_config(SLEEPER);
    for (words, wanted) in
        [(&["worker", "start", "sleeper"][..], 69), (&["model", "pull", "nothing"], 1), (&["no-such-verb"], 64)]
    {
        let (answer, code) = home.json(words);
        assert_eq!(code, wanted, "{words:?}: {answer}");
        assert!(answer["error"]["message"].is_string(), "{words:?}: {answer}");
    }
    up(&home);
    for words in [
        &["status"][..],
        &["hive", "list"],
        &["worker", "list"],
        &["worker", "logs", "sleeper"],
        &["queen", "logs"],
        &["model", "list"],
        &["config", "check"],
        &["config", "show"],
        &["config", "path"],
        &["up"],
    ] {
        let (answer, code) = home.json(words);
        assert_eq!(code, 0, "{words:?}: {answer}");
    }
    let (answer, code) = home.json(&["worker", "start", "nobody"]);
    assert_eq!((&answer["error"]["code"], code), (&"worker_not_found".into(), 1), "{answer}");
    let (answer, code) = home.json(&["down"]);
    assert_eq!(code, 0, "{answer}");
}

/// KEEP-10
#[test]
fn a_profile_decides_what_runs_and_an_unknown_one_is_refused() {
    let home = Home::with_config(
        "[worker.a]\ncommand = [\"sleep\", \"1000\"]\n\n[worker.b]\ncommand = [\"sleep\", \"1000\"]\n\n\
         [profiles]\nminimal = [\"a\"]\nfull = [\"*\"]\n",
    );
    let phases = |home: &Home| {
        let status = home.status();
        let workers = status["hives"][0]["workers"].as_array().unwrap().clone();
        workers.iter().map(|w| format!("{} {}", w["name"], w["phase"]).replace('"', "")).collect::<Vec<_>>()
    };
    home.keeper(&["up", "--profile", "minimol"]).assert().code(78).stderr(predicates::str::contains("minimal"));
    home.keeper(&["up", "--profile", "minimal"]).assert().code(0);
    assert_eq!(phases(&home), ["a running", "b stopped"]);
    home.keeper(&["up", "--profile", "full"]).assert().code(0);
    assert_eq!(phases(&home), ["a running", "b running"]);
    crate::down(&home);
}
