//! Surroundings that make a start impossible: each a clear error, before anything is started. PROC-13, CONF-01.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use predicates::prelude::*;
use rbee_tests::home::{Home, binary};

use crate::{SLEEPER, error_text};

#[test]
fn an_unknown_key_is_told_with_its_line_and_the_nearest_name() {
    let home = Home::with_config("[worker.a]\ncomand = [\"sleep\", \"1\"]\n");
    let line = fs::read_to_string(home.path().join("rbee.toml")).unwrap().lines().count();
    for words in [&["config", "check"][..], &["up"], &["status"]] {
        home.keeper(words)
            .assert()
            .code(78)
            .stderr(predicate::str::contains("`comand`").and(predicate::str::contains("`command`")))
            .stderr(predicate::str::contains(format!("rbee.toml:{line}")));
    }
    assert_eq!(home.processes(), []);
}

#[test]
fn a_taken_port_is_named() {
    let home = Home::with_config(SLEEPER);
    let _holder = TcpListener::bind(("127.0.0.1", home.queen_port)).unwrap();
    let (answer, code) = home.json(&["up"]);
    assert!(matches!(code, 1 | 69), "{code}: {answer}");
    assert!(error_text(&answer).contains(&home.queen_port.to_string()), "{answer}");
    assert_eq!(home.processes(), []);
}

#[test]
fn a_missing_queen_binary_says_where_it_looked() {
    let home = Home::with_config(SLEEPER);
    let alone = home.path().join("bin");
    fs::create_dir(&alone).unwrap();
    fs::copy(binary("rbee-keeper"), alone.join("rbee-keeper")).unwrap();
    let mut keeper = assert_cmd::Command::new(alone.join("rbee-keeper"));
    keeper.env("RBEE_HOME", home.path()).env("PATH", "/usr/bin:/bin").args(["queen", "start"]);
    let looked_in = alone.display().to_string();
    keeper.assert().failure().stderr(predicate::str::contains("queen-rbee").and(predicate::str::contains(looked_in)));
}

#[test]
fn a_state_folder_that_cannot_be_written_is_named_and_nothing_starts() {
    let home = Home::with_config(SLEEPER);
    // A file in its place: like a read-only folder, but also for root.
    fs::write(home.path().join("state"), "").unwrap();
    let (answer, code) = home.json(&["up"]);
    assert_ne!(code, 0, "{answer}");
    assert!(error_text(&answer).contains("state"), "{answer}");
    assert_eq!(home.processes(), []);
}

#[test]
fn a_read_only_state_folder_is_named_and_nothing_starts() {
    let home = Home::with_config(SLEEPER);
    let state = home.path().join("state");
    fs::create_dir(&state).unwrap();
    let mut program = if may_mount(&state) {
        // Root writes anywhere but on a file system that is read-only.
        let mut unshare = assert_cmd::Command::new("unshare");
        let script = "mount -t tmpfs -o ro none \"$1\" && exec \"$2\" up --json";
        unshare.args(["--mount", "--", "sh", "-c", script, "sh"]).arg(&state).arg(binary("rbee-keeper"));
        unshare
    } else {
        let mut permissions = fs::metadata(&state).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&state, permissions).unwrap();
        if fs::write(state.join("probe"), "").is_ok() {
            eprintln!("SKIPPED: this user may write anywhere and may mount nothing");
            return;
        }
        home.keeper(&["up", "--json"])
    };
    let output = program.env("RBEE_HOME", home.path()).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success(), "{stdout}");
    assert!(stdout.contains(&state.display().to_string()), "{stdout} {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(home.processes(), []);
}

fn may_mount(folder: &Path) -> bool {
    let mut unshare = assert_cmd::Command::new("unshare");
    unshare.args(["--mount", "--", "mount", "-t", "tmpfs", "-o", "ro", "none"]).arg(folder);
    unshare.output().is_ok_and(|output| output.status.success())
}
