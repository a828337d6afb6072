//! What a manager says when things go wrong, and that it loses and touches nothing then.

use std::error::Error as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use daemon_lifecycle::{DaemonError, DaemonManager, DaemonStatus, Readiness};

use crate::scene::{Scene, kill9, runs, unruly};

fn start_failure(manager: &DaemonManager) -> (String, bool, Vec<String>) {
    match manager.start() {
        Err(DaemonError::StartFailed { reason, unavailable, log_tail, .. }) => (reason, unavailable, log_tail),
        other => panic!("{other:?}"),
    }
}

/// PROC-12
#[test]
fn a_crash_at_start_is_told_with_the_last_lines() {
    let scene = Scene::new();
    fs::write(scene.path("out.log"), "an older run\n").unwrap();
    let manager = scene
        .manager(&["--say", "loading", "--complain", "no memory", "--exit-after-ms", "0", "--code", "3"])
        .with_readiness(Readiness::Notify);
    assert_eq!(
        start_failure(&manager),
        ("ended with exit code 3".to_owned(), false, vec!["loading".to_owned(), "no memory".to_owned()])
    );
    assert!(
        matches!(manager.status().unwrap(), DaemonStatus::Failed(reason) if reason.ends_with("ended with exit code 3"))
    );
    assert_eq!(scene.files("run"), ["it.failed"]);
    manager.cleanup_stale().unwrap();
    assert_eq!(manager.status().unwrap(), DaemonStatus::Stopped);
    assert_eq!(scene.files("run"), [""; 0]);
}

#[test]
fn a_crash_by_a_signal_is_told_as_such() {
    let scene = Scene::new();
    let manager = scene.manager(&["--exit-after-ms", "0", "--abort"]).with_readiness(Readiness::Notify);
    assert_eq!(start_failure(&manager).0, "ended with signal 6");
}

/// PROC-12
#[test]
fn what_never_gets_ready_is_ended_and_told_with_the_last_lines() {
    let scene = Scene::new();
    let count = scene.path("count").display().to_string();
    let args = ["--notify", "--never-ready", "--fork-child", "--say", "still loading", "--count-file", &count];
    let mut config = scene.config(unruly(), &args);
    config.startup_timeout_secs = 1;
    let manager = DaemonManager::new(config).with_log_file(scene.path("out.log")).with_readiness(Readiness::Notify);
    match manager.start() {
        Err(DaemonError::Timeout { waiting_for, after_secs: 1, log_tail }) => {
            assert!(waiting_for.ends_with("unruly did not say that it is ready"), "{waiting_for}");
            assert_eq!(log_tail[0], "still loading");
        }
        other => panic!("{other:?}"),
    }
    assert!(!runs(scene.counted()[0]));
    assert!(!runs(scene.child_logged("out.log")));
    assert_eq!(scene.files("run"), ["it.failed"]);
}

/// PROC-11
#[test]
fn a_binary_that_cannot_be_run_is_told_in_its_own_words() {
    let scene = Scene::new();
    let failure = |binary: &str| {
        let manager = DaemonManager::new(scene.config(binary, &[]));
        let (reason, unavailable, _) = start_failure(&manager);
        assert!(unavailable, "trying again cannot help: {reason}");
        reason
    };
    let here = |name: &str| scene.path(name).display().to_string();
    let path = std::env::var("PATH").unwrap();
    let first_dir = path.split(':').next().unwrap();
    assert!(failure("no-such-daemon").starts_with(&format!("no-such-daemon was not found; looked in {first_dir}, ")));
    assert_eq!(failure(&here("none")), format!("{} does not exist", here("none")));
    assert_eq!(failure(&here("")), format!("{} is a directory, not a program", here("")));
    fs::write(scene.path("text"), "hello").unwrap();
    assert_eq!(failure(&here("text")), format!("{} is not executable", here("text")));
    let executable = |name: &str, content: &[u8]| {
        fs::write(scene.path(name), content).unwrap();
        fs::set_permissions(scene.path(name), fs::Permissions::from_mode(0o755)).unwrap();
        failure(&here(name))
    };
    assert!(executable("data", b"\x00\x01\x02").contains("is not a program this machine can run"));
    assert!(
        executable("script", b"#!/no/such/interpreter\n")
            .contains("what it names as its interpreter or loader, /no/such/interpreter, does not")
    );
    let mut config = scene.config(unruly(), &[]);
    config.working_dir = Some(scene.path("nowhere"));
    let reason = start_failure(&DaemonManager::new(config)).0;
    assert_eq!(reason, format!("{} does not exist", here("nowhere")));
    assert_eq!(scene.files("run"), ["it.failed"]);
}

#[test]
fn a_taken_port_is_told() {
    let scene = Scene::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let error = scene.manager(&[]).with_listen(address).start().unwrap_err();
    assert!(error.to_string().ends_with(&format!("did not start: cannot listen on {address}")), "{error}");
    assert!(error.source().unwrap().to_string().contains("in use"), "{error:?}");
}

/// PROC-08
#[test]
fn a_dead_daemon_is_stale_until_the_next_start() {
    let scene = Scene::new();
    let manager = scene.manager(&[]);
    let first = manager.start().unwrap();
    kill9(first);
    while runs(first) {
        std::thread::yield_now();
    }
    assert_eq!(manager.status().unwrap(), DaemonStatus::Stale(first));
    assert_eq!(manager.get_pid().unwrap(), None);
    assert!(matches!(manager.wait_ready(1), Err(DaemonError::ProcessNotFound { pid }) if pid == first));
    let second = manager.start().unwrap();
    assert_eq!(manager.status().unwrap(), DaemonStatus::Running(second));
    manager.stop().unwrap();
}

/// PROC-01, PROC-09
#[test]
fn a_pid_file_that_names_somebody_else_never_leads_to_a_signal() {
    let scene = Scene::new();
    let stranger = Scene::new().manager(&[]);
    let foreign = stranger.start().unwrap();
    let manager = scene.manager(&[]);

    // Without a state file: some other tool's, or an old one.
    fs::create_dir(scene.path("run")).unwrap();
    fs::write(scene.path("run/it.pid"), format!("{foreign}\n")).unwrap();
    assert_eq!(manager.status().unwrap(), DaemonStatus::Stale(foreign));
    manager.stop().unwrap();
    assert!(runs(foreign));
    assert_eq!(scene.files("run"), [""; 0]);

    // With the state of a process that had this number before.
    manager.start().unwrap();
    let state = scene.text("run/it.state");
    let own = manager.get_pid().unwrap().unwrap();
    let mut forged: serde_json::Value = serde_json::from_str(&state).unwrap();
    forged["process"]["pid"] = foreign.into();
    forged["process"]["start_time_ticks"] = 1.into();
    fs::write(scene.path("run/it.state"), forged.to_string()).unwrap();
    assert_eq!(manager.status().unwrap(), DaemonStatus::Stale(foreign));
    manager.kill().unwrap();
    assert!(runs(foreign), "another start time is another process");
    kill9(own);
    stranger.stop().unwrap();
}

/// PROC-10
#[test]
fn garbage_and_unreadable_pid_files_are_errors_of_their_own_and_stay() {
    let scene = Scene::new();
    let manager = scene.manager(&[]);
    fs::create_dir(scene.path("run")).unwrap();
    fs::write(scene.path("run/it.pid"), "not a pid").unwrap();
    for error in [manager.status().unwrap_err(), manager.start().unwrap_err(), manager.stop().unwrap_err()] {
        let text = error.to_string();
        assert!(text.contains("it.pid") && text.contains("it holds \"not a pid\", not a pid"), "{text}");
    }
    assert_eq!(scene.text("run/it.pid"), "not a pid");
    assert!(!manager.is_running());

    fs::remove_file(scene.path("run/it.pid")).unwrap();
    fs::create_dir(scene.path("run/it.pid")).unwrap();
    let error = manager.status().unwrap_err();
    assert!(error.to_string().ends_with("it cannot be read"), "{error}");
    assert!(error.source().is_some());

    fs::write(scene.path("run/it.state"), "{").unwrap();
    let error = manager.start().unwrap_err();
    assert!(error.to_string().contains("it.state: it holds no daemon's state"), "{error}");
}

/// PROC-13
#[test]
fn a_read_only_directory_is_refused_before_anything_starts() {
    let scene = Scene::new();
    let count = scene.path("count").display().to_string();
    let mut config = scene.config(unruly(), &["--count-file", &count]);
    // The one kind of directory that root cannot write to either.
    config.pid_file = "/sys/kernel/rbee.pid".into();
    match DaemonManager::new(config).start() {
        Err(DaemonError::PermissionDenied { doing, .. }) => assert_eq!(doing, "lock /sys/kernel/rbee.lock"),
        other => panic!("{other:?}"),
    }
    assert!(scene.counted().is_empty());
}
