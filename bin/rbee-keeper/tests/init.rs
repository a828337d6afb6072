//! `config init`: by flags, by answers on a terminal, and what stays as it is. ADVI-01, ADVI-04.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::Stdio;

use assert_cmd::Command;
use nix::pty::openpty;
use predicates::prelude::*;

fn keeper(home: &Path) -> Command {
    let mut command = Command::cargo_bin("rbee-keeper").unwrap();
    command.env_clear().env("PATH", "/usr/bin:/bin").env("RBEE_HOME", home);
    command
}

fn file(home: &Path) -> String {
    std::fs::read_to_string(home.join("rbee.toml")).unwrap()
}

/// `config init` at a terminal, where these lines are typed; whether it went well, and what the terminal showed.
#[expect(clippy::disallowed_methods, reason = "a program at a terminal of its own")]
fn at_a_terminal(home: &Path, flags: &[&str], lines: &str) -> (bool, String) {
    let pty = openpty(None, None).unwrap();
    let end = |fd: &std::os::fd::OwnedFd| Stdio::from(fd.try_clone().unwrap());
    let mut command = std::process::Command::new(assert_cmd::cargo::cargo_bin("rbee-keeper"));
    command.args(["config", "init", "--no-color"]).args(flags).env_clear().env("RBEE_HOME", home);
    let mut child = command.stdin(end(&pty.slave)).stdout(end(&pty.slave)).stderr(end(&pty.slave)).spawn().unwrap();
    drop((command, pty.slave));
    let mut terminal = File::from(pty.master);
    terminal.write_all(lines.as_bytes()).unwrap();
    let mut shown = Vec::new();
    // The last one at a terminal gone is an error to its reader.
    let _ = terminal.read_to_end(&mut shown);
    (child.wait().unwrap().success(), String::from_utf8_lossy(&shown).into_owned())
}

/// ADVI-01
#[test]
fn every_role_and_profile_is_written_checked_and_written_once() {
    for role in ["master", "worker", "leecher"] {
        for profile in ["full", "minimal", "mine"] {
            for models in [&["--no-model"][..], &["--model", "smollm2", "--model", "b=https://example.org/b.gguf"]] {
                let home = tempfile::tempdir().unwrap();
                let words = [&["config", "init", "--role", role, "--profile", profile], models].concat();
                keeper(home.path()).args(&words).assert().success();
                keeper(home.path())
                    .args(["config", "check"])
                    .assert()
                    .success()
                    .stderr(predicate::str::contains("is sound"));
                keeper(home.path())
                    .args(&words)
                    .assert()
                    .success()
                    .stderr(predicate::str::contains("is there already"));
                keeper(home.path()).args(["config", "init", "--yes"]).assert().code(1);
            }
        }
    }
}

/// ADVI-04
#[test]
fn empty_answers_take_the_defaults() {
    let (asked, told) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (done, shown) = at_a_terminal(asked.path(), &[], &"\n".repeat(7));
    assert!(done, "{shown}");
    keeper(told.path()).args(["config", "init", "--yes"]).assert().success();
    assert_eq!(file(asked.path()), file(told.path()));
    assert!(file(told.path()).contains("role = \"master\""));
    assert!(shown.lines().all(|line| line.chars().count() <= 80 + asked.path().as_os_str().len()), "{shown}");
}

/// ADVI-04
#[test]
fn what_flags_say_is_not_asked_and_nonsense_is_asked_again() {
    let home = tempfile::tempdir().unwrap();
    let answers = "elsewhere\nnone\nattic/1\nattic\n\nnone\n";
    let (done, shown) = at_a_terminal(home.path(), &["--role", "worker"], answers);
    assert!(done, "{shown}");
    assert!(!shown.contains("What is this machine?"), "{shown}");
    assert!(shown.contains("write it like http://10.0.0.5:7833") && shown.contains("1 to 64 letters"), "{shown}");
    let text = file(home.path());
    assert!(text.contains("role = \"worker\"") && text.contains("name = \"attic\""), "{text}");
    keeper(home.path()).args(["config", "check"]).assert().success();
}

/// ADVI-04
#[test]
fn answers_that_end_or_never_make_sense_write_nothing() {
    let home = tempfile::tempdir().unwrap();
    for (lines, why) in [("worker\n\x04", "the answers ended"), (&"x\n".repeat(5), "5 answers that make no sense")] {
        let (done, shown) = at_a_terminal(home.path(), &[], lines);
        assert!(!done && shown.contains(why), "{shown}");
        assert!(!home.path().join("rbee.toml").exists());
    }
    // A file in the way is told before anybody answers anything.
    std::fs::write(home.path().join("rbee.toml"), "role = \"leecher\"\n").unwrap();
    let (done, shown) = at_a_terminal(home.path(), &[], "");
    assert!(!done && shown.contains("--force") && !shown.contains('?'), "{shown}");
}

#[test]
fn flags_that_make_no_sense_are_usage() {
    let home = tempfile::tempdir().unwrap();
    for (words, why) in [
        (&["--role", "queen"][..], "master, worker or leecher"),
        (&["--model", "llama"], "is no model"),
        (&["--model", "smollm2", "--model", "smollm2"], "two models are called"),
        (&["--listen", "everywhere"], "loopback, network, or an address"),
        (&["--name", "a/b"], "1 to 64 letters"),
        (&["--slots", "0"], "from 1 to 256"),
    ] {
        keeper(home.path())
            .args([&["config", "init"], words].concat())
            .assert()
            .code(64)
            .stderr(predicate::str::contains(why));
        assert!(!home.path().join("rbee.toml").exists());
    }
}
