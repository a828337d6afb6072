//! Daemons that fork, with PID files that tell the truth and others; main processes that hand over to another.

use std::time::Duration;

use daemon_lifecycle::{Launch, Phase, Readiness, StopMode, UnitSpec};

use crate::scene::{Scene, kill9, runs, unruly};
use crate::supervisor::{open, unit, until};
use crate::survival::gone;

/// A daemon that forks and names itself in `own.pid`.
fn forking(scene: &Scene, options: &[&str]) -> UnitSpec {
    let pid_file = scene.path("own.pid");
    let path = pid_file.display().to_string();
    let args: Vec<&str> = ["--daemonize", path.as_str()].iter().chain(options).copied().collect();
    let mut spec = UnitSpec::new("it", Launch::new(unruly(), args));
    (spec.forking, spec.pid_file, spec.readiness) = (true, Some(pid_file), Readiness::Started);
    spec.policy.restart.backoff_min_ms = 1;
    spec.policy.restart.backoff_max_ms = 2;
    spec
}

/// PROC-27
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forking_daemon_is_supervised_by_its_own_pid_file() {
    for cgroups in [true, false] {
        let scene = Scene::new();
        let mut config = daemon_lifecycle::SupervisorConfig::new(scene.path("run"), scene.path("logs"));
        config.cgroups = cgroups;
        let supervisor = daemon_lifecycle::Supervisor::open(config).await.unwrap();
        supervisor.apply(vec![forking(&scene, &[])]).await.unwrap();
        supervisor.start("it").await.unwrap();
        let first = supervisor.settled("it").await.unwrap();
        assert_eq!(first.phase, Phase::Running, "{:?}", first.reason);
        let pid = first.pid.unwrap();
        assert_eq!(scene.text("own.pid"), format!("{pid}\n"));
        assert!(runs(pid));
        // Its end is seen with its code, and followed by a new one.
        kill9(pid);
        let again = until(&supervisor, "it", |unit| unit.incarnation == 2 && unit.phase == Phase::Running).await;
        assert_eq!(scene.text("own.pid"), format!("{}\n", again.pid.unwrap()));
        supervisor.stop("it", StopMode::Graceful).await.unwrap();
        let stopped = supervisor.settled("it").await.unwrap();
        assert_eq!(stopped.phase, Phase::Stopped);
        assert!(!runs(again.pid.unwrap()) && !scene.path("own.pid").exists());
        assert!(scene.text("logs/it.log").contains("stopping"), "politely");
        gone(&supervisor, &scene).await;
    }
}

/// PROC-27
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pid_file_that_lies_costs_nobody_else_his_life() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let own = std::process::id().to_string();
    let mut spec = forking(&scene, &["--lie-pid", &own]);
    spec.policy.restart.restarts_max = 0;
    supervisor.apply(vec![spec]).await.unwrap();
    supervisor.start("it").await.unwrap();
    let failed = until(&supervisor, "it", |unit| unit.phase == Phase::Failed).await;
    let reason = failed.reason.unwrap();
    assert!(reason.contains(&format!("names process {own}, which is none of its own")), "{reason}");
    gone(&supervisor, &scene).await;
}

/// PROC-27
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_names_nobody_is_told_and_leaves_nothing() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let count = scene.path("count").display().to_string();
    let mut spec = forking(&scene, &["--lie-nothing", "--count-file", &count]);
    spec.policy.restart.restarts_max = 0;
    spec.policy.start_timeout_ms = 300;
    supervisor.apply(vec![spec]).await.unwrap();
    supervisor.start("it").await.unwrap();
    let failed = until(&supervisor, "it", |unit| unit.phase == Phase::Failed).await;
    let reason = failed.reason.unwrap();
    assert!(reason.contains("own.pid"), "{reason}");
    assert!(scene.counted().iter().all(|pid| !runs(*pid)));
    gone(&supervisor, &scene).await;
}

/// PROC-28
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_main_process_is_believed_only_if_it_is_its_own() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let stranger = std::process::id().to_string();
    let good = unit("good", &["--fork-child", "--main-pid", "child"]);
    let bad = unit("bad", &["--main-pid", &stranger]);
    supervisor.apply(vec![good, bad]).await.unwrap();
    supervisor.start("good").await.unwrap();
    supervisor.start("bad").await.unwrap();
    let child = scene.child_logged("logs/good.log");
    let status = until(&supervisor, "good", |unit| unit.pid == Some(child)).await;
    assert!(runs(status.pid.unwrap()));
    let bad = supervisor.settled("bad").await.unwrap();
    assert_eq!(bad.phase, Phase::Running);
    assert_ne!(bad.pid, Some(std::process::id()));
    supervisor.kill("good").await.unwrap();
    tokio::time::timeout(Duration::from_secs(30), supervisor.settled("good")).await.unwrap().unwrap();
    assert!(!runs(child));
    gone(&supervisor, &scene).await;
}

/// PROC-29
#[tokio::test]
async fn a_stale_lock_is_removed_before_the_start_and_a_held_one_is_not() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    std::fs::write(scene.path("stale"), "4194304\n").unwrap();
    std::fs::write(scene.path("held"), std::process::id().to_string()).unwrap();
    let mut spec = unit("it", &[]);
    spec.stale_locks = vec![scene.path("stale"), scene.path("held"), scene.path("none")];
    supervisor.apply(vec![spec]).await.unwrap();
    supervisor.start("it").await.unwrap();
    assert_eq!(supervisor.settled("it").await.unwrap().phase, Phase::Running);
    assert!(!scene.path("stale").exists() && scene.path("held").exists());
    gone(&supervisor, &scene).await;
}
