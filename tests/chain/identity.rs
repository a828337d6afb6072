//! PID files that lie: PROC-08, PROC-09, PROC-10, QUEEN-09.

use std::fs;
use std::process::{Child, Command};

use rbee_tests::home::Home;
use rbee_tests::processes;

use crate::{SLEEPER, down, error_text, pid, up};

/// A process of somebody else, ended with the test.
struct Stranger(Child);

impl Stranger {
    #[expect(clippy::disallowed_methods, reason = "a process that is not the product's")]
    fn new() -> Self {
        Self(Command::new("sleep").arg("3000").spawn().unwrap())
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // It may have ended already; then both have nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn with_pid_file(content: &str) -> Home {
    let home = Home::with_config(SLEEPER);
    fs::create_dir_all(home.path().join("run")).unwrap();
    fs::write(home.path().join("run/queen.pid"), content).unwrap();
    home
}

#[test]
fn the_pid_file_of_a_dead_process_is_stale_and_no_obstacle() {
    let mut stranger = Stranger::new();
    stranger.0.kill().unwrap();
    stranger.0.wait().unwrap();
    let home = with_pid_file(&format!("{}\n", stranger.0.id()));
    let (status, code) = home.json(&["queen", "status"]);
    assert_eq!((&status["phase"], code), (&"stale".into(), 1), "{status}");
    up(&home);
    down(&home);
}

#[test]
fn a_stranger_named_in_a_pid_file_is_never_signalled() {
    let stranger = Stranger::new();
    let content = format!("{}\n", stranger.0.id());
    for words in [&["queen", "stop"][..], &["queen", "kill"], &["down"], &["queen", "start"]] {
        let home = with_pid_file(&content);
        // Whatever the verb makes of it, the stranger lives.
        home.keeper(words).output().unwrap();
        assert!(processes::is_alive(stranger.0.id()), "{words:?}");
        home.keeper(&["down"]).output().unwrap();
        assert!(processes::is_alive(stranger.0.id()), "down after {words:?}");
    }
}

#[test]
fn garbage_and_what_cannot_be_read_are_told_and_kept() {
    let home = with_pid_file("not a number\n");
    let (answer, code) = home.json(&["queen", "stop"]);
    assert_ne!(code, 0, "{answer}");
    assert!(error_text(&answer).contains("queen.pid"), "{answer}");
    assert_eq!(fs::read_to_string(home.path().join("run/queen.pid")).unwrap(), "not a number\n");

    let home = with_pid_file("");
    let path = home.path().join("run/queen.pid");
    // A folder in its place cannot be read, not even by root.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let (answer, code) = home.json(&["queen", "stop"]);
    assert_ne!(code, 0, "{answer}");
    assert!(error_text(&answer).contains("queen.pid"), "{answer}");
    assert!(path.is_dir());
}

#[test]
fn a_second_queen_is_refused_and_told_who_is_there() {
    let home = Home::with_config(SLEEPER);
    let before = up(&home);
    let output = home.program("queen-rbee").output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(75), "{stderr}");
    assert!(stderr.contains(&pid(&before["queen"]).to_string()), "{stderr}");
    assert_eq!(pid(&home.status()["queen"]), pid(&before["queen"]));
    down(&home);
}
