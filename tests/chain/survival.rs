//! kill -9 of any tier leaves the others as they are, and `down` leaves nothing: PROC-03, HIVE-08, QUEEN-08, KEEP-05,
//! KEEP-06. With a worker that is not ours; the end-to-end scenarios do the same with the engine.

use std::thread;
use std::time::Duration;

use rbee_tests::home::Home;
use rbee_tests::{ports, processes, wait};
use serde_json::Value;

use crate::{SLEEPER, down, pid, up, worker};

const BACK_WITHIN: Duration = Duration::from_secs(60);

/// Waits for a tree that is running and as wanted.
fn until(home: &Home, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    wait::until(what, BACK_WITHIN, || {
        let status = home.status();
        let all_run =
            [&status["queen"], &status["hives"][0], worker(&status)].iter().all(|tier| tier["phase"] == "running");
        (all_run && wanted(&status)).then_some(status)
    })
}

#[test]
fn a_killed_worker_comes_back_as_a_new_incarnation() {
    let home = Home::with_config(SLEEPER);
    let before = up(&home);
    processes::crash(pid(worker(&before)));
    let after = until(&home, "a new incarnation", |status| worker(status)["incarnation"].as_u64() > Some(1));
    assert_ne!(pid(worker(&after)), pid(worker(&before)));
    assert_eq!(worker(&after)["restarts"], 1);
    assert_eq!(pid(&after["hives"][0]), pid(&before["hives"][0]));
    down(&home);
}

#[test]
fn a_killed_hive_comes_back_and_adopts() {
    let home = Home::with_config(SLEEPER);
    let before = up(&home);
    processes::crash(pid(&before["hives"][0]));
    let after = until(&home, "a new hive", |status| pid(&status["hives"][0]) != pid(&before["hives"][0]));
    assert_eq!(pid(worker(&after)), pid(worker(&before)));
    assert_eq!(worker(&after)["incarnation"], 1);
    assert_eq!(pid(&after["queen"]), pid(&before["queen"]));
    // Adopted means watched: its death is seen by the new hive.
    processes::crash(pid(worker(&after)));
    until(&home, "a new incarnation", |status| worker(status)["incarnation"].as_u64() > Some(1));
    down(&home);
}

#[test]
fn a_killed_queen_leaves_everything_and_her_successor_adopts() {
    let home = Home::with_config(SLEEPER);
    let before = up(&home);
    processes::crash(pid(&before["queen"]));
    home.keeper(&["status"]).assert().code(1);
    let answers: Vec<(Value, i32)> = thread::scope(|scope| {
        let starts: Vec<_> = (0..2).map(|_| scope.spawn(|| home.json(&["queen", "start"]))).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    let after = until(&home, "the new queen's tree", |status| pid(&status["queen"]) != pid(&before["queen"]));
    for (answer, code) in &answers {
        assert_eq!((answer["pid"].as_u64(), *code), (Some(pid(&after["queen"]).into()), 0), "{answer}");
    }
    assert_eq!(pid(&after["hives"][0]), pid(&before["hives"][0]));
    assert_eq!(pid(worker(&after)), pid(worker(&before)));
    down(&home);
}

#[test]
fn down_after_the_supervisors_were_killed_leaves_nothing() {
    let home = Home::with_config(SLEEPER);
    let status = up(&home);
    // Queen first: nobody starts the hive again.
    processes::crash(pid(&status["queen"]));
    processes::crash(pid(&status["hives"][0]));
    assert!(processes::is_alive(pid(worker(&status))));
    down(&home);
}

#[test]
fn a_restarted_queen_leaves_what_is_below() {
    let home = Home::with_config(SLEEPER);
    let before = up(&home);
    home.keeper(&["queen", "restart"]).assert().success();
    let after = until(&home, "the new queen's tree", |status| pid(&status["queen"]) != pid(&before["queen"]));
    assert_eq!((pid(&after["hives"][0]), pid(worker(&after))), (pid(&before["hives"][0]), pid(worker(&before))));
    home.keeper(&["queen", "stop", "--keep-hives"]).assert().success();
    assert!(processes::is_alive(pid(&before["hives"][0])) && processes::is_alive(pid(worker(&before))));
    home.keeper(&["queen", "start"]).assert().success();
    until(&home, "the third queen's tree", |status| pid(worker(status)) == pid(worker(&before)));
    down(&home);
}

#[test]
fn grandchildren_end_with_their_worker() {
    let home = Home::with_config(
        "[worker.family]\ncommand = [\"sh\", \"-c\", \"sleep 2000 & exec sleep 1000\"]\nready = \"started\"\n",
    );
    up(&home);
    let sleeping = || home.processes().iter().filter(|process| process.command.starts_with("sleep")).count();
    wait::until("the grandchild", BACK_WITHIN, || (sleeping() == 2).then_some(()));
    home.keeper(&["worker", "stop", "family"]).assert().success();
    assert_eq!(sleeping(), 0);
    down(&home);
}

/// QUEEN-13
#[test]
fn a_queen_on_another_port_replaces_the_hive_and_touches_no_worker() {
    let mut home = Home::with_config(SLEEPER);
    let before = up(&home);
    home.keeper(&["queen", "stop", "--keep-hives"]).assert().success();
    home.queen_port = ports::free();
    home.write_config(SLEEPER);
    let after = up(&home);
    assert_ne!(pid(&after["hives"][0]), pid(&before["hives"][0]));
    assert_eq!(pid(worker(&after)), pid(worker(&before)));
    assert_eq!(worker(&after)["incarnation"], 1);
    down(&home);
}
