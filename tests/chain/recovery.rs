//! A queen that crashed is started by whoever needs her: KEEP-11 to KEEP-13.

use std::time::Duration;

use rbee_tests::home::Home;
use rbee_tests::{processes, wait};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{SLEEPER, down, pid, up, worker};

const WITHIN: Duration = Duration::from_secs(60);

fn is_down(home: &Home, words: &[&str]) -> bool {
    let (error, code) = home.json(words);
    (error["error"]["code"].as_str(), code) == (Some("unreachable"), 69)
}

/// KEEP-11
#[test]
fn a_call_that_finds_queen_crashed_starts_her_and_is_answered() {
    let home = Home::with_config(SLEEPER);
    let before = up(&home);
    let mut queen = pid(&before["queen"]);
    for words in [&["worker", "list"] as &[_], &["worker", "restart", "sleeper"], &["hive", "list"]] {
        processes::crash(queen);
        let output = home.keeper(words).assert().success().get_output().clone();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&format!("queen (pid {queen}) has crashed")), "{said}");
        let now = pid(&home.status()["queen"]);
        assert_ne!(now, queen);
        queen = now;
    }
    let after = home.status();
    assert_eq!(pid(&after["hives"][0]), pid(&before["hives"][0]));
    assert_eq!(worker(&after)["incarnation"], 2, "restarted once");
    down(&home);
}

/// KEEP-12
#[test]
fn a_queen_that_shall_not_run_is_not_started() {
    let home = Home::with_config(SLEEPER);
    let before = up(&home);
    processes::crash(pid(&before["queen"]));
    assert!(is_down(&home, &["worker", "list", "--no-recover"]));
    let by_env = home.keeper(&["worker", "list"]).env("RBEE_NO_RECOVER", "1").output().unwrap();
    assert_eq!(by_env.status.code(), Some(69));
    home.write_config(&format!("[keeper]\nrecover = false\n\n{SLEEPER}"));
    assert!(is_down(&home, &["worker", "list"]));
    home.write_config(SLEEPER);

    home.keeper(&["queen", "start"]).assert().success();
    home.keeper(&["queen", "stop", "--keep-hives"]).assert().success();
    assert!(is_down(&home, &["worker", "list"]), "stopped");
    home.keeper(&["queen", "start"]).assert().success();
    home.keeper(&["queen", "kill"]).assert().success();
    assert!(is_down(&home, &["worker", "list"]), "killed by keeper");
    home.keeper(&["queen", "start"]).assert().success();
    let queen = pid(&home.status()["queen"]);
    assert!(processes::send(queen, Signal::TERM));
    processes::wait_gone(queen, WITHIN);
    assert!(is_down(&home, &["worker", "list"]), "told to end by somebody else");
    down(&home);
}

fn post(home: &Home, path: &str, key: &str, body: &Value) -> (u16, Value) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).proxy(None).build().into();
    let request = agent
        .post(format!("{}{path}", home.queen_url()))
        .content_type("application/json")
        .header("authorization", format!("Bearer {}", home.token()))
        .header("idempotency-key", key);
    let mut response = request.send(body.to_string()).unwrap();
    let text = response.body_mut().read_to_string().unwrap();
    (response.status().as_u16(), serde_json::from_str(&text).unwrap())
}

/// KEEP-13
#[test]
fn a_change_asked_for_twice_with_one_key_is_made_once() {
    let home = Home::with_config(SLEEPER);
    up(&home);
    let restart = |key: &str| post(&home, "/api/v1/workers/sleeper/restart", key, &json!({}));
    let incarnation = || worker(&home.status())["incarnation"].as_u64();
    let (status, first) = restart("one");
    assert_eq!((status, incarnation()), (200, Some(2)), "{first}");
    let (status, again) = restart("one");
    assert_eq!((status, incarnation(), &again["changed"]), (200, Some(2), &first["changed"]));
    // Over her death too, when nobody knows whether it was carried out.
    processes::crash(pid(&home.status()["queen"]));
    home.keeper(&["queen", "start"]).assert().success();
    wait::until("the worker is known again", WITHIN, || incarnation().filter(|number| *number == 2));
    assert_eq!((restart("one").0, incarnation()), (200, Some(2)));
    assert_eq!((restart("two").0, incarnation()), (200, Some(3)), "another key is another change");
    let (status, error) = post(&home, "/api/v1/workers/sleeper/stop", "two", &json!({}));
    assert_eq!((status, error["error"]["code"].as_str()), (409, Some("conflict")), "{error}");
    let (status, error) = post(&home, "/api/v1/workers/sleeper/stop", &"x".repeat(200), &json!({}));
    assert_eq!((status, error["error"]["code"].as_str()), (400, Some("invalid_parameter")), "{error}");
    assert_eq!(incarnation(), Some(3));
    down(&home);
}
