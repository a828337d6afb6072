//! Many units at once, and what they have to do with each other.

use std::time::Duration;

use daemon_lifecycle::{Launch, Phase, Snapshot, StopMode, Supervisor, UnitName, UnitSpec};

use crate::scene::{Scene, kill9, runs, unruly};
use crate::supervisor::{nothing_is_left, open, open_with, started, unit, until};

fn many(count: usize) -> Vec<UnitSpec> {
    (0..count).map(|number| UnitSpec::new(format!("unit{number}"), Launch::new(unruly(), [""; 0]))).collect()
}

async fn all_run(supervisor: &Supervisor, count: usize) -> Snapshot {
    let run = |units: &Snapshot| units.len() == count && units.values().all(|unit| unit.phase == Phase::Running);
    supervisor.subscribe().wait_for(run).await.unwrap().clone()
}

/// SUP-01, SUP-03
#[tokio::test]
async fn many_are_started_handed_on_and_stopped_without_one_task_or_thread_for_each() {
    const COUNT: usize = 150;
    let scene = Scene::new();
    let first = open(&scene).await;
    first.apply(many(COUNT)).await.unwrap();
    for number in 0..COUNT {
        first.start(&format!("unit{number}")).await.unwrap();
    }
    let before = all_run(&first, COUNT).await;
    let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
    assert!(threads < 40, "{threads} threads");
    first.detach().await.unwrap();

    let second = open(&scene).await;
    second.apply(many(COUNT)).await.unwrap();
    let after = all_run(&second, COUNT).await;
    for (name, unit) in after.iter() {
        assert_eq!((unit.pid, unit.adopted, unit.incarnation), (before[name].pid, true, 1), "{name}");
    }
    nothing_is_left(&second, &scene).await;
    assert!(before.values().all(|unit| !runs(unit.pid.unwrap())));
}

/// SUP-02
#[tokio::test]
async fn no_more_than_allowed_are_on_their_way_up_at_once() {
    let scene = Scene::new();
    let supervisor = open_with(&scene, |config| config.bounds.starts_max = 2).await;
    let ready = scene.path("ready");
    let names = ["a", "b", "c", "d"];
    let specs = names.map(|name| unit(name, &["--ready-file", ready.to_str().unwrap()]));
    supervisor.apply(specs.to_vec()).await.unwrap();
    for name in names {
        supervisor.start(name).await.unwrap();
    }
    for name in ["a", "b"] {
        until(&supervisor, name, |unit| unit.pid.is_some()).await;
    }
    let units = supervisor.snapshot();
    for name in ["c", "d"] {
        assert_eq!((units[name].phase, units[name].pid), (Phase::Starting, None));
        assert_eq!(units[name].is_waiting_for.as_deref(), Some("a start slot"));
    }
    std::fs::write(&ready, "").unwrap();
    let units = all_run(&supervisor, 4).await;
    assert!(units.values().all(|unit| unit.is_waiting_for.is_none()));
    nothing_is_left(&supervisor, &scene).await;
}

/// SUP-04
#[tokio::test]
async fn a_cascade_is_told_down_to_its_root() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    let mut api = unit("api", &[]);
    api.policy.depends_on = vec![UnitName::new("cache")];
    supervisor.apply(vec![api, unit("cache", &["--exit-after-ms", "3600000"])]).await.unwrap();
    assert_eq!(started(&supervisor, "api").await.phase, Phase::Running);
    let cache = supervisor.snapshot()["cache"].clone();
    assert_eq!(cache.phase, Phase::Running, "what it needs is started first");
    let earliest = jiff::Timestamp::now();
    kill9(cache.pid.unwrap());
    let api = until(&supervisor, "api", |unit| unit.incarnation == 2 && unit.phase == Phase::Running).await;
    let history = supervisor.why("api").await.unwrap();
    let [fall] = &history.falls[..] else { panic!("{history}") };
    assert_eq!(fall.sentence, "api restarted because its dependency cache restarted because signal 9 ended it");
    assert_eq!(fall.chain, ["api", "cache"]);
    let latest = jiff::Timestamp::now();
    let slack = Duration::from_secs(1);
    assert!(earliest - slack <= fall.at && fall.at <= latest + slack, "{earliest} {} {latest}", fall.at);
    assert_eq!(api.history, history.falls, "the status tells the same");
    assert!(supervisor.why("nobody").await.is_err());
    nothing_is_left(&supervisor, &scene).await;
}

/// SUP-05
#[tokio::test]
async fn who_holds_a_snapshot_sees_it_unchanged() {
    let scene = Scene::new();
    let supervisor = open(&scene).await;
    supervisor.apply(vec![unit("a", &[]), unit("b", &[])]).await.unwrap();
    let before = supervisor.snapshot();
    started(&supervisor, "a").await;
    assert_eq!(before["a"].phase, Phase::Stopped);
    let after = supervisor.snapshot();
    assert_eq!(after["a"].phase, Phase::Running);
    assert!(std::sync::Arc::ptr_eq(&before["b"], &after["b"]), "what did not change is shared");
    supervisor.stop("a", StopMode::Now).await.unwrap();
    nothing_is_left(&supervisor, &scene).await;
}
