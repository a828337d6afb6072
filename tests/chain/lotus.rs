//! Seed 000's daemon as `examples/lotus.toml`: roles, the watch over its unix socket, its stale lock, its recovery. HIVE-20.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rbee_tests::home::Home;
use rbee_tests::{processes, wait};
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::example::{self, SOON, incarnation, phase, until_anew};
use crate::{down, pid, up};

/// What a test has no time for.
const QUICK: [(&str, &str); 2] =
    [("interval = \"30s\"", "interval = \"200ms\""), ("timeout = \"5s\"", "timeout = \"2s\"")];

fn home() -> Home {
    example::home_of("lotus", &QUICK)
}

fn repo(home: &Home, file: &str) -> PathBuf {
    home.path().join(".lotus").join(file)
}

/// A call of Lotus's API, over its unix socket.
fn call(home: &Home, method: &str) -> io::Result<Value> {
    call_within(home, method, Duration::from_secs(5))
}

fn call_within(home: &Home, method: &str, patience: Duration) -> io::Result<Value> {
    let mut connection = UnixStream::connect(repo(home, "api.sock"))?;
    connection.set_read_timeout(Some(patience))?;
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method}).to_string();
    write!(connection, "POST /rpc/v0 HTTP/1.0\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?.1;
    Ok(serde_json::from_str(body)?)
}

/// The same, as a client that wants its answer does it: the call fails, the daemon is started if it is down, the call is made
/// again.
fn call_recovering(home: &Home, method: &str) -> Value {
    wait::until("an answer", SOON, || {
        let answer = call(home, method);
        if answer.is_err() {
            home.keeper(&["worker", "start", "lotus"]).assert().success();
        }
        answer.ok()
    })
}

/// CONF-08
#[test]
fn the_role_decides_whether_it_starts_and_auto_start_overrides_it() {
    for (role, on_up, with_auto_start) in
        [("master", Some("running"), "running"), ("worker", Some("stopped"), "running"), ("leecher", None, "running")]
    {
        let as_role = ("role = \"master\"", &*format!("role = \"{role}\""));
        let home = example::home_of("lotus", &[as_role, QUICK[0], QUICK[1]]);
        home.keeper(&["up"]).assert().success();
        match on_up {
            Some(expected) => assert_eq!(phase(&home, "lotus"), expected, "{role}"),
            None => assert_eq!(home.processes(), [], "{role}"),
        }
        if role == "worker" {
            home.keeper(&["worker", "start", "lotus"]).assert().success();
            assert_eq!(call(&home, "Filecoin.ChainHead").unwrap()["result"]["Height"], 1);
        }
        down(&home);
        example::write(&home, "lotus", &[as_role, QUICK[0], QUICK[1], ("# auto_start = true", "auto_start = true")]);
        home.keeper(&["up"]).assert().success();
        assert_eq!(phase(&home, "lotus"), with_auto_start, "{role}");
        down(&home);
        example::write(&home, "lotus", &[as_role, QUICK[0], QUICK[1], ("# auto_start = true", "auto_start = false")]);
        home.keeper(&["up"]).assert().success();
        assert!(!home.processes().iter().any(|process| process.command.contains("lotus daemon")), "{role}");
        down(&home);
    }
}

/// PROC-31
#[test]
fn it_is_ready_when_its_api_answers_and_leaves_nothing_when_it_stops() {
    let home = home();
    let status = up(&home);
    let lotus = example::worker(&status, "lotus");
    assert_eq!(call(&home, "Filecoin.ChainHead").unwrap()["result"]["Pid"], lotus["pid"], "ready means it answers");
    assert!(repo(&home, "repo.lock").exists());
    let body = wait::until("its health", SOON, || {
        let health = example::worker(&home.status(), "lotus")["health"].clone();
        (!health.is_null()).then_some(health)
    });
    assert_eq!(body["healthy"], true, "{body}");
    home.keeper(&["worker", "stop", "lotus"]).assert().success();
    for file in ["repo.lock", "api.sock"] {
        assert!(!repo(&home, file).exists(), "{file}: it ended in order");
    }
    let (logs, _) = home.json(&["worker", "logs", "lotus"]);
    assert!(logs.to_string().contains("graceful shutdown successful"), "{logs}");
    down(&home);
}

/// HIVE-20
#[test]
fn it_is_shown_as_a_service_of_each_manager_and_nothing_is_touched() {
    let home = home();
    let before = fs::read_dir(home.path()).unwrap().count();
    for (manager, words) in [
        (
            "systemd",
            &["Type=notify", "Delegate=yes", "WatchdogSec=", "Restart=on-failure", "After=network.target"] as &[_],
        ),
        (
            "launchd",
            &["<key>KeepAlive</key>", "<key>ThrottleInterval</key>", "<key>LowPriorityIO</key>", "Library/Logs"],
        ),
        ("windows", &["<startmode>Automatic</startmode>", "<onfailure action=\"restart\""]),
        ("supervisord", &["[program:rbee-hive]", "autorestart="]),
    ] {
        let shown = home.keeper(&["service", "show", "--manager", manager]).assert().success();
        let shown = String::from_utf8_lossy(&shown.get_output().stdout).into_owned();
        for word in words.iter().chain(&["rbee-hive", "queen-rbee"]) {
            assert!(shown.contains(word), "{manager}: no {word} in\n{shown}");
        }
    }
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), before);
    assert_eq!(home.processes(), []);
}

/// PROC-29
#[test]
fn a_stale_lock_does_not_keep_it_down_and_one_that_is_held_is_kept() {
    let home = home();
    let before = up(&home);
    let lotus = example::worker(&before, "lotus");
    processes::crash(pid(lotus));
    let after = until_anew(&home, "lotus", incarnation(lotus));
    assert_ne!(pid(&after), pid(lotus));
    let hive_log = fs::read_to_string(home.path().join("state/logs/hives/local.log")).unwrap();
    assert!(hive_log.contains("removed a stale lock"), "{hive_log}");
    assert_eq!(call(&home, "Filecoin.ChainHead").unwrap()["result"]["Pid"], after["pid"]);

    home.keeper(&["worker", "stop", "lotus"]).assert().success();
    let lock = File::create(repo(&home, "repo.lock")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let (refused, code) = home.json(&["worker", "start", "lotus", "--timeout", "5s"]);
    assert_ne!(code, 0, "{refused}");
    assert!(repo(&home, "repo.lock").exists(), "it is ours");
    let (why, _) = home.json(&["worker", "logs", "lotus"]);
    assert!(why.to_string().contains("repo is already locked"), "{why}");
    drop(lock);
    home.keeper(&["worker", "retry", "lotus", "--force"]).assert().success();
    assert_eq!(phase(&home, "lotus"), "running");
    down(&home);
}

/// LIFE-16 KEEP-11
#[test]
fn a_call_that_fails_is_answered_after_the_daemon_was_started_again() {
    let home = home();
    let before = up(&home);
    let lotus = example::worker(&before, "lotus").clone();
    // Crashed: nobody is at the socket.
    processes::crash(pid(&lotus));
    let answer = call_recovering(&home, "Filecoin.ChainHead");
    assert_ne!(answer["result"]["Pid"], lotus["pid"]);
    // It hangs: the socket takes connections, and nobody answers.
    let hangs = until_anew(&home, "lotus", incarnation(&lotus));
    assert!(processes::send(pid(&hangs), Signal::STOP));
    assert!(call_within(&home, "Filecoin.ChainHead", Duration::from_millis(200)).is_err());
    let after = until_anew(&home, "lotus", incarnation(&hangs));
    assert_eq!(call_recovering(&home, "Filecoin.ChainHead")["result"]["Pid"], after["pid"]);
    let (why, _) = home.json(&["worker", "why", "lotus"]);
    assert!(why["workers"][0]["falls"].to_string().contains("no answer within 2 s"), "{why}");
    // The same for our own: queen has crashed, a call of keeper's finds it out, starts her and asks again.
    processes::crash(pid(&home.status()["queen"]));
    let asked = home.keeper(&["worker", "list"]).assert().success();
    let said = String::from_utf8_lossy(&asked.get_output().stderr).into_owned();
    assert!(said.contains("asking again"), "{said}");
    assert_eq!(example::worker(&home.status(), "lotus")["pid"], after["pid"], "lotus went on");
    down(&home);
}
