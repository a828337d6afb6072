//! What outlives a supervisor that is killed, and what the next one makes of it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use daemon_lifecycle::{
    DaemonStatus, HealthProbe, Launch, Phase, Probe, Readiness, StopMode, Supervisor, SupervisorConfig,
    SupervisorError, UnitSpec,
};

use crate::scene::{Scene, kill9, runs, unruly};
use crate::supervisor::{open, unit, until};

/// A program around the library, with what it says.
pub struct Driver {
    pub child: Child,
    said: BufReader<std::process::ChildStdout>,
}

impl Driver {
    pub fn begin(scene: &Scene, verb: &str, options: &[&str]) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the test needs a supervisor it can kill")]
        let child = Command::new(env!("CARGO_BIN_EXE_driver"))
            .arg(verb)
            .arg(scene.path(""))
            .arg("--")
            .args(options)
            .stdout(Stdio::piped())
            .spawn();
        let mut child = child.unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    pub fn hears(&mut self) -> String {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// SIGKILL, and nothing of it is left afterwards.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The unit as the driver declares it.
pub fn declared(options: &[&str]) -> UnitSpec {
    let mut spec = UnitSpec::new("it", Launch::new(unruly(), options.iter().copied()));
    spec.readiness = Readiness::Notify;
    spec.policy.restart.backoff_min_ms = 1;
    spec
}

/// A driver that supervises a running unit; its pid.
fn supervised(scene: &Scene, options: &[&str]) -> (Driver, u32) {
    let mut driver = Driver::begin(scene, "supervise", options);
    assert_eq!(driver.hears(), "accepted");
    let said = driver.hears();
    let pid = said.strip_prefix("running ").unwrap_or_else(|| panic!("{said}")).parse().unwrap();
    (driver, pid)
}

pub async fn gone(supervisor: &Supervisor, scene: &Scene) {
    supervisor.shutdown(StopMode::Graceful).await.unwrap();
    assert_eq!(scene.files("run"), [""; 0]);
}

/// PROC-03, PROC-04
#[tokio::test]
async fn a_killed_supervisor_disturbs_nobody_and_the_next_adopts_without_losing_a_line() {
    let scene = Scene::new();
    let options = ["--notify", "--print-every-ms", "1"];
    let (driver, pid) = supervised(&scene, &options);
    while !scene.text("logs/it.log").contains("tick 50\n") {
        std::thread::yield_now();
    }
    driver.kill();
    let until_then = scene.text("logs/it.log").lines().count();
    assert!(runs(pid));

    let supervisor = open(&scene).await;
    assert!(supervisor.snapshot().is_empty(), "nothing is anybody's before it is declared");
    supervisor.apply(vec![declared(&options)]).await.unwrap();
    let status = supervisor.settled("it").await.unwrap();
    assert_eq!((status.pid, status.phase, status.incarnation), (Some(pid), Phase::Running, 1));
    assert!(status.adopted && status.uptime().is_some());

    let mut follower = supervisor.follow("it", 0).await.unwrap();
    while scene.text("logs/it.log").lines().count() < until_then + 50 {
        follower.next().await.unwrap();
    }
    supervisor.stop("it", StopMode::Graceful).await.unwrap();
    assert_eq!(supervisor.settled("it").await.unwrap().phase, Phase::Stopped);
    let log = scene.text("logs/it.log");
    let ticks = log.lines().filter_map(|line| line.split_once("tick ")?.1.parse::<u64>().ok());
    let mut next = 0;
    for tick in ticks {
        assert_eq!(tick, next, "each line once, in its order");
        next += 1;
    }
    assert!(next > 100);
    assert!(log.ends_with("stopping\n"));
    gone(&supervisor, &scene).await;
}

/// PROC-14
#[tokio::test]
async fn the_exit_of_an_adopted_process_is_seen_with_its_code() {
    let scene = Scene::new();
    let (driver, pid) = supervised(&scene, &["--notify", "--code", "7"]);
    driver.kill();
    let supervisor = open(&scene).await;
    let mut spec = declared(&["--notify", "--code", "7"]);
    spec.policy.restart.restarts_max = 0;
    supervisor.apply(vec![spec]).await.unwrap();
    // Asked by somebody else, so for its supervisor it ends by itself.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), nix::sys::signal::Signal::SIGTERM).unwrap();
    let failed = until(&supervisor, "it", |unit| unit.phase == Phase::Failed).await;
    let reason = failed.reason.unwrap();
    assert!(reason.starts_with("ended with exit code 7"), "{reason}");
    assert_eq!(failed.log_tail, ["stopping"]);
    gone(&supervisor, &scene).await;
}

#[tokio::test]
async fn an_adopted_unit_is_restarted_and_killed_like_any_other() {
    let scene = Scene::new();
    let options = ["--notify", "--fork-child", "--ignore-term"];
    let (driver, first) = supervised(&scene, &options);
    let child = scene.child_logged("logs/it.log");
    driver.kill();
    let supervisor = open(&scene).await;
    supervisor.apply(vec![declared(&options)]).await.unwrap();
    kill9(first);
    let second = until(&supervisor, "it", |unit| unit.incarnation == 2 && unit.phase == Phase::Running).await;
    assert!(!runs(child), "its child went with it");
    assert!(!second.adopted);
    supervisor.kill("it").await.unwrap();
    supervisor.settled("it").await.unwrap();
    assert!(!runs(second.pid.unwrap()));
    gone(&supervisor, &scene).await;
}

#[tokio::test]
async fn what_died_while_nobody_looked_is_cleared_with_its_children() {
    let scene = Scene::new();
    let options = ["--notify", "--fork-child"];
    let (driver, pid) = supervised(&scene, &options);
    let child = scene.child_logged("logs/it.log");
    driver.kill();
    kill9(pid);
    while runs(pid) {
        std::thread::yield_now();
    }
    let supervisor = open(&scene).await;
    assert!(!runs(child));
    assert_eq!(scene.files("run"), ["logs.journal", "notify.sock", "supervisor.lock"]);
    supervisor.apply(vec![declared(&options)]).await.unwrap();
    supervisor.start("it").await.unwrap();
    let status = supervisor.settled("it").await.unwrap();
    assert_eq!((status.phase, status.incarnation), (Phase::Running, 2), "numbers go on");
    gone(&supervisor, &scene).await;
}

#[tokio::test]
async fn what_nobody_declares_any_more_is_stopped() {
    let scene = Scene::new();
    let (driver, pid) = supervised(&scene, &["--notify"]);
    driver.kill();
    let supervisor = open(&scene).await;
    assert!(runs(pid));
    supervisor.apply(vec![unit("other", &[])]).await.unwrap();
    supervisor.subscribe().wait_for(|units| !units.contains_key("it")).await.unwrap();
    assert!(!runs(pid));
    assert!(scene.text("logs/it.log").ends_with("stopping\n"), "politely");
    gone(&supervisor, &scene).await;
}

#[tokio::test]
async fn a_shutdown_before_anything_is_declared_stops_what_was_found() {
    let scene = Scene::new();
    let (driver, pid) = supervised(&scene, &["--notify"]);
    driver.kill();
    let supervisor = open(&scene).await;
    gone(&supervisor, &scene).await;
    assert!(!runs(pid));
}

#[tokio::test]
async fn a_changed_command_restarts_the_adopted() {
    let scene = Scene::new();
    let (driver, pid) = supervised(&scene, &["--notify"]);
    driver.kill();
    let supervisor = open(&scene).await;
    supervisor.apply(vec![declared(&["--notify", "--say", "changed"])]).await.unwrap();
    let status = until(&supervisor, "it", |unit| unit.incarnation == 2 && unit.phase == Phase::Running).await;
    assert_ne!(status.pid, Some(pid));
    assert!(!runs(pid));
    gone(&supervisor, &scene).await;
}

#[tokio::test]
async fn one_that_was_not_ready_yet_is_waited_for() {
    let scene = Scene::new();
    let count = scene.path("count").display().to_string();
    let ready = scene.path("ready").display().to_string();
    let options = ["--notify", "--ready-file", &ready, "--count-file", &count];
    let mut driver = Driver::begin(&scene, "supervise", &options);
    assert_eq!(driver.hears(), "accepted");
    while scene.counted().is_empty() {
        std::thread::yield_now();
    }
    driver.kill();
    let supervisor = open(&scene).await;
    supervisor.apply(vec![declared(&options)]).await.unwrap();
    assert_eq!(supervisor.snapshot()["it"].phase, Phase::Starting);
    std::fs::write(&ready, "").unwrap();
    let status = supervisor.settled("it").await.unwrap();
    assert_eq!((status.phase, status.pid), (Phase::Running, Some(scene.counted()[0])));
    gone(&supervisor, &scene).await;
}

#[tokio::test]
async fn detach_leaves_everything_to_the_next() {
    let scene = Scene::new();
    let first = open(&scene).await;
    let mut spec = unit("a", &["--inherited"]);
    spec.listen = Some(([127, 0, 0, 1], 0).into());
    first.apply(vec![spec.clone()]).await.unwrap();
    first.start("a").await.unwrap();
    let before = first.settled("a").await.unwrap();
    first.detach().await.unwrap();
    assert!(matches!(first.start("a").await, Err(SupervisorError::Closed)));
    assert!(runs(before.pid.unwrap()));

    let second = open(&scene).await;
    second.apply(vec![spec]).await.unwrap();
    let after = second.settled("a").await.unwrap();
    assert_eq!((after.pid, after.listen), (before.pid, before.listen));
    kill9(after.pid.unwrap());
    let again = until(&second, "a", |unit| unit.incarnation == 2 && unit.phase == Phase::Running).await;
    assert_eq!(again.listen, before.listen, "the port stays, even over two supervisors");
    gone(&second, &scene).await;
}

/// PROC-05
#[tokio::test]
async fn a_second_supervisor_is_told_who_is_there() {
    let scene = Scene::new();
    let (driver, pid) = supervised(&scene, &["--notify"]);
    let config = SupervisorConfig::new(scene.path("run"), scene.path("logs"));
    match Supervisor::open(config).await {
        Err(error @ SupervisorError::Locked { .. }) => {
            let (lock, pid) = (scene.path("run/supervisor.lock"), driver.child.id());
            let words = format!("{} is held by process {pid} since 2", lock.display());
            assert!(error.to_string().starts_with(&words), "{error}");
        }
        other => panic!("{other:?}"),
    }
    assert!(runs(pid));
    driver.kill();
    gone(&open(&scene).await, &scene).await;
}

#[tokio::test]
async fn a_state_file_that_says_nothing_never_costs_a_second_process() {
    let scene = Scene::new();
    let (driver, pid) = supervised(&scene, &["--notify"]);
    driver.kill();
    let state = scene.text("run/it.state");
    std::fs::write(scene.path("run/it.state"), "{").unwrap();
    let config = SupervisorConfig::new(scene.path("run"), scene.path("logs"));
    let error = Supervisor::open(config).await.unwrap_err();
    let SupervisorError::File { doing: "trust", source, .. } = &error else { panic!("{error:?}") };
    assert!(source.to_string().contains(&format!("process {pid} of unit it still runs")), "{source}");
    assert!(runs(pid));
    std::fs::write(scene.path("run/it.state"), state).unwrap();
    gone(&open(&scene).await, &scene).await;
    assert!(!runs(pid));

    // Without a process behind it, it is swept away.
    std::fs::create_dir_all(scene.path("run")).unwrap();
    std::fs::write(scene.path("run/it.state"), "").unwrap();
    std::fs::write(scene.path("run/it.pid"), format!("{}\n", std::process::id())).unwrap();
    let supervisor = open(&scene).await;
    assert_eq!(scene.files("run"), ["logs.journal", "notify.sock", "supervisor.lock"]);
    gone(&supervisor, &scene).await;
}

/// PROC-13
#[tokio::test]
async fn a_directory_that_cannot_be_written_is_refused() {
    let scene = Scene::new();
    let config = SupervisorConfig::new("/sys/kernel", scene.path("logs"));
    let error = Supervisor::open(config).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot lock /sys/kernel/supervisor.lock");
    let config = SupervisorConfig::new(scene.path("run"), "/sys/kernel");
    let supervisor = Supervisor::open(config).await.unwrap();
    let error = supervisor.apply(vec![unit("a", &[])]).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot log to /sys/kernel/a.log");
    gone(&supervisor, &scene).await;
}

/// PROC-02
#[tokio::test]
async fn a_supervisor_killed_at_any_moment_of_a_start_leaves_no_stranger() {
    for _ in 0..20 {
        let scene = Scene::new();
        let count = scene.path("count").display().to_string();
        let options = ["--notify", "--inherited", "--count-file", &count];
        let mut driver = Driver::begin(&scene, "supervise-probed", &options);
        // From here to the exec it takes some milliseconds; the kill falls anywhere in between.
        assert_eq!(driver.hears(), "accepted");
        driver.kill();
        let supervisor = open(&scene).await;
        // Its word that it is ready may have gone to the dead: its health has to do then.
        let mut spec = declared(&options);
        spec.listen = Some(([127, 0, 0, 1], 0).into());
        spec.health = Some(HealthProbe::new(Probe::Http { address: None, path: "/health".to_owned() }));
        supervisor.apply(vec![spec]).await.unwrap();
        supervisor.start("it").await.unwrap();
        let status = supervisor.settled("it").await.unwrap();
        assert_eq!(status.phase, Phase::Running);
        let alive: Vec<u32> = scene.counted().into_iter().filter(|pid| runs(*pid)).collect();
        assert_eq!(alive, [status.pid.unwrap()], "one process, and it is the known one");
        gone(&supervisor, &scene).await;
    }
}

/// PROC-02
#[test]
fn a_manager_killed_during_a_start_leaves_a_daemon_that_the_next_one_takes_over() {
    let scene = Scene::new();
    let count = scene.path("count").display().to_string();
    let ready = scene.path("ready").display().to_string();
    let options = ["--notify", "--ready-file", &ready, "--count-file", &count];
    let driver = Driver::begin(&scene, "start", &options);
    while scene.counted().is_empty() {
        std::thread::yield_now();
    }
    driver.kill();
    let pid = scene.counted()[0];
    let manager = scene.manager(&options).with_readiness(Readiness::Notify);
    assert_eq!(manager.status().unwrap(), DaemonStatus::Running(pid));
    assert!(manager.wait_ready(0).is_err(), "it runs but is not ready");
    std::fs::write(&ready, "").unwrap();
    assert_eq!(manager.start().unwrap(), pid);
    manager.stop().unwrap();
    assert!(!runs(pid));
}
