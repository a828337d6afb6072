//! What a daemon may say by the notify protocol, and what the supervisor makes of it.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use daemon_lifecycle::{Launch, Phase, Readiness, Supervisor, UnitSpec};

use crate::scene::{Scene, kill9, runs, unruly};
use crate::supervisor::{nothing_is_left, open, started, unit, until};

/// A FIFO through which a test has its daemon speak.
struct Voice(PathBuf);

impl Voice {
    fn new(scene: &Scene) -> Self {
        let path = scene.path("voice");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }

    fn say(&self, text: &str) {
        let mut fifo = std::fs::File::options().read(true).write(true).open(&self.0).unwrap();
        writeln!(fifo, "{text}").unwrap();
        // Taken before our end closes, or it would be lost with it.
        while !is_empty(&fifo) {
            std::thread::yield_now();
        }
    }
}

fn is_empty(fifo: &std::fs::File) -> bool {
    use std::os::fd::AsFd as _;
    let mut fds = [nix::poll::PollFd::new(fifo.as_fd(), nix::poll::PollFlags::POLLIN)];
    nix::poll::poll(&mut fds, nix::poll::PollTimeout::ZERO).unwrap() == 0
}

async fn run(scene: &Scene, spec: UnitSpec) -> Supervisor {
    let supervisor = open(scene).await;
    supervisor.apply(vec![spec]).await.unwrap();
    assert_eq!(started(&supervisor, "a").await.phase, Phase::Running);
    supervisor
}

/// SUP-10
#[tokio::test]
async fn its_status_is_shown_and_what_nobody_acts_on_is_no_harm() {
    let scene = Scene::new();
    let voice = Voice::new(&scene);
    let supervisor = run(&scene, unit("a", &["--relay", voice.path()])).await;
    voice.say("ERRNO=2;EXIT_STATUS=3;FDSTORE=1;BARRIER=1;nonsense;STATUS=warming up");
    let status = until(&supervisor, "a", |unit| unit.status_text.is_some()).await;
    assert_eq!((status.status_text.as_deref(), status.phase), (Some("warming up"), Phase::Running));
    nothing_is_left(&supervisor, &scene).await;
}

/// SUP-11
#[tokio::test]
async fn who_falls_silent_is_restarted_and_who_gives_signs_of_life_is_not() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let watched = |name: &str, args: &[&str]| {
        let mut spec = unit(name, args);
        spec.watchdog = Some(Duration::from_secs(1));
        spec
    };
    let alive = watched("alive", &["--ping-every-ms", "20", "--print-env", "WATCHDOG_USEC"]);
    supervisor.apply(vec![alive, watched("silent", &[])]).await.unwrap();
    started(&supervisor, "alive").await;
    started(&supervisor, "silent").await;
    until(&supervisor, "silent", |unit| unit.incarnation >= 3 && unit.phase == Phase::Running).await;
    let history = supervisor.why("silent").await.unwrap();
    let sentence = &history.falls.last().unwrap().sentence;
    assert!(sentence.contains("no sign of life within its watchdog's 1 s"), "{sentence}");
    assert_eq!(supervisor.snapshot()["alive"].incarnation, 1);
    assert!(scene.text("logs/alive.log").contains("WATCHDOG_USEC=1000000\n"));
    nothing_is_left(&supervisor, &scene).await;
}

/// SUP-11
#[tokio::test]
async fn one_that_says_itself_that_it_is_not_well_is_restarted() {
    let scene = Scene::new();
    let voice = Voice::new(&scene);
    let supervisor = run(&scene, unit("a", &["--relay", voice.path()])).await;
    voice.say("WATCHDOG=trigger");
    until(&supervisor, "a", |unit| unit.incarnation == 2 && unit.phase == Phase::Running).await;
    let history = supervisor.why("a").await.unwrap();
    assert!(history.falls[0].sentence.contains("WATCHDOG=trigger"), "{history}");
    nothing_is_left(&supervisor, &scene).await;
}

/// SUP-12
#[tokio::test]
async fn a_reload_that_never_ends_is_a_failure() {
    let scene = Scene::new();
    let voice = Voice::new(&scene);
    let mut spec = unit("a", &["--relay", voice.path()]);
    spec.policy.start_timeout_ms = 1000;
    let supervisor = run(&scene, spec).await;
    // One that ends in time: what comes after it is no longer measured against it.
    voice.say("RELOADING=1;MONOTONIC_USEC=1");
    voice.say("READY=1;STATUS=reloaded");
    until(&supervisor, "a", |unit| unit.status_text.as_deref() == Some("reloaded")).await;
    assert_eq!(supervisor.snapshot()["a"].incarnation, 1);
    voice.say("RELOADING=1");
    until(&supervisor, "a", |unit| unit.incarnation == 2 && unit.phase == Phase::Running).await;
    let history = supervisor.why("a").await.unwrap();
    assert_eq!(history.falls.len(), 1);
    assert!(history.falls[0].sentence.contains("reload not done within 1"), "{history}");
    nothing_is_left(&supervisor, &scene).await;
}

/// SUP-12
#[tokio::test]
async fn one_that_asks_for_more_time_to_start_gets_it() {
    let scene = Scene::new();
    let voice = Voice::new(&scene);
    let ready = scene.path("ready");
    let mut spec = unit("a", &["--relay", voice.path(), "--ready-file", ready.to_str().unwrap()]);
    spec.policy.start_timeout_ms = 2000;
    let mut hasty = unit("hasty", &["--never-ready"]);
    hasty.policy.start_timeout_ms = 2500;
    hasty.policy.restart.restarts_max = 0;
    let supervisor = open(&scene).await;
    supervisor.apply(vec![spec, hasty]).await.unwrap();
    supervisor.start("a").await.unwrap();
    supervisor.start("hasty").await.unwrap();
    voice.say("EXTEND_TIMEOUT_USEC=60000000;STATUS=patience");
    until(&supervisor, "a", |unit| unit.status_text.is_some()).await;
    // When this one has run out of time, the other one would have, too.
    until(&supervisor, "hasty", |unit| unit.phase == Phase::Failed).await;
    assert_eq!(supervisor.snapshot()["a"].phase, Phase::Starting);
    std::fs::write(&ready, "").unwrap();
    let status = supervisor.settled("a").await.unwrap();
    assert_eq!((status.phase, status.incarnation), (Phase::Running, 1));
    nothing_is_left(&supervisor, &scene).await;
}

/// SUP-13
#[tokio::test]
async fn another_of_its_processes_may_become_the_main_one() {
    let scene = Scene::new();
    let mut spec = unit("a", &["--fork-child", "--main-pid", "child"]);
    // The child ignores the polite signal.
    spec.policy.stop_timeout_ms = 100;
    let supervisor = run(&scene, spec).await;
    let child = scene.child_logged("logs/a.log");
    let status = until(&supervisor, "a", |unit| unit.pid == Some(child)).await;
    assert_eq!((status.phase, status.incarnation), (Phase::Running, 1));
    assert_eq!(scene.text("run/a.pid"), format!("{child}\n"));
    kill9(child);
    let next = until(&supervisor, "a", |unit| unit.incarnation == 2 && unit.phase == Phase::Running).await;
    assert_eq!(next.restarts, 1, "its end is the unit's");
    nothing_is_left(&supervisor, &scene).await;
    assert!(!runs(child));
}

/// SUP-13
#[tokio::test]
async fn a_stranger_never_becomes_the_main_process() {
    let scene = Scene::new();
    let stranger = std::process::id().to_string();
    let voice = Voice::new(&scene);
    let supervisor = run(&scene, unit("a", &["--main-pid", &stranger, "--relay", voice.path()])).await;
    let pid = supervisor.snapshot()["a"].pid;
    voice.say(&format!("MAINPID={stranger};STATUS=claimed"));
    let status = until(&supervisor, "a", |unit| unit.status_text.is_some()).await;
    assert_eq!(status.pid, pid);
    // Or this test would end with it.
    nothing_is_left(&supervisor, &scene).await;
}

/// SUP-14
#[tokio::test]
async fn a_process_of_another_session_speaks_for_the_unit_it_belongs_to() {
    let scene = Scene::new();
    let mut spec = unit("a", &[]);
    // The shell never speaks; what it starts left its session and its environment behind.
    let script = format!("env -i NOTIFY_SOCKET=$NOTIFY_SOCKET setsid {} --notify & wait", unruly().display());
    spec.launch = Launch::new("/bin/sh", ["-c", &script]);
    let supervisor = run(&scene, spec).await;
    nothing_is_left(&supervisor, &scene).await;
}

/// SUP-10
#[tokio::test]
async fn a_unit_that_need_not_prove_anything_gets_no_notify_socket() {
    let scene = Scene::new();
    let mut spec = unit("a", &["--print-env", "NOTIFY_SOCKET"]);
    spec.launch.args.retain(|arg| arg != "--notify");
    spec.readiness = Readiness::Started;
    let supervisor = run(&scene, spec).await;
    let mut follower = supervisor.follow("a", 10).await.unwrap();
    let line = follower.next().await.unwrap();
    assert!(line.ends_with(" NOTIFY_SOCKET="), "{line}");
    nothing_is_left(&supervisor, &scene).await;
}
