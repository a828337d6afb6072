//! Listening sockets over everything that can end.

use daemon_lifecycle::{Launch, Phase, StopMode, UnitSpec};

use crate::scene::{Scene, kill9, refused, runs, unruly};
use crate::supervisor::{nothing_is_left, open, started, unit, until};

fn listening(args: &[&str]) -> UnitSpec {
    let mut spec = unit("a.0", args);
    spec.listen = Some(([127, 0, 0, 1], 0).into());
    spec
}

/// SUP-40
#[tokio::test]
async fn a_passed_socket_has_its_units_name() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    supervisor.apply(vec![listening(&["--inherited", "--print-env", "LISTEN_FDNAMES"])]).await.unwrap();
    started(&supervisor, "a.0").await;
    let line = supervisor.follow("a.0", 10).await.unwrap().next().await.unwrap();
    assert!(line.ends_with(" LISTEN_FDNAMES=a.0"), "{line}");
    nothing_is_left(&supervisor, &scene).await;
}

/// SUP-41
#[tokio::test]
async fn an_adopted_daemons_socket_is_held_wherever_it_was_moved() {
    let scene = Scene::new();
    // Something else stands where it was passed.
    let script = format!("exec 9<&3 3</dev/null; exec {} --notify", unruly().display());
    let mut spec = listening(&[]);
    spec.launch = Launch::new("/bin/sh", ["-c", &script]);
    spec.policy.restart.backoff_min_ms = 3_600_000;
    spec.policy.restart.backoff_max_ms = 3_600_000;
    let first = open(&scene).await;
    first.apply(vec![spec.clone()]).await.unwrap();
    let before = started(&first, "a.0").await;
    let address = before.listen.unwrap();
    first.detach().await.unwrap();

    let second = open(&scene).await;
    second.apply(vec![spec]).await.unwrap();
    let adopted = second.settled("a.0").await.unwrap();
    assert_eq!((adopted.pid, adopted.listen), (before.pid, Some(address)));
    kill9(adopted.pid.unwrap());
    until(&second, "a.0", |unit| unit.phase == Phase::Restarting).await;
    // Nobody serves for an hour, but whoever comes waits instead of being refused.
    std::net::TcpStream::connect(address).unwrap();
    second.stop("a.0", StopMode::Graceful).await.unwrap();
    second.settled("a.0").await.unwrap();
    refused(address);
    nothing_is_left(&second, &scene).await;
}

/// SUP-42
#[tokio::test]
async fn its_port_stays_though_nobody_was_left_to_hold_it() {
    let scene = Scene::new();
    let first = open(&scene).await;
    first.apply(vec![listening(&["--inherited"])]).await.unwrap();
    let before = started(&first, "a.0").await;
    first.detach().await.unwrap();
    kill9(before.pid.unwrap());
    while runs(before.pid.unwrap()) {
        std::thread::yield_now();
    }
    let second = open(&scene).await;
    second.apply(vec![listening(&["--inherited"])]).await.unwrap();
    second.start("a.0").await.unwrap();
    // Its other threads may end a breath after the first: then it is still found, and lost.
    let after = until(&second, "a.0", |unit| unit.incarnation == 2 && unit.phase == Phase::Running).await;
    assert_eq!(after.listen, before.listen);
    nothing_is_left(&second, &scene).await;
}
