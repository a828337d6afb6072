//! What a manager promises of a daemon that behaves.

use std::sync::Barrier;

use daemon_lifecycle::{DaemonStatus, Probe, Readiness, StopSignal};

use crate::scene::{Scene, kill9, refused, runs};

#[test]
fn start_status_stop_leave_what_they_promise() {
    let scene = Scene::new();
    let manager = scene.manager(&["--notify"]).with_readiness(Readiness::Notify);
    assert_eq!(manager.status().unwrap(), DaemonStatus::Stopped);
    assert_eq!(manager.get_pid().unwrap(), None);

    let pid = manager.start().unwrap();
    assert!(runs(pid));
    assert_eq!(manager.status().unwrap(), DaemonStatus::Running(pid));
    assert_eq!(manager.get_pid().unwrap(), Some(pid));
    assert!(manager.is_running());
    assert_eq!(scene.text("run/it.pid"), format!("{pid}\n"));
    manager.wait_ready(0).unwrap();

    manager.stop().unwrap();
    assert!(!runs(pid));
    assert_eq!(scene.text("out.log"), "stopping\n", "it was asked politely");
    assert_eq!(manager.status().unwrap(), DaemonStatus::Stopped);
    assert!(!manager.is_running());
    assert_eq!(scene.files("run"), [""; 0], "no PID file, no state, no socket, no lock");
    manager.stop().unwrap();
}

#[test]
fn a_second_start_finds_the_first() {
    let scene = Scene::new();
    let manager = scene.manager(&[]);
    let pid = manager.start().unwrap();
    assert_eq!(manager.start().unwrap(), pid);
    assert_eq!(scene.manager(&["--other"]).start().unwrap(), pid);
    manager.stop().unwrap();
}

/// PROC-06
#[test]
fn many_starts_at_once_yield_one_daemon() {
    let scene = Scene::new();
    let count = scene.path("count").display().to_string();
    let at_once = Barrier::new(8);
    let pids: Vec<u32> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    let manager = scene
                        .manager(&["--notify", "--ready-after-ms", "100", "--count-file", &count])
                        .with_readiness(Readiness::Notify);
                    at_once.wait();
                    manager.start().unwrap()
                })
            })
            .collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert_eq!(scene.counted().len(), 1);
    assert!(pids.iter().all(|pid| *pid == scene.counted()[0]), "{pids:?}");
    scene.manager(&[]).stop().unwrap();
}

#[test]
fn restart_gives_a_new_process() {
    let scene = Scene::new();
    let manager = scene.manager(&[]);
    let first = manager.start().unwrap();
    let second = manager.restart().unwrap();
    assert_ne!(first, second);
    assert!(!runs(first) && runs(second));
    manager.stop().unwrap();
}

/// PROC-07
#[test]
fn what_ignores_the_polite_signal_is_killed_after_the_timeout_with_its_children() {
    let scene = Scene::new();
    let mut config = scene.config(crate::scene::unruly(), &["--ignore-term", "--fork-child", "--notify"]);
    config.shutdown_timeout_secs = 1;
    let manager = daemon_lifecycle::DaemonManager::new(config)
        .with_log_file(scene.path("out.log"))
        .with_readiness(Readiness::Notify);
    let pid = manager.start().unwrap();
    let child = scene.child_logged("out.log");
    assert!(runs(child));
    manager.stop().unwrap();
    assert!(!runs(pid));
    assert!(!runs(child), "its child went with it");
    assert_eq!(scene.files("run"), [""; 0]);
}

#[test]
fn kill_does_not_ask() {
    let scene = Scene::new();
    let manager = scene.manager(&["--fork-child", "--notify"]).with_readiness(Readiness::Notify);
    let pid = manager.start().unwrap();
    let child = scene.child_logged("out.log");
    manager.kill().unwrap();
    assert!(!runs(pid) && !runs(child));
    assert!(!scene.text("out.log").contains("stopping"));
    assert_eq!(scene.files("run"), [""; 0]);
}

#[test]
fn a_child_that_outlives_its_daemon_is_ended_with_the_stale_files() {
    let scene = Scene::new();
    let manager = scene.manager(&["--fork-child", "--notify"]).with_readiness(Readiness::Notify);
    let pid = manager.start().unwrap();
    let child = scene.child_logged("out.log");
    kill9(pid);
    wait_until_stale(&manager, pid);
    assert!(runs(child));
    manager.cleanup_stale().unwrap();
    assert!(!runs(child));
    assert_eq!(scene.files("run"), [""; 0]);
}

/// A pidfd would do, but this is what a user of the manager can do.
fn wait_until_stale(manager: &daemon_lifecycle::DaemonManager, pid: u32) {
    while manager.status().unwrap() != DaemonStatus::Stale(pid) {
        std::thread::yield_now();
    }
}

#[test]
fn another_stop_signal_is_sent_where_it_is_asked_for() {
    let scene = Scene::new();
    let manager = scene.manager(&["--notify"]).with_readiness(Readiness::Notify).with_stop_signal(StopSignal::Int);
    manager.start().unwrap();
    manager.stop().unwrap();
    assert_eq!(scene.text("out.log"), "stopping\n");
}

#[test]
fn readiness_by_notify_is_waited_for() {
    let scene = Scene::new();
    let args = ["--notify", "--ready-after-ms", "300"];
    let manager = scene.manager(&args).with_readiness(Readiness::Notify);
    let begun = std::time::Instant::now();
    manager.start().unwrap();
    assert!(begun.elapsed().as_millis() >= 300);
    assert_eq!(scene.files("run"), ["it.lock", "it.pid", "it.state"], "the notify socket is gone again");
    manager.stop().unwrap();
}

/// PROC-15
#[test]
fn an_inherited_socket_answers_and_a_probe_finds_it() {
    let scene = Scene::new();
    let manager = scene
        .manager(&["--inherited"])
        .with_listen(([127, 0, 0, 1], 0).into())
        .with_readiness(Readiness::Probe(Probe::Http { address: None, path: "/health".to_owned() }));
    manager.start().unwrap();
    let address = manager.listen_address().unwrap().unwrap();
    assert_ne!(address.port(), 0);
    std::net::TcpStream::connect(address).unwrap();
    manager.stop().unwrap();
    refused(address);
}

#[test]
fn nothing_but_what_is_given_is_inherited() {
    let scene = Scene::new();
    let _ours = std::fs::File::open("/dev/zero").unwrap();
    let args = ["--print-fds", "--print-cwd", "--print-env", "GIVEN", "--print-env", "HOME", "--notify"];
    let mut config = scene.config(crate::scene::unruly(), &args);
    config.env.insert("GIVEN".to_owned(), "this one".to_owned());
    config.working_dir = Some("/".into());
    let manager = daemon_lifecycle::DaemonManager::new(config)
        .with_log_file(scene.path("out.log"))
        .with_clean_env()
        .with_readiness(Readiness::Notify);
    manager.start().unwrap();
    let log = scene.text("out.log");
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines[..3], ["GIVEN=this one", "HOME=", "/"]);
    let out = format!("={}", scene.path("out.log").display());
    let fds: Vec<&str> = lines[3].split(' ').collect();
    assert!(fds.contains(&"0=/dev/null"), "{fds:?}");
    assert_eq!(fds.iter().filter(|fd| fd.ends_with(&out)).count(), 2, "{fds:?}");
    assert!(!log.contains("/dev/zero") && !log.contains("it.lock"), "{fds:?}");
    manager.stop().unwrap();
}
