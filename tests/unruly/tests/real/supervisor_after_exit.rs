//! What is run after the end of a run, by the supervisor that saw it or the next one; and last words.

use std::path::PathBuf;

use daemon_lifecycle::{AfterExit, Phase, Readiness, StopMode, UnitSpec};

use crate::scene::{Scene, kill9, runs};
use crate::supervisor::{nothing_is_left, open, started, unit, until};
use crate::survival::Driver;

/// A shell that adds a line to `ends`, and then does this.
fn after(scene: &Scene, then: &str) -> AfterExit {
    let script = format!("echo end >>{}; {then}", scene.path("ends").display());
    AfterExit { command: vec!["/bin/sh".to_owned(), "-c".to_owned(), script], timeout_ms: 20_000 }
}

fn with_after(scene: &Scene, args: &[&str], then: &str) -> UnitSpec {
    UnitSpec { after_exit: Some(after(scene, then)), ..unit("a", args) }
}

fn ends(scene: &Scene) -> usize {
    scene.text("ends").lines().count()
}

/// CONT-10
#[tokio::test]
async fn it_is_run_after_each_end_before_the_next_start_and_its_words_are_logged() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let state = scene.path("run/a.state");
    // Until it is done, the run is not buried.
    let then = format!("test -e {} && echo found; echo trouble >&2", state.display());
    supervisor.apply(vec![with_after(&scene, &[], &then)]).await.unwrap();
    let first = started(&supervisor, "a").await;
    assert_eq!(ends(&scene), 0);
    kill9(first.pid.unwrap());
    until(&supervisor, "a", |unit| unit.incarnation == 2 && unit.phase == Phase::Running).await;
    assert_eq!(ends(&scene), 1, "before the next start");
    supervisor.stop("a", StopMode::Graceful).await.unwrap();
    supervisor.settled("a").await.unwrap();
    assert_eq!(ends(&scene), 2);
    let logs = supervisor.logs("a", 20).await.unwrap();
    let count = |end: &str| logs.iter().filter(|line| line.ends_with(end)).count();
    assert_eq!((count(" out found"), count(" err trouble")), (2, 2), "{logs:?}");
    nothing_is_left(&supervisor, &scene).await;
}

/// CONT-10
#[tokio::test]
async fn one_that_fails_or_hangs_keeps_nobody_from_going_on() {
    for (then, timeout_ms) in [("exit 3", 20_000), ("exec sleep 1000", 50)] {
        let scene = Scene::new();
        let supervisor = open(&scene).await;
        let after_exit = Some(AfterExit { timeout_ms, ..after(&scene, then) });
        supervisor.apply(vec![UnitSpec { after_exit, ..unit("a", &[]) }]).await.unwrap();
        let first = started(&supervisor, "a").await;
        kill9(first.pid.unwrap());
        until(&supervisor, "a", |unit| unit.incarnation == 2 && unit.phase == Phase::Running).await;
        assert_eq!(ends(&scene), 1, "{then}");
        nothing_is_left(&supervisor, &scene).await;
    }
}

/// CONT-11
#[tokio::test]
async fn the_next_supervisor_does_it_for_a_run_whose_end_nobody_saw() {
    let scene = Scene::new();
    let ends_file = scene.path("ends");
    let mut driver =
        Driver::begin(&scene, "supervise-after", &["--notify", "--count-file", ends_file.to_str().unwrap()]);
    assert_eq!(driver.hears(), "accepted");
    let pid = driver.hears().strip_prefix("running ").unwrap().parse().unwrap();
    driver.kill();
    kill9(pid);
    while runs(pid) {
        std::thread::yield_now();
    }
    let said_so_far = scene.text("after");
    assert_eq!(said_so_far, "", "nobody was there");
    // Not even declared any more: what the state says is enough.
    let supervisor = open(&scene).await;
    assert_eq!(scene.text("after"), "it\n");
    supervisor.apply(Vec::<UnitSpec>::new()).await.unwrap();
    nothing_is_left(&supervisor, &scene).await;
}

/// CONT-11
#[tokio::test]
async fn an_adopted_run_ends_as_it_began() {
    let scene = Scene::new();
    let first = open(&scene).await;
    first.apply(vec![with_after(&scene, &[], "true")]).await.unwrap();
    let before = started(&first, "a").await;
    first.detach().await.unwrap();
    assert_eq!(ends(&scene), 0, "it goes on");
    // Nobody declares it any more: it is stopped, and what it had outside with it.
    let second = open(&scene).await;
    second.apply(Vec::<UnitSpec>::new()).await.unwrap();
    while second.snapshot().contains_key("a") {
        tokio::task::yield_now().await;
    }
    assert!(!runs(before.pid.unwrap()));
    assert_eq!(ends(&scene), 1);
    nothing_is_left(&second, &scene).await;
}

/// CONT-10
#[tokio::test]
async fn one_that_could_never_run_is_refused() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let after_exit = Some(AfterExit { command: Vec::new(), timeout_ms: 1 });
    let error = supervisor.apply(vec![UnitSpec { after_exit, ..unit("a", &[]) }]).await.unwrap_err().to_string();
    assert_eq!(error, "unit a: what is run after its end has no program");
    nothing_is_left(&supervisor, &scene).await;
}

/// A unit that says this on its notify socket once it runs, and ends with that code.
fn with_last_words(words: &str, code: u8) -> UnitSpec {
    let mut spec = unit("a", &[]);
    spec.launch.args = ["--last-words", words, "--code", &code.to_string()].map(str::to_owned).to_vec();
    spec.policy.restart.restarts_max = 0;
    spec
}

/// CONT-05
#[tokio::test]
async fn one_that_says_what_is_missing_is_unavailable_with_its_words() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let mut spec = with_last_words("STATUS=no image `x` here;X_RBEE_END=unavailable", 69);
    spec.readiness = Readiness::Notify;
    supervisor.apply(vec![spec]).await.unwrap();
    let status = started(&supervisor, "a").await;
    assert_eq!(status.phase, Phase::Unavailable);
    assert_eq!(status.reason.as_deref(), Some("could not be started: no image `x` here"));
    nothing_is_left(&supervisor, &scene).await;
}

/// CONT-06
#[tokio::test]
async fn one_whose_payload_ran_out_of_memory_says_so() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let mut spec = with_last_words("X_RBEE_END=out-of-memory", 137);
    spec.readiness = Readiness::Started;
    spec.notifies = true;
    supervisor.apply(vec![spec]).await.unwrap();
    supervisor.start("a").await.unwrap();
    let status = until(&supervisor, "a", |unit| unit.phase == Phase::Failed).await;
    let reason = status.reason.unwrap();
    assert!(reason.starts_with("ended with an out-of-memory kill"), "{reason}");
    nothing_is_left(&supervisor, &scene).await;
}

/// CONT-12
#[tokio::test]
async fn who_does_the_work_is_known_to_the_next_supervisor_too() {
    let scene = Scene::new();
    let voice: PathBuf = scene.path("voice");
    nix::unistd::mkfifo(&voice, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let spec = || unit("a", &["--relay", voice.to_str().unwrap()]);
    let first = open(&scene).await;
    first.apply(vec![spec()]).await.unwrap();
    started(&first, "a").await;
    let us = std::process::id();
    let mut fifo = std::fs::File::options().read(true).write(true).open(&voice).unwrap();
    std::io::Write::write_all(&mut fifo, format!("X_RBEE_PAYLOAD={us}\n").as_bytes()).unwrap();
    until(&first, "a", |unit| unit.payload == Some(us)).await;
    first.detach().await.unwrap();
    let second = open(&scene).await;
    second.apply(vec![spec()]).await.unwrap();
    assert_eq!(second.settled("a").await.unwrap().payload, Some(us));
    nothing_is_left(&second, &scene).await;
}

/// CONT-12
#[tokio::test]
async fn the_memory_that_is_weighed_is_that_of_who_does_the_work() {
    let scene = Scene::new();
    let voice: PathBuf = scene.path("voice");
    nix::unistd::mkfifo(&voice, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let supervisor = crate::supervisor::open_with(&scene, |config| {
        config.bounds.memory_interval = std::time::Duration::from_millis(20);
    })
    .await;
    let mut heavy = unit("heavy", &["--leak-mib", "64"]);
    heavy.readiness = Readiness::Notify;
    let mut light = unit("a", &["--relay", voice.to_str().unwrap()]);
    light.limits.memory_restart_bytes = Some(48 << 20);
    supervisor.apply(vec![heavy, light]).await.unwrap();
    let payload = started(&supervisor, "heavy").await.pid.unwrap();
    started(&supervisor, "a").await;
    let mut fifo = std::fs::File::options().read(true).write(true).open(&voice).unwrap();
    std::io::Write::write_all(&mut fifo, format!("X_RBEE_PAYLOAD={payload}\n").as_bytes()).unwrap();
    let again = until(&supervisor, "a", |unit| unit.incarnation == 2 && unit.phase == Phase::Running).await;
    let cause = again.history.first().map(|fall| format!("{fall:?}")).unwrap_or_default();
    assert!(cause.contains("MiB of memory, more than 48.0 MiB"), "{cause}");
    nothing_is_left(&supervisor, &scene).await;
}
