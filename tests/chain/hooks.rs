//! Commands of `on = { … }` in a chain of real daemons: what they get, what becomes of one that hangs, and that nobody waits for them.
//! HOOK-03, HOOK-05 to HOOK-08.

use std::fs;

use rbee_tests::home::Home;
use rbee_tests::openai::Client;
use rbee_tests::{processes, wait};
use serde_json::Value;

use crate::example::{SOON, incarnation, until_anew, worker};
use crate::{down, pid, up};

/// What the hive tells of, of this kind.
fn events(home: &Home, kind: &str) -> Vec<Value> {
    let hive = Client::new(&format!("http://127.0.0.1:{}", home.hive_port), "").with_token(&home.token());
    let answer = hive.get(&format!("/api/v1/events?since=0&kind={kind}"));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["events"].as_array().unwrap().clone()
}

fn lines(home: &Home, file: &str) -> Vec<String> {
    fs::read_to_string(home.path().join(file)).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn hooks_get_the_event_and_one_that_hangs_is_ended_while_the_worker_is_long_up_again() {
    let home = Home::with_config(
        "[hooks]\ntimeout = \"5s\"\n[on]\nrestarting = \"echo $RBEE_EVENT_DAEMON >>$RBEE_HOME/all\"\n\
         [worker.sleeper]\ncommand = [\"sleep\", \"1000\"]\nready = \"started\"\nrestart = { backoff_min = \"10ms\" }\n\
         on = { restarting = [\"cat >>$RBEE_HOME/one\", \"setsid sleep 1002 & sleep 1001\"] }\n\
         [worker.other]\ncommand = [\"sleep\", \"1003\"]\nready = \"started\"\nrestart = { backoff_min = \"10ms\" }\n",
    );
    let before = up(&home);
    let sleeper = worker(&before, "sleeper");
    processes::crash(pid(sleeper));
    processes::crash(pid(worker(&before, "other")));
    until_anew(&home, "sleeper", incarnation(sleeper));
    assert_eq!(events(&home, "hook-failed"), Vec::<Value>::new(), "the hook still hangs, and supervision went on");
    let failed = wait::until("the hook's end", SOON, || events(&home, "hook-failed").into_iter().next());
    assert_eq!(failed["daemon"], "sleeper/0");
    assert!(failed["cause"].as_str().unwrap().contains("was not done within 5 s, and was killed"), "{failed}");
    let left: Vec<_> =
        home.processes().into_iter().filter(|p| p.command.contains("sleep 100")).map(|p| p.command).collect();
    assert!(!left.iter().any(|command| command.ends_with("1001") || command.ends_with("1002")), "{left:?}");
    let told: Value = serde_json::from_str(&lines(&home, "one")[0]).unwrap();
    let restarts = events(&home, "restarting");
    let kept = restarts.iter().find(|event| event["daemon"] == "sleeper/0").unwrap();
    assert_eq!((&told["id"], &told["kind"]), (&kept["id"], &kept["kind"]), "the very event");
    assert!(told["cause"].as_str().unwrap().contains("signal 9"), "{told}");
    let all = wait::until("the hooks for all", SOON, || Some(lines(&home, "all")).filter(|all| all.len() == 2));
    assert!(all.contains(&"sleeper/0".to_owned()) && all.contains(&"other/0".to_owned()), "{all:?}");
    down(&home);
}

#[test]
fn a_hook_that_hangs_does_not_keep_anything_from_ending_and_a_reload_changes_hooks_without_a_restart() {
    let config =
        |on: &str| format!("[worker.sleeper]\ncommand = [\"sleep\", \"1000\"]\nready = \"started\"\non = {{ {on} }}\n");
    let home = Home::with_config(&config("restarting = \"true\""));
    let before = up(&home);
    home.write_config(&config("stopped = \"echo >$RBEE_HOME/began; exec sleep 1001\""));
    home.keeper(&["queen", "reload"]).assert().success();
    assert_eq!(worker(&home.status(), "sleeper")["pid"], worker(&before, "sleeper")["pid"]);
    home.keeper(&["worker", "stop", "sleeper"]).assert().success();
    wait::until("the hook", SOON, || home.path().join("began").exists().then_some(()));
    down(&home);
}

/// HOOK-05
#[test]
fn what_happens_to_a_hive_and_what_queen_does_is_run_for_once() {
    let home = Home::with_config(
        "[on]\nrunning = \"echo running $RBEE_EVENT_DAEMON >>$RBEE_HOME/all\"\nlease = \"grep -q joined && echo joined $RBEE_EVENT_HIVE >>$RBEE_HOME/all\"\n\
         [worker.sleeper]\ncommand = [\"sleep\", \"1000\"]\nready = \"started\"\n\
         on = { draining = \"echo draining $RBEE_EVENT_DAEMON >>$RBEE_HOME/all\" }\n",
    );
    up(&home);
    home.keeper(&["worker", "drain", "sleeper/0"]).assert().success();
    // Once each, wherever it is told of; the end of everything ends no hook before its time.
    let all = ["draining sleeper/0", "joined local", "running hive", "running queen", "running sleeper/0"];
    wait::until("all hooks", SOON, || (lines(&home, "all").len() >= all.len()).then_some(()));
    down(&home);
    let mut ran = lines(&home, "all");
    ran.sort();
    assert_eq!(ran, all);
}

/// HOOK-08
#[test]
fn a_hive_that_was_killed_leaves_no_hook_to_run_for_ever() {
    let home = Home::with_config(
        "[worker.sleeper]\ncommand = [\"sleep\", \"1000\"]\nready = \"started\"\n\
         on = { stopped = \"echo >$RBEE_HOME/began; exec sleep 1001\" }\n",
    );
    let before = up(&home);
    home.keeper(&["worker", "stop", "sleeper"]).assert().success();
    wait::until("the hook", SOON, || home.path().join("began").exists().then_some(()));
    processes::crash(pid(&before["hives"][0]));
    let is_hook = |process: &processes::Process| process.command == "sleep 1001";
    wait::until("its end", SOON, || (!home.processes().iter().any(is_hook)).then_some(()));
    down(&home);
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_runs() {
    let home = Home::with_config("[worker.a]\ncommand = [\"true\"]\non = { faild = \"mail\" }\n");
    home.keeper(&["config", "check"]).assert().code(78).stderr(predicates::str::contains("`failed`"));
}
