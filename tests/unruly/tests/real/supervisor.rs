//! What a supervisor promises while it lives.

use std::time::Duration;

use daemon_lifecycle::{
    HealthProbe, Launch, Phase, Probe, Readiness, Restart, StopMode, Supervisor, SupervisorConfig, SupervisorError,
    UnitSpec, UnitStatus,
};

use crate::scene::{Scene, kill9, refused, runs, unruly};

pub async fn open(scene: &Scene) -> Supervisor {
    open_with(scene, |_| ()).await
}

pub async fn open_with(scene: &Scene, change: impl FnOnce(&mut SupervisorConfig)) -> Supervisor {
    let mut config = SupervisorConfig::new(scene.path("run"), scene.path("logs"));
    change(&mut config);
    Supervisor::open(config).await.unwrap()
}

/// `unruly` with these options, ready by notify, restarted after a millisecond.
pub fn unit(name: &str, args: &[&str]) -> UnitSpec {
    let args: Vec<&str> = ["--notify"].iter().chain(args).copied().collect();
    let mut spec = UnitSpec::new(name, Launch::new(unruly(), args));
    spec.readiness = Readiness::Notify;
    spec.policy.restart = Restart { backoff_min_ms: 1, backoff_max_ms: 2, ..Restart::default() };
    spec
}

/// Waits until the unit is as wished.
pub async fn until(supervisor: &Supervisor, unit: &str, is_wished: impl Fn(&UnitStatus) -> bool) -> UnitStatus {
    let mut units = supervisor.subscribe();
    let units = units.wait_for(|units| units.get(unit).is_some_and(|status| is_wished(status))).await.unwrap();
    (*units[unit]).clone()
}

pub async fn started(supervisor: &Supervisor, unit: &str) -> UnitStatus {
    supervisor.start(unit).await.unwrap();
    supervisor.settled(unit).await.unwrap()
}

pub async fn nothing_is_left(supervisor: &Supervisor, scene: &Scene) {
    supervisor.shutdown(StopMode::Graceful).await.unwrap();
    assert_eq!(scene.files("run"), [""; 0], "no PID file, no state, no socket, no FIFO, no lock");
}

#[tokio::test]
async fn a_unit_is_started_stopped_and_started_again() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    supervisor.apply(vec![unit("a.0", &["--say", "hello"])]).await.unwrap();
    assert_eq!(supervisor.snapshot()["a.0"].phase, Phase::Stopped);

    let first = started(&supervisor, "a.0").await;
    let pid = first.pid.unwrap();
    assert_eq!((first.phase, first.incarnation, first.ready, first.adopted), (Phase::Running, 1, true, false));
    assert!(runs(pid) && first.uptime().is_some());
    assert_eq!(scene.text("run/a.0.pid"), format!("{pid}\n"));

    supervisor.stop("a.0", StopMode::Graceful).await.unwrap();
    let stopped = supervisor.settled("a.0").await.unwrap();
    assert_eq!((stopped.phase, stopped.pid, stopped.reason), (Phase::Stopped, None, None));
    assert!(!runs(pid));
    let logs = supervisor.logs("a.0", 10).await.unwrap();
    assert!(logs[0].ends_with("Z out hello") && logs[1].ends_with("Z out stopping"), "{logs:?}");

    assert_eq!(started(&supervisor, "a.0").await.incarnation, 2);
    nothing_is_left(&supervisor, &scene).await;
    assert!(matches!(supervisor.start("a.0").await, Err(SupervisorError::Closed)));
}

/// PROC-33
#[tokio::test]
async fn one_that_stands_still_hears_that_it_shall_end() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    supervisor.apply(vec![unit("a.0", &[])]).await.unwrap();
    let pid = started(&supervisor, "a.0").await.pid.unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), nix::sys::signal::Signal::SIGSTOP).unwrap();
    supervisor.stop("a.0", StopMode::Graceful).await.unwrap();
    supervisor.settled("a.0").await.unwrap();
    let logs = supervisor.logs("a.0", 1).await.unwrap();
    assert!(logs[0].ends_with("out stopping"), "it ended in order: {logs:?}");
    nothing_is_left(&supervisor, &scene).await;
}

#[tokio::test]
async fn restart_and_kill_do_what_they_say() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    supervisor.apply(vec![unit("a", &[])]).await.unwrap();
    let first = started(&supervisor, "a").await;
    supervisor.restart("a").await.unwrap();
    let second = supervisor.settled("a").await.unwrap();
    assert_eq!((second.phase, second.incarnation, second.restarts), (Phase::Running, 2, 0));
    assert_ne!(first.pid, second.pid);

    supervisor.kill("a").await.unwrap();
    assert_eq!(supervisor.settled("a").await.unwrap().phase, Phase::Stopped);
    let logs = supervisor.logs("a", 10).await.unwrap();
    assert_eq!(logs.iter().filter(|line| line.ends_with("stopping")).count(), 1, "the second was not asked: {logs:?}");
    nothing_is_left(&supervisor, &scene).await;
}

#[tokio::test]
async fn a_crash_is_followed_by_a_new_incarnation_without_the_old_children() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    supervisor.apply(vec![unit("a", &["--fork-child"])]).await.unwrap();
    let first = started(&supervisor, "a").await;
    let child = scene.child_logged("logs/a.log");
    kill9(first.pid.unwrap());
    let second = until(&supervisor, "a", |unit| unit.incarnation == 2 && unit.phase == Phase::Running).await;
    assert_eq!(second.restarts, 1);
    assert!(!runs(child), "the first run's child is gone");
    nothing_is_left(&supervisor, &scene).await;
}

/// PROC-07
#[tokio::test]
async fn what_ignores_the_polite_signal_is_killed() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let mut spec = unit("a", &["--ignore-term", "--fork-child"]);
    spec.policy.stop_timeout_ms = 300;
    supervisor.apply(vec![spec]).await.unwrap();
    let pid = started(&supervisor, "a").await.pid.unwrap();
    let child = scene.child_logged("logs/a.log");
    supervisor.stop("a", StopMode::Graceful).await.unwrap();
    assert_eq!(supervisor.snapshot()["a"].phase, Phase::Stopping);
    assert_eq!(supervisor.settled("a").await.unwrap().phase, Phase::Stopped);
    assert!(!runs(pid) && !runs(child));
    nothing_is_left(&supervisor, &scene).await;
}

/// PROC-12
#[tokio::test]
async fn a_crash_at_start_ends_in_failed_with_its_last_lines() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let args = ["--never-ready", "--say", "loading", "--complain", "no memory", "--exit-after-ms", "0", "--code", "3"];
    let mut spec = unit("a", &args);
    spec.policy.restart.restarts_max = 2;
    supervisor.apply(vec![spec]).await.unwrap();
    let failed = started(&supervisor, "a").await;
    assert_eq!((failed.phase, failed.incarnation, failed.pid), (Phase::Failed, 3, None));
    assert_eq!(failed.log_tail, ["loading", "no memory"], "of the last run alone");
    let reason = failed.reason.unwrap();
    assert!(reason.starts_with("ended with exit code 3; gave up after 2 restarts"), "{reason}");
    nothing_is_left(&supervisor, &scene).await;
}

/// PROC-12
#[tokio::test]
async fn what_never_gets_ready_fails_with_its_last_lines() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let mut spec = unit("a", &["--never-ready", "--say", "still loading"]);
    spec.policy.start_timeout_ms = 300;
    spec.policy.restart.restarts_max = 0;
    supervisor.apply(vec![spec]).await.unwrap();
    let failed = started(&supervisor, "a").await;
    assert_eq!(failed.phase, Phase::Failed);
    assert_eq!(failed.log_tail, ["still loading", "stopping"]);
    assert!(failed.reason.unwrap().starts_with("not ready within 0.3 s"));
    nothing_is_left(&supervisor, &scene).await;
}

/// PROC-11
#[tokio::test]
async fn a_missing_binary_is_unavailable_and_says_where_it_looked() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let mut spec = unit("a", &[]);
    spec.launch.program = "no-such-daemon".into();
    supervisor.apply(vec![spec]).await.unwrap();
    let status = started(&supervisor, "a").await;
    assert_eq!((status.phase, status.incarnation), (Phase::Unavailable, 1));
    let reason = status.reason.unwrap();
    assert!(reason.contains("no-such-daemon was not found; looked in /"), "{reason}");

    // Its command is put right: it comes up by itself.
    supervisor.apply(vec![unit("a", &[])]).await.unwrap();
    assert_eq!(supervisor.settled("a").await.unwrap().phase, Phase::Running);
    nothing_is_left(&supervisor, &scene).await;
}

/// PROC-15
#[tokio::test]
async fn its_socket_stays_over_a_crash_and_those_who_connect_meanwhile_wait() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let mut spec = unit("a", &["--inherited"]);
    spec.listen = Some(([127, 0, 0, 1], 0).into());
    // Long enough to be sure that nobody serves while we connect.
    spec.policy.restart.backoff_min_ms = 200;
    spec.policy.restart.backoff_max_ms = 200;
    spec.health = Some(HealthProbe::new(Probe::Http { address: None, path: "/health".to_owned() }));
    supervisor.apply(vec![spec]).await.unwrap();
    let first = started(&supervisor, "a").await;
    let address = first.listen.unwrap();
    assert_ne!(address.port(), 0);
    let healthy = until(&supervisor, "a", |unit| unit.health.is_some()).await;
    assert_eq!(healthy.health.unwrap()["pid"], first.pid.unwrap());

    kill9(first.pid.unwrap());
    until(&supervisor, "a", |unit| unit.phase == Phase::Restarting).await;
    let answer = tokio::task::spawn_blocking(move || {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    let answer = answer.await.unwrap();
    let second = supervisor.settled("a").await.unwrap();
    assert_eq!((second.incarnation, second.listen), (2, Some(address)));
    assert!(answer.contains(&format!("\"pid\":{}", second.pid.unwrap())), "{answer}");

    supervisor.stop("a", StopMode::Graceful).await.unwrap();
    supervisor.settled("a").await.unwrap();
    // A stopped unit keeps nobody waiting.
    refused(address);
    nothing_is_left(&supervisor, &scene).await;
}

#[tokio::test]
async fn failing_health_restarts_it() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let sick = scene.path("sick");
    let mut spec = unit("a", &["--inherited", "--unhealthy-file", sick.to_str().unwrap()]);
    spec.listen = Some(([127, 0, 0, 1], 0).into());
    let mut health = HealthProbe::new(Probe::Http { address: None, path: "/health".to_owned() });
    health.interval = Duration::from_millis(10);
    spec.health = Some(health);
    spec.policy.health_failures_max = 2;
    supervisor.apply(vec![spec]).await.unwrap();
    started(&supervisor, "a").await;
    std::fs::write(&sick, "").unwrap();
    let restarting = until(&supervisor, "a", |unit| unit.phase == Phase::Stopping || unit.incarnation > 1).await;
    std::fs::remove_file(&sick).unwrap();
    if restarting.incarnation == 1 {
        let reason = restarting.reason.unwrap();
        assert!(reason.starts_with("unhealthy: ") && reason.ends_with("/health: status 503"), "{reason}");
    }
    until(&supervisor, "a", |unit| unit.incarnation > 1 && unit.phase == Phase::Running).await;
    nothing_is_left(&supervisor, &scene).await;
}

/// LIFE-19, LIFE-20
#[tokio::test]
async fn declaring_adds_changes_and_removes() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    supervisor.apply(vec![unit("a", &[]), unit("b", &[])]).await.unwrap();
    let a = started(&supervisor, "a").await;
    let b = started(&supervisor, "b").await;

    supervisor.apply(vec![unit("a", &[]), unit("b", &[])]).await.unwrap();
    let mut patient = unit("a", &[]);
    patient.policy.stop_timeout_ms = 60_000;
    supervisor.apply(vec![patient, unit("b", &["--say", "changed"])]).await.unwrap();
    let b_again = until(&supervisor, "b", |unit| unit.incarnation == 2 && unit.phase == Phase::Running).await;
    assert_ne!(b.pid, b_again.pid);
    assert_eq!(supervisor.snapshot()["a"].pid, a.pid, "the same declaration or another policy changes nothing");

    supervisor.apply(vec![unit("a", &[])]).await.unwrap();
    supervisor.subscribe().wait_for(|units| !units.contains_key("b")).await.unwrap();
    assert!(!runs(b_again.pid.unwrap()));
    assert!(scene.files("run").iter().all(|name| !name.starts_with("b.")), "{:?}", scene.files("run"));
    assert!(matches!(supervisor.settled("b").await, Err(SupervisorError::UnknownUnit { unit }) if unit == "b"));
    nothing_is_left(&supervisor, &scene).await;
}

#[tokio::test]
async fn a_declaration_that_cannot_be_meant_changes_nothing() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    supervisor.apply(vec![unit("a", &[])]).await.unwrap();
    let mut no_address = unit("b", &[]);
    no_address.readiness = Readiness::Probe(Probe::Tcp { address: None });
    let mut lost = unit("b", &[]);
    lost.policy.depends_on = vec![daemon_lifecycle::UnitName::new("c")];
    let cases = [
        (vec![unit("../a", &[])], "unit ../a: its name may hold letters"),
        (vec![unit("a", &[]), unit("a", &[])], "unit a: it is declared twice"),
        (vec![no_address], "unit b: its probe names no address"),
        (vec![lost], "unit b: `b` depends on `c`, which does not exist"),
    ];
    for (units, problem) in cases {
        let error = supervisor.apply(units).await.unwrap_err().to_string();
        assert!(error.starts_with(problem), "{error}");
        assert_eq!(supervisor.snapshot().keys().collect::<Vec<_>>(), ["a"]);
    }
    assert!(matches!(supervisor.start("b").await, Err(SupervisorError::UnknownUnit { .. })));
    nothing_is_left(&supervisor, &scene).await;
}

#[tokio::test]
async fn a_flood_of_output_is_followed_and_ends_with_its_unit() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    supervisor.apply(vec![unit("quiet", &[]), unit("loud", &["--flood"])]).await.unwrap();
    let loud = started(&supervisor, "loud").await;
    assert_eq!(started(&supervisor, "quiet").await.phase, Phase::Running, "others do not suffer");
    let mut follower = supervisor.follow("loud", 3).await.unwrap();
    for _ in 0..1000 {
        let line = follower.next().await.unwrap();
        assert!(line.ends_with(&"f".repeat(99)) || line.starts_with('…'), "{line}");
    }
    supervisor.kill("loud").await.unwrap();
    assert_eq!(supervisor.settled("loud").await.unwrap().phase, Phase::Stopped);
    assert!(!runs(loud.pid.unwrap()));
    nothing_is_left(&supervisor, &scene).await;
    while follower.next().await.is_some() {}
}

/// PROC-16
#[tokio::test]
async fn readiness_comes_from_the_unit_alone() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    supervisor.apply(vec![unit("a", &["--never-ready"])]).await.unwrap();
    supervisor.start("a").await.unwrap();
    until(&supervisor, "a", |unit| unit.pid.is_some()).await;
    let stranger = std::os::unix::net::UnixDatagram::unbound().unwrap();
    stranger.send_to(b"READY=1\nSTATUS=forged", scene.path("run/notify.sock")).unwrap();
    // Whatever is asked for now is answered after the datagram was read, or the stop would come too late to see it.
    supervisor.stop("a", StopMode::Graceful).await.unwrap();
    let status = supervisor.settled("a").await.unwrap();
    assert_eq!((status.phase, status.status_text), (Phase::Stopped, None));
    nothing_is_left(&supervisor, &scene).await;
}
