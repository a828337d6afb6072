//! Daemons that fork and name themselves in a PID file.

use daemon_lifecycle::{Phase, Readiness, StopMode, UnitSpec};

use crate::scene::{Scene, kill9, runs};
use crate::supervisor::{nothing_is_left, open, started, unit, until};

/// A unit whose command forks `unruly` and writes its pid into `own.pid`.
fn forking(scene: &Scene, args: &[&str]) -> UnitSpec {
    let pid_file = scene.path("own.pid");
    let mut spec = unit("a", &[]);
    let forking: Vec<String> = ["--daemonize", pid_file.to_str().unwrap()].iter().map(ToString::to_string).collect();
    spec.launch.args = forking.into_iter().chain(args.iter().map(ToString::to_string)).collect();
    spec.readiness = Readiness::Started;
    spec.pid_file = Some(pid_file);
    spec.forking = true;
    spec.policy.restart.restarts_max = 3;
    spec
}

fn named(scene: &Scene) -> u32 {
    scene.text("own.pid").trim().parse().unwrap()
}

/// SUP-20, SUP-22
#[tokio::test]
async fn the_process_its_pid_file_names_is_the_main_one() {
    let scene = Scene::new();
    // One of yesterday must not be believed.
    std::fs::write(scene.path("own.pid"), format!("{}\n", std::process::id())).unwrap();
    let supervisor = open(&scene).await;
    supervisor.apply(vec![forking(&scene, &["--say", "hello"])]).await.unwrap();
    let first = started(&supervisor, "a").await;
    assert_eq!((first.phase, first.incarnation, first.reason), (Phase::Running, 1, None));
    assert_eq!(first.pid, Some(named(&scene)));
    assert!(runs(named(&scene)));

    kill9(named(&scene));
    let second = until(&supervisor, "a", |unit| unit.incarnation == 2 && unit.phase == Phase::Running).await;
    assert_eq!(second.pid, Some(named(&scene)));
    assert_ne!(second.pid, first.pid);

    supervisor.stop("a", StopMode::Graceful).await.unwrap();
    let stopped = supervisor.settled("a").await.unwrap();
    assert_eq!((stopped.phase, stopped.reason), (Phase::Stopped, None));
    assert!(!runs(second.pid.unwrap()) && !scene.path("own.pid").exists());
    let logs = supervisor.logs("a", 10).await.unwrap();
    assert!(logs.last().unwrap().ends_with("stopping"), "asked politely: {logs:?}");
    nothing_is_left(&supervisor, &scene).await;
}

/// SUP-21
#[tokio::test]
async fn a_pid_file_that_lies_fails_the_start_in_words() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let stranger = std::process::id();
    let mut spec = forking(&scene, &["--lie-pid", &stranger.to_string()]);
    spec.policy.restart.restarts_max = 0;
    supervisor.apply(vec![spec]).await.unwrap();
    let failed = started(&supervisor, "a").await;
    assert_eq!((failed.phase, failed.pid), (Phase::Failed, None));
    let reason = failed.reason.unwrap();
    assert!(reason.contains(&format!("own.pid names process {stranger}, which is none of its own")), "{reason}");
    nothing_is_left(&supervisor, &scene).await;
}

/// SUP-21
#[tokio::test]
async fn a_pid_file_that_never_comes_fails_the_start_in_words() {
    let scene = Scene::new();
    let count = scene.path("count");
    let supervisor = open(&scene).await;
    let mut spec = forking(&scene, &["--lie-nothing", "--count-file", count.to_str().unwrap()]);
    spec.policy.restart.restarts_max = 0;
    spec.policy.start_timeout_ms = 1000;
    supervisor.apply(vec![spec]).await.unwrap();
    let failed = started(&supervisor, "a").await;
    assert_eq!(failed.phase, Phase::Failed);
    let reason = failed.reason.unwrap();
    assert!(reason.contains("own.pid did not appear within 1 s"), "{reason}");
    assert!(scene.counted().iter().all(|pid| !runs(*pid)), "the daemon nobody was told of is gone, too");
    nothing_is_left(&supervisor, &scene).await;
}

/// SUP-21
#[tokio::test]
async fn a_command_that_fails_or_stays_is_no_forking_daemon() {
    for (args, words) in [
        (&["--code", "4"][..], "the started command ended with exit code 4, before its daemon was known"),
        (&[][..], "the started command still runs after 1 s"),
    ] {
        let scene = Scene::new();
        let supervisor = open(&scene).await;
        let mut spec = forking(&scene, args);
        if args.is_empty() {
            spec.launch.args.clear();
        }
        spec.policy.restart.restarts_max = 0;
        spec.policy.start_timeout_ms = 1000;
        supervisor.apply(vec![spec]).await.unwrap();
        let failed = started(&supervisor, "a").await;
        let reason = failed.reason.unwrap();
        assert!(failed.phase == Phase::Failed && reason.contains(words), "{reason}");
        nothing_is_left(&supervisor, &scene).await;
    }
}

/// SUP-22
#[tokio::test]
async fn a_stop_does_not_wait_for_a_fork_that_never_comes() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let mut spec = forking(&scene, &[]);
    spec.launch.args.clear();
    spec.policy.start_timeout_ms = 3_600_000;
    supervisor.apply(vec![spec]).await.unwrap();
    supervisor.start("a").await.unwrap();
    while scene.files("run").iter().all(|name| name != "a.state") {
        tokio::task::yield_now().await;
    }
    supervisor.stop("a", StopMode::Graceful).await.unwrap();
    assert_eq!(supervisor.settled("a").await.unwrap().phase, Phase::Stopped);
    nothing_is_left(&supervisor, &scene).await;
}

/// SUP-22
#[tokio::test]
async fn a_forked_daemon_is_adopted_like_any_other() {
    let scene = Scene::new();
    let first = open(&scene).await;
    first.apply(vec![forking(&scene, &[])]).await.unwrap();
    let before = started(&first, "a").await;
    first.detach().await.unwrap();
    let second = open(&scene).await;
    second.apply(vec![forking(&scene, &[])]).await.unwrap();
    let after = second.settled("a").await.unwrap();
    assert_eq!((after.pid, after.phase, after.adopted), (before.pid, Phase::Running, true));
    kill9(after.pid.unwrap());
    let again = until(&second, "a", |unit| unit.incarnation == 2 && unit.phase == Phase::Running).await;
    assert_eq!(again.pid, Some(named(&scene)));
    nothing_is_left(&second, &scene).await;
}

/// SUP-20
#[tokio::test]
async fn a_forking_unit_without_a_pid_file_is_refused() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let spec = UnitSpec { pid_file: None, ..forking(&scene, &[]) };
    let error = supervisor.apply(vec![spec]).await.unwrap_err().to_string();
    assert_eq!(error, "unit a: it forks, so its own PID file has to be named");
    nothing_is_left(&supervisor, &scene).await;
}
