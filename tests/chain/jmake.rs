//! Seed 004's build daemons as `examples/jmake.toml`: all started, shown and stopped, their caches, restarts that refuse nobody. HIVE-20.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use predicates::prelude::*;
use rbee_tests::home::Home;
use rbee_tests::openai::Client;
use rbee_tests::{ports, processes, wait};
use rustix::process::Signal;
use serde_json::Value;

use crate::example::{self, SOON, incarnation, until_anew, worker};
use crate::{down, error_text, pid, up};

const DAEMONS: [&str; 4] = ["discovery", "setup", "compilation", "orchestrator"];

/// The home, and the ports of the daemons in their order.
fn home() -> (Home, [u16; 4]) {
    let ports = [(); 4].map(|()| ports::free());
    let listen = [1, 2, 3, 4].map(|number| format!("127.0.0.1:300{number}"));
    let ours = ports.map(|port| format!("127.0.0.1:{port}"));
    let mut changes: Vec<(&str, &str)> =
        listen.iter().map(String::as_str).zip(ours.iter().map(String::as_str)).collect();
    changes.extend([("interval = \"30s\"", "interval = \"200ms\""), ("timeout = \"5s\"", "timeout = \"2s\"")]);
    (example::home_of("jmake", &changes), ports)
}

/// What a daemon answers when it is asked for a tool.
fn tool(port: u16, name: &str) -> Value {
    let answer = Client::new(&format!("http://127.0.0.1:{port}"), "").get(&format!("/tool/{name}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

fn log(home: &Home, name: &str) -> String {
    home.json(&["worker", "logs", name]).0.to_string()
}

#[test]
fn all_start_with_one_command_are_shown_in_a_table_and_say_their_statistics_when_they_stop() {
    let (home, ports) = home();
    let status = up(&home);
    for (name, port) in DAEMONS.iter().zip(ports) {
        let daemon = worker(&status, name);
        assert_eq!((&daemon["phase"], &daemon["port"]), (&"running".into(), &port.into()), "{daemon}");
        assert_eq!(tool(port, "gcc")["pid"], daemon["pid"], "it answers at its own port");
    }
    let table = home.keeper(&["status"]).assert().success();
    let table = String::from_utf8_lossy(&table.get_output().stdout).into_owned();
    for (name, port) in DAEMONS.iter().zip(ports) {
        let row = table.lines().find(|line| line.contains(&format!("{name}/0"))).unwrap_or_else(|| panic!("{table}"));
        assert!(row.contains("running") && row.contains(&port.to_string()), "{row}");
    }
    assert_eq!(tool(ports[0], "gcc")["cached"], true);
    home.keeper(&["worker", "stop", "discovery"]).assert().success();
    let last_words = log(&home, "discovery");
    assert!(last_words.contains("[STATS] Served 2 requests, cache hits: 1"), "{last_words}");
    home.keeper(&["worker", "status", "discovery"]).assert().code(3);
    down(&home);
}

/// HIVE-19
#[test]
fn a_cache_outlives_restarts_and_a_stop_of_everything_until_it_is_dropped() {
    let (home, ports) = home();
    up(&home);
    assert_eq!(tool(ports[0], "gcc")["cached"], false);
    home.keeper(&["worker", "restart", "discovery"]).assert().success();
    assert_eq!(tool(ports[0], "gcc")["cached"], true, "a quick restart keeps it");
    down(&home);
    up(&home);
    assert_eq!(tool(ports[0], "gcc")["cached"], true, "so does a stop of all");
    home.keeper(&["worker", "restart", "discovery", "--clean"]).assert().success();
    assert_eq!(tool(ports[0], "gcc")["cached"], false, "a clean restart drops it");
    home.keeper(&["worker", "restart", "discovery"]).assert().success();
    assert_eq!(tool(ports[0], "gcc")["cached"], true, "and what comes after is kept again");
    // One that crashes loses what it had not saved, and nothing else.
    let crashed = worker(&home.status(), "discovery").clone();
    processes::crash(pid(&crashed));
    until_anew(&home, "discovery", incarnation(&crashed));
    assert_eq!(tool(ports[0], "gcc")["cached"], true);
    assert!(log(&home, "discovery").contains("[CACHE] Loaded from disk: 1 tools"));
    down(&home);
}

/// HIVE-19
#[test]
fn a_clean_restart_of_what_keeps_nothing_is_refused() {
    let home = Home::with_config(crate::SLEEPER);
    let before = up(&home);
    let (refused, code) = home.json(&["worker", "restart", "sleeper", "--clean"]);
    assert_eq!(code, 1, "{refused}");
    assert!(error_text(&refused).contains("{state_dir}"), "{refused}");
    assert_eq!(worker(&home.status(), "sleeper")["pid"], worker(&before, "sleeper")["pid"]);
    down(&home);
}

#[test]
fn restarts_under_load_refuse_and_cut_nobody() {
    let (home, ports) = home();
    let before = up(&home);
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for client in 0..4 {
            let (over, answered) = (&over, &answered);
            scope.spawn(move || {
                while !over.load(Ordering::Acquire) {
                    // Some take a while: they are in flight when the end comes.
                    tool(ports[2], if client == 0 { "slow-gcc" } else { "gcc" });
                    answered.fetch_add(1, Ordering::AcqRel);
                }
            });
        }
        wait::until("answers", SOON, || (answered.load(Ordering::Acquire) > 4).then_some(()));
        for _ in 0..3 {
            home.keeper(&["worker", "restart", "compilation"]).assert().success();
        }
        over.store(true, Ordering::Release);
    });
    let after = home.status();
    assert_eq!(worker(&after, "compilation")["incarnation"], 4);
    for name in ["discovery", "setup", "orchestrator"] {
        assert_eq!(worker(&after, name)["pid"], worker(&before, name)["pid"], "{name} was not touched");
    }
    // A second one beside it could not have its socket: that is said.
    home.keeper(&["worker", "restart", "compilation", "--rolling"])
        .assert()
        .code(1)
        .stderr(predicate::str::contains("fixed socket"));
    down(&home);
}

/// LIFE-16
#[test]
fn one_that_hangs_is_started_again_and_so_is_one_that_died() {
    let (home, ports) = home();
    let before = worker(&up(&home), "orchestrator").clone();
    assert!(processes::send(pid(&before), Signal::STOP));
    // Asked while it hangs: answered by the next one.
    assert_ne!(tool(ports[3], "gcc")["pid"], before["pid"]);
    let after = until_anew(&home, "orchestrator", incarnation(&before));
    assert_eq!(after["restarts"], 1, "{after}");
    processes::crash(pid(&after));
    assert_ne!(tool(ports[3], "gcc")["pid"], after["pid"]);
    let again = until_anew(&home, "orchestrator", incarnation(&after));
    assert_eq!(again["restarts"], 2, "{again}");
    down(&home);
}
