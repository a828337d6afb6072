//! Limits of a unit, as the kernel and the status tell them.

use std::fs;

use daemon_lifecycle::{IoClass, Limits, Phase, UnitSpec};

use crate::scene::Scene;
use crate::supervisor::{open, unit, until};
use crate::survival::gone;

fn limited(options: &[&str], limits: Limits) -> UnitSpec {
    UnitSpec { limits, ..unit("it", options) }
}

/// The soft limit in `/proc/PID/limits`.
fn soft_limit(pid: u32, name: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().to_owned()
}

/// PROC-24
#[tokio::test]
async fn limits_are_set_and_told() {
    let scene = Scene::new();
    let before = soft_limit(std::process::id(), "Max open files");
    let supervisor = open(&scene).await;
    let limits = Limits { nofile: Some(77), nice: Some(7), io: Some(IoClass::Low), ..Limits::default() };
    let free = UnitSpec { name: "free".to_owned(), ..unit("it", &[]) };
    supervisor.apply(vec![limited(&[], limits), free]).await.unwrap();
    supervisor.start("it").await.unwrap();
    supervisor.start("free").await.unwrap();
    let status = supervisor.settled("it").await.unwrap();
    let pid = status.pid.unwrap();
    assert_eq!(soft_limit(pid, "Max open files"), "77");
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    assert_eq!(stat.rsplit_once(") ").unwrap().1.split(' ').nth(19 - 3), Some("7"), "nice");
    assert_eq!(status.limits_in_force, ["nofile: rlimit", "nice: priority", "io: priority"]);
    let free = supervisor.settled("free").await.unwrap();
    assert_eq!(
        soft_limit(free.pid.unwrap(), "Max open files"),
        before,
        "what we raised for ourselves is not passed on"
    );
    gone(&supervisor, &scene).await;
}

/// PROC-25
#[tokio::test]
async fn a_limit_beyond_what_we_may_give_is_refused_by_name() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    supervisor.apply(vec![limited(&[], Limits { nofile: Some(u64::MAX / 2), ..Limits::default() })]).await.unwrap();
    supervisor.start("it").await.unwrap();
    let status = supervisor.settled("it").await.unwrap();
    assert_eq!(status.phase, Phase::Unavailable);
    let reason = status.reason.unwrap();
    assert!(reason.contains("nofile = 9223372036854775807 is refused; this program may go up to "), "{reason}");
    gone(&supervisor, &scene).await;
}

/// PROC-24
#[tokio::test]
async fn one_that_takes_more_memory_than_it_may_does_not_get_it() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let limits = Limits { memory_max_bytes: Some(32 << 20), ..Limits::default() };
    let mut spec = limited(&["--leak-mib", "200"], limits);
    spec.policy.restart.restarts_max = 0;
    supervisor.apply(vec![spec]).await.unwrap();
    supervisor.start("it").await.unwrap();
    let failed = until(&supervisor, "it", |unit| unit.phase == Phase::Failed).await;
    // Without a memory controller its own allocation fails; with one the kernel ends it, and that is told.
    let reason = failed.reason.unwrap();
    assert!(reason.contains("signal 6") || reason.contains("SIGABRT") || reason.contains("memory"), "{reason}");
    gone(&supervisor, &scene).await;
}
