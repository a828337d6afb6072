//! Workers that do not get ready: each is told with its reason and its last words, and disturbs nobody. HIVE-07,
//! PROC-11, PROC-12.

use rbee_tests::home::Home;
use serde_json::Value;

use crate::{SLEEPER, down, error_text, pid};

const NO_RESTARTS: &str = "restart = { policy = \"never\" }\n";

/// `up` with a sleeper and the worker given; it must fail, leave the sleeper running, and name the reason.
fn up_fails(home: &Home, name: &str) -> (Value, Value) {
    let (answer, code) = home.json(&["up"]);
    assert_eq!(code, 1, "{answer}");
    let status = home.status();
    let workers = status["hives"][0]["workers"].as_array().unwrap_or_else(|| panic!("no workers in {status}"));
    let find = |name: &str| {
        workers.iter().find(|worker| worker["name"] == name).unwrap_or_else(|| panic!("no {name} in {status}"))
    };
    assert_eq!(find("sleeper")["phase"], "running", "{status}");
    (answer, find(name).clone())
}

#[test]
fn a_worker_that_never_gets_ready_is_told_with_its_last_lines() {
    let home = Home::with_config(&format!(
        "{SLEEPER}[worker.moon]\ncommand = [\"sh\", \"-c\", \"echo waiting for the moon; exec sleep 1000\"]\nready = \"tcp\"\n\
         start_timeout = \"1s\"\n{NO_RESTARTS}"
    ));
    let (answer, worker) = up_fails(&home, "moon");
    assert!(error_text(&answer).contains("waiting for the moon"), "{answer}");
    assert_eq!(worker["phase"], "failed", "{worker}");
    assert!(worker["reason"].is_string(), "{worker}");
    assert!(
        !home.processes().iter().any(|process| process.command == "sleep 1000" && process.pid == pid_or_0(&worker))
    );
    down(&home);
}

fn pid_or_0(worker: &Value) -> u32 {
    if worker["pid"].is_null() { 0 } else { pid(worker) }
}

#[test]
fn a_worker_that_crashes_at_start_is_told_with_its_last_lines() {
    let home = Home::with_config(&format!(
        "{SLEEPER}[worker.broken]\ncommand = [\"sh\", \"-c\", \"echo no such device >&2; exit 3\"]\nready = \"tcp\"\n{NO_RESTARTS}"
    ));
    let (answer, worker) = up_fails(&home, "broken");
    let text = error_text(&answer);
    assert!(text.contains("no such device") && text.contains('3'), "{answer}");
    assert_eq!(worker["phase"], "failed", "{worker}");
    let (answer, code) = home.json(&["worker", "start", "broken"]);
    assert_eq!(code, 1, "{answer}");
    assert!(error_text(&answer).contains("no such device"), "{answer}");
    down(&home);
}

#[test]
fn a_missing_binary_is_unavailable_and_says_where_it_looked() {
    let home = Home::with_config(&format!(
        "{SLEEPER}[worker.absent]\ncommand = [\"no-such-program\", \"x\"]\nready = \"started\"\n"
    ));
    let (answer, worker) = up_fails(&home, "absent");
    assert_eq!(worker["phase"], "unavailable", "{worker}");
    for text in [error_text(&answer), worker["reason"].to_string()] {
        assert!(text.contains("no-such-program"), "{text}");
    }
    assert!(worker["reason"].as_str().unwrap().contains("/usr/bin"), "where it looked: {worker}");
    down(&home);
}

#[test]
fn a_missing_model_file_is_unavailable_and_named() {
    let home = Home::empty();
    let absent = home.path().join("absent.gguf");
    home.write_config(&format!(
        "{SLEEPER}[model.m]\nsource = \"file:{}\"\n\n[worker.m]\nmodel = \"m\"\n",
        absent.display()
    ));
    let (answer, code) = home.json(&["up"]);
    assert_eq!(code, 1, "{answer}");
    assert!(error_text(&answer).contains("absent.gguf"), "{answer}");
    let (answer, code) = home.json(&["model", "pull", "m"]);
    assert_eq!(code, 1, "{answer}");
    assert!(error_text(&answer).contains("absent.gguf"), "{answer}");
    down(&home);
}

#[test]
fn a_model_of_the_wrong_content_is_refused_with_both_digests() {
    let home = Home::empty();
    let file = home.path().join("model.gguf");
    std::fs::write(&file, "abc").unwrap();
    let (wanted, actual) = ("0".repeat(64), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    home.write_config(&format!("[model.m]\nsource = \"file:{}\"\nsha256 = \"{wanted}\"\n", file.display()));
    let (answer, code) = home.json(&["model", "pull", "m"]);
    assert_eq!(code, 1, "{answer}");
    assert!(error_text(&answer).contains(&wanted) && error_text(&answer).contains(actual), "{answer}");
    assert!(file.exists(), "a file of the user's is never removed");
}
