//! Liveness: sick, hung, busy, heavy.

use std::time::Duration;

use daemon_lifecycle::{HealthProbe, Launch, Phase, Probe, Readiness, UnitSpec};

use crate::scene::{Scene, unruly};
use crate::supervisor::{nothing_is_left, open, open_with, started, unit, until};

/// A unit with a socket, asked for its health again and again; it does not answer while `deaf` exists.
fn probed(scene: &Scene, name: &str, args: &[&str]) -> UnitSpec {
    let deaf = scene.path("deaf");
    let args: Vec<&str> = ["--inherited", "--deaf-file", deaf.to_str().unwrap()].iter().chain(args).copied().collect();
    let mut spec = unit(name, &args);
    spec.listen = Some(([127, 0, 0, 1], 0).into());
    spec.health = Some(HealthProbe {
        probe: Probe::Http { address: None, path: "/health".to_owned() },
        interval: Duration::from_millis(10),
        timeout: Duration::from_millis(200),
    });
    spec.policy.health_failures_max = 2;
    spec
}

/// SUP-30
#[tokio::test]
async fn hung_is_told_from_busy() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let mut busy = probed(&scene, "busy", &["--burn"]);
    busy.policy.health_busy_max = 1_000_000;
    let mut chatty = probed(&scene, "chatty", &["--print-every-ms", "10"]);
    chatty.policy.health_busy_max = 1_000_000;
    supervisor.apply(vec![probed(&scene, "hung", &[]), busy, chatty]).await.unwrap();
    for name in ["hung", "busy", "chatty"] {
        started(&supervisor, name).await;
        until(&supervisor, name, |unit| unit.health.is_some()).await;
    }
    std::fs::write(scene.path("deaf"), "").unwrap();
    let hung = until(&supervisor, "hung", |unit| unit.incarnation >= 2).await;
    // Again: by now the others have not answered as often.
    until(&supervisor, "hung", |unit| unit.incarnation > hung.incarnation).await;
    let units = supervisor.snapshot();
    assert_eq!((units["busy"].incarnation, units["chatty"].incarnation), (1, 1), "both are at work");
    let history = supervisor.why("hung").await.unwrap();
    assert!(history.falls.last().unwrap().sentence.contains("no answer within 0.2 s"), "{history}");
    nothing_is_left(&supervisor, &scene).await;
}

/// SUP-30
#[tokio::test]
async fn busy_for_too_long_is_hung() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let mut spec = probed(&scene, "a", &["--burn"]);
    spec.policy.health_busy_max = 3;
    supervisor.apply(vec![spec]).await.unwrap();
    started(&supervisor, "a").await;
    std::fs::write(scene.path("deaf"), "").unwrap();
    until(&supervisor, "a", |unit| unit.incarnation >= 2).await;
    let history = supervisor.why("a").await.unwrap();
    assert!(history.falls.last().unwrap().sentence.contains("too busy to answer"), "{history}");
    nothing_is_left(&supervisor, &scene).await;
}

/// SUP-31
#[tokio::test]
async fn one_that_grows_too_big_is_restarted_and_the_reason_says_how_big() {
    let scene = Scene::new();
    let supervisor = open_with(&scene, |config| config.bounds.memory_interval = Duration::from_millis(20)).await;
    let mut heavy = unit("heavy", &["--leak-mib", "64"]);
    heavy.limits.memory_restart_bytes = Some(48 << 20);
    let mut light = unit("light", &[]);
    light.limits.memory_restart_bytes = Some(48 << 20);
    supervisor.apply(vec![heavy, light]).await.unwrap();
    started(&supervisor, "light").await;
    started(&supervisor, "heavy").await;
    until(&supervisor, "heavy", |unit| unit.incarnation >= 2).await;
    let history = supervisor.why("heavy").await.unwrap();
    let sentence = &history.falls.last().unwrap().sentence;
    assert!(sentence.contains("MiB of memory, more than 48.0 MiB"), "{sentence}");
    assert_eq!(supervisor.snapshot()["light"].incarnation, 1);
    nothing_is_left(&supervisor, &scene).await;
}

/// SUP-32
#[tokio::test]
async fn each_kind_of_probe_proves_that_it_is_ready() {
    let scene = Scene::new();
    let unix = scene.path("own.sock");
    let listener = std::os::unix::net::UnixListener::bind(&unix).unwrap();
    let there = scene.path("there");
    let probes = [
        ("tcp", Probe::Tcp { address: None }),
        ("http", Probe::Http { address: None, path: "/health".to_owned() }),
        ("unix", Probe::Unix { path: unix }),
        (
            "exec",
            Probe::Exec { command: vec!["/usr/bin/test".to_owned(), "-e".to_owned(), there.display().to_string()] },
        ),
    ];
    let specs = probes.map(|(name, probe)| {
        let mut spec = UnitSpec::new(name, Launch::new(unruly(), ["--inherited"]));
        spec.listen = Some(([127, 0, 0, 1], 0).into());
        spec.readiness = Readiness::Probe(probe);
        spec
    });
    let supervisor = open(&scene).await;
    supervisor.apply(specs.to_vec()).await.unwrap();
    for name in ["tcp", "http", "unix"] {
        assert_eq!(started(&supervisor, name).await.phase, Phase::Running, "{name}");
    }
    supervisor.start("exec").await.unwrap();
    until(&supervisor, "exec", |unit| unit.pid.is_some()).await;
    assert_eq!(supervisor.snapshot()["exec"].phase, Phase::Starting, "its question is not answered with yes");
    std::fs::write(&there, "").unwrap();
    assert_eq!(supervisor.settled("exec").await.unwrap().phase, Phase::Running);
    drop(listener);
    nothing_is_left(&supervisor, &scene).await;
}
