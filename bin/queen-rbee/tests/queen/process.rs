//! The binary: command line, exit codes, signals.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{ONE_WORKER, TestQueen};

fn command(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_queen-rbee"));
    command.env_clear().env("RBEE_HOME", home).args(["run", "--listen", "127.0.0.1:0"]);
    command
}

#[expect(clippy::disallowed_methods, reason = "the test's subject is this process")]
fn ends(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn config(home: &Path, text: &str) {
    std::fs::write(home.join("rbee.toml"), text).unwrap();
}

#[test]
fn help_and_version_say_what_there_is() {
    for (arg, says) in [("--help", "Examples:"), ("--version", env!("CARGO_PKG_VERSION"))] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_queen-rbee"));
        command.arg(arg);
        #[expect(clippy::disallowed_methods, reason = "the test's subject is this process")]
        let output = command.output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains(says));
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_queen-rbee"));
    command.arg("--colour");
    assert_eq!(ends(command).0, Some(64));
}

#[test]
fn a_bad_configuration_is_named_with_its_line() {
    let home = tempfile::tempdir().unwrap();
    config(home.path(), "[hive]\nauto_start = false\n[worker.w]\ncomand = [\"x\"]\n");
    let (code, stderr) = ends(command(home.path()));
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("error: ") && stderr.contains("rbee.toml:4") && stderr.contains("`command`"), "{stderr}");
    assert!(stderr.contains("hint: "), "{stderr}");

    let mut missing = command(home.path());
    missing.args(["--config", "/no/such/rbee.toml"]);
    assert_eq!(ends(missing).0, Some(78));
}

#[test]
fn a_home_that_cannot_be_used_is_an_error_at_once() {
    let home = tempfile::tempdir().unwrap();
    config(home.path(), "[hive]\nauto_start = false\n");
    std::fs::write(home.path().join("state"), "a file").unwrap();
    let (code, stderr) = ends(command(home.path()));
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains(&home.path().join("state").display().to_string()), "{stderr}");

    let home = tempfile::tempdir().unwrap();
    config(home.path(), "[hive]\nauto_start = false\n");
    std::fs::create_dir_all(home.path().join("state/queen.sqlite")).unwrap();
    let (code, stderr) = ends(command(home.path()));
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("queen.sqlite"), "{stderr}");
}

#[test]
fn a_taken_port_names_its_holder() {
    let home = tempfile::tempdir().unwrap();
    config(home.path(), "[hive]\nauto_start = false\n");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut second = Command::new(env!("CARGO_BIN_EXE_queen-rbee"));
    second.env_clear().env("RBEE_HOME", home.path()).args(["--listen", &taken.local_addr().unwrap().to_string()]);
    let (code, stderr) = ends(second);
    assert_eq!(code, Some(75), "{stderr}");
    assert!(stderr.contains(&format!("pid {}", std::process::id())) && stderr.contains("hint: "), "{stderr}");
}

#[tokio::test]
async fn a_second_queen_is_refused_and_told_who_the_first_is() {
    let home = tempfile::tempdir().unwrap();
    let first = TestQueen::start(home.path(), "", ONE_WORKER).await;
    first.until("it lives", |_| true).await;
    config(home.path(), "[hive]\nauto_start = false\n");
    let second = command(home.path());
    let (code, stderr) = tokio::task::spawn_blocking(move || ends(second)).await.unwrap();
    assert_eq!(code, Some(75), "{stderr}");
    assert!(stderr.contains(&format!("(pid {})", std::process::id())), "{stderr}");
    assert!(first.control.status().await.is_ok(), "the first one is not disturbed");
    first.stop().await;
}

#[test]
fn a_signal_ends_it_well() {
    let home = tempfile::tempdir().unwrap();
    config(home.path(), "[hive]\nauto_start = false\n");
    let mut command = command(home.path());
    command.stderr(Stdio::piped());
    #[expect(clippy::disallowed_methods, reason = "the test's subject is this process")]
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("queen is ready")));
    let mut kill = Command::new("kill");
    kill.args(["-TERM", &child.id().to_string()]);
    assert_eq!(ends(kill).0, Some(0));
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(child.wait().unwrap().success(), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("queen ends")), "{rest:?}");
    assert!(!home.path().join("run/queen-rbee.lock").exists());
}
