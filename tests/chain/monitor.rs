//! A guard for queen, and what is told of every daemon: MONI-14 to MONI-18.

use std::time::Duration;

use rbee_tests::home::Home;
use rbee_tests::{processes, wait};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{SLEEPER, down, pid, up};

const WITHIN: Duration = Duration::from_secs(60);

/// A guard in a hurry.
fn guard(failures: u32, max_restarts: u32) -> String {
    format!(
        "[monitor]\ninterval = \"200ms\"\nguard = {{ interval = \"200ms\", timeout = \"2s\", failures = {failures}, \
         restart = {{ backoff_min = \"50ms\", backoff_max = \"50ms\", max_restarts = {max_restarts} }} }}\n\n{SLEEPER}"
    )
}

fn record(home: &Home) -> Value {
    let (status, code) = home.json(&["monitor", "status"]);
    assert_eq!(code, 0, "{status}");
    status["monitor"]["record"].clone()
}

/// The status once the guard says so.
fn until(home: &Home, doing: &str, watched: Option<u32>) -> Value {
    wait::until(&format!("the guard {doing}"), WITHIN, || {
        let record = record(home);
        let fits = record["doing"] == doing && watched.is_none_or(|pid| record["watched_pid"] == json!(pid));
        fits.then_some(record)
    })
}

/// A queen other than that.
fn another(home: &Home, before: u32) -> u32 {
    wait::until("another queen runs", WITHIN, || {
        let (queen, _) = home.json(&["queen", "status", "--no-recover"]);
        let pid = queen["pid"].as_u64().map(|pid| u32::try_from(pid).unwrap())?;
        (pid != before && queen["phase"] == "running").then_some(pid)
    })
}

/// MONI-14 MONI-15
#[test]
fn a_queen_that_falls_is_started_again_and_one_that_is_stopped_is_not() {
    let home = Home::with_config(&guard(3, 5));
    let (none, code) = home.json(&["monitor", "status"]);
    assert_eq!((none["monitor"]["phase"].as_str(), code), (Some("stopped"), 3));
    let before = up(&home);
    let queen = pid(&before["queen"]);
    home.keeper(&["monitor", "start"]).assert().success();
    let (again, _) = home.json(&["monitor", "start"]);
    assert_eq!((&again["changed"], &again["guards"]), (&json!(false), &json!("queen")));
    until(&home, "watches", Some(queen));

    processes::crash(queen);
    let second = another(&home, queen);
    let seen = until(&home, "watches", Some(second));
    assert_eq!(seen["restarts"], 1);
    assert!(seen["cause"].as_str().unwrap().contains(&format!("process {queen} ended")), "{seen}");
    let after = home.status();
    assert_eq!(pid(&after["hives"][0]), pid(&before["hives"][0]), "the hive went on");

    // Restarted and stopped on purpose: the guard looks on.
    home.keeper(&["queen", "restart"]).assert().success();
    let third = pid(&home.status()["queen"]);
    until(&home, "watches", Some(third));
    home.keeper(&["queen", "stop", "--keep-hives"]).assert().success();
    until(&home, "rests", None);
    let (queen, code) = home.json(&["queen", "status"]);
    assert_eq!((queen["phase"].as_str(), code), (Some("stopped"), 3));
    home.keeper(&["queen", "start"]).assert().success();
    until(&home, "watches", None);
    // `down` takes the guard along.
    down(&home);
    let (gone, code) = home.json(&["monitor", "status"]);
    assert_eq!((gone["monitor"]["phase"].as_str(), code), (Some("stopped"), 3));
}

/// MONI-16
#[test]
fn a_queen_that_hangs_is_ended_and_started_again() {
    let mut config = guard(2, 5);
    config = config.replace("timeout = \"2s\"", "timeout = \"500ms\"");
    let home = Home::with_config(&config);
    let queen = pid(&up(&home)["queen"]);
    home.keeper(&["monitor", "start"]).assert().success();
    until(&home, "watches", Some(queen));
    assert!(processes::send(queen, Signal::STOP));
    let next = another(&home, queen);
    let seen = until(&home, "watches", Some(next));
    assert!(seen["cause"].as_str().unwrap().contains("did not answer 2 times in a row"), "{seen}");
    home.keeper(&["monitor", "stop"]).assert().success();
    let (stopped, code) = home.json(&["monitor", "stop"]);
    assert_eq!((&stopped["changed"], code), (&json!(false), 0));
    assert_eq!(pid(&home.status()["queen"]), next, "she goes on without a guard");
    down(&home);
}

/// MONI-15
#[test]
fn a_queen_that_falls_too_often_is_given_up_and_guarded_again_once_somebody_starts_her() {
    let home = Home::with_config(&guard(3, 1));
    let mut queen = pid(&up(&home)["queen"]);
    home.keeper(&["monitor", "start"]).assert().success();
    until(&home, "watches", Some(queen));
    processes::crash(queen);
    queen = another(&home, queen);
    until(&home, "watches", Some(queen));
    processes::crash(queen);
    let seen = until(&home, "gave-up", None);
    assert!(seen["cause"].as_str().unwrap().contains("gave up after 1 restarts"), "{seen}");
    home.keeper(&["monitor", "status"]).assert().success().stdout(predicates::str::contains("gave queen up"));
    home.keeper(&["queen", "start"]).assert().success();
    queen = pid(&home.status()["queen"]);
    until(&home, "watches", Some(queen));
    processes::crash(queen);
    another(&home, queen);
    down(&home);
}

/// MONI-17
#[test]
fn every_daemon_is_told_in_detail() {
    let home = Home::with_config(&guard(3, 5));
    up(&home);
    home.keeper(&["monitor", "start"]).assert().success();
    let daemons = wait::until("every daemon was sampled", WITHIN, || {
        let (status, _) = home.json(&["monitor", "status", "--detailed"]);
        let daemons = status["daemons"].as_array().unwrap().clone();
        (daemons.len() == 3 && daemons.iter().all(|daemon| daemon["fds"].is_u64())).then_some(daemons)
    });
    let names: Vec<&str> = daemons.iter().map(|daemon| daemon["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["queen", "hive local", "local:sleeper/0"]);
    for daemon in &daemons {
        assert!(daemon["memory_bytes"].as_u64().unwrap() > 100_000, "{daemon}");
        assert!(daemon["cpu_percent"].is_f64() && daemon["uptime_s"].as_f64().unwrap() > 0.0, "{daemon}");
        assert_eq!(daemon["phase"], "running");
    }
    let text = home.keeper(&["monitor", "status", "--detailed"]).output().unwrap().stdout;
    let text = String::from_utf8(text).unwrap();
    for word in ["HEALTH", "CPU", "MEMORY", "DISK", "UPTIME", "local:sleeper/0"] {
        assert!(text.contains(word), "{word} is not in\n{text}");
    }
    down(&home);
}

/// What a command says to this input; nothing where there is no such command.
#[expect(clippy::disallowed_methods, clippy::print_stderr, reason = "a tool of others; without it the test says so")]
fn promtool(words: &[&str], input: &str) -> Option<std::process::Output> {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut command = Command::new("promtool");
    command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut tool) = command.spawn() else {
        eprintln!("SKIPPED: promtool is not here (Debian package `prometheus`)");
        return None;
    };
    tool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    Some(tool.wait_with_output().unwrap())
}

fn examples(file: &str) -> String {
    format!("{}/../examples/monitoring/{file}", env!("CARGO_MANIFEST_DIR"))
}

/// MONI-18
#[test]
fn promtool_takes_the_alerts_and_the_metrics_of_every_tier() {
    let Some(rules) = promtool(&["check", "rules", &examples("alerts.yml")], "") else { return };
    assert!(rules.status.success(), "{}", String::from_utf8_lossy(&rules.stderr));
    let home = Home::with_config(&guard(3, 5));
    let status = up(&home);
    let token = format!("Bearer {}", home.token());
    for url in [&status["queen"]["url"], &status["hives"][0]["url"]] {
        let url = format!("{}/metrics", url.as_str().unwrap());
        let text = wait::until("samples were taken", WITHIN, || {
            let mut answer = ureq::get(&url).header("Authorization", &token).call().unwrap();
            let text = answer.body_mut().read_to_string().unwrap();
            let has_samples = |line: &str| line.contains("_samples_total ") && !line.ends_with(" 0");
            text.lines().any(has_samples).then_some(text)
        });
        // It reads the older text format, in which a counter's type carries the whole name, and has no units and no end.
        let older: String = text
            .lines()
            .filter(|line| !line.starts_with("# UNIT") && *line != "# EOF")
            .map(|line| of_older_format(line, &text) + "\n")
            .collect();
        let checked = promtool(&["check", "metrics"], &older).unwrap();
        let said = String::from_utf8_lossy(&checked.stderr).into_owned() + &String::from_utf8_lossy(&checked.stdout);
        assert_eq!(said.trim(), "", "of {url}:\n{text}");
    }
    down(&home);
}

/// A counter's family has no `_total` in the newer format.
fn of_older_format(line: &str, text: &str) -> String {
    let mut words = line.splitn(4, ' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some("#"), Some(kind @ ("HELP" | "TYPE")), Some(name), Some(rest))
            if text.contains(&format!("# TYPE {name} counter")) =>
        {
            format!("# {kind} {name}_total {rest}")
        }
        _ => line.to_owned(),
    }
}

/// MONI-07
#[test]
fn a_history_in_trouble_is_told_by_status() {
    let home = Home::with_config(&guard(3, 5));
    std::fs::create_dir_all(home.path().join("state/monitor/queen.sqlite")).unwrap();
    up(&home);
    let told = wait::until("the trouble", WITHIN, || {
        let output = home.keeper(&["status"]).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        told.contains("cannot keep what it sees").then_some(told)
    });
    assert!(told.contains("queen cannot keep") && told.contains("queen.sqlite"), "{told}");
    assert!(home.status()["queen"]["history_trouble"].is_string());
    down(&home);
}
