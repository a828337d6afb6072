//! Reload, rolling restarts, drains and workers loaded on demand, over queen's API.

use rbee_api::{DrainRequest, ErrorCode, Phase, ReloadRequest, Verb, VerbRequest, WorkerAssignment, WorkerStatus};

use crate::harness::{Behaviour, FakeHive, ONE_WORKER, PATIENCE, TestQueen, code, message, obedient, within, worker};
use crate::workers::{Character, MockWorker};

const HEAD: &str = "[hive]\nauto_start = false\n";

fn write(home: &tempfile::TempDir, workers: &str) {
    std::fs::write(home.path().join("rbee.toml"), format!("{HEAD}{workers}")).unwrap();
}

/// QUEEN-26 QUEEN-27
#[tokio::test]
async fn a_reload_touches_only_what_the_file_says_otherwise_and_a_bad_file_nothing() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "", ONE_WORKER).await;
    let hive = FakeHive::start(&queen, "h", obedient(vec![1, 2])).await;
    let generation = hive.assignment().generation;
    let reload = || queen.control.reload(&ReloadRequest { wait_ms: 30_000 });

    write(&home, ONE_WORKER);
    let same = reload().await.unwrap();
    assert_eq!(
        (same.added.len() + same.removed.len() + same.restarted.len() + same.updated.len(), same.untouched),
        (0, 1)
    );
    assert_eq!(hive.assignment().generation, generation, "nothing is told to anybody");

    write(&home, &format!("{ONE_WORKER}replicas = 2\n[worker.x]\ncommand = [\"x\"]\n"));
    let grown = reload().await.unwrap();
    assert_eq!((grown.added, grown.untouched), (vec!["w/1".to_owned(), "x/0".to_owned()], 1));
    write(&home, &format!("[queen]\nmax_queue = 7\n{ONE_WORKER}stop_timeout = \"7s\"\nreplicas = 2\n"));
    let changed = reload().await.unwrap();
    assert_eq!((changed.removed, changed.updated), (vec!["x/0".to_owned()], vec!["w/0".to_owned(), "w/1".to_owned()]));
    assert_eq!(changed.needs_queen_restart, ["queen.max_queue"]);
    assert!(hive.assignment().workers.iter().all(|worker| worker.spec.stop_timeout_ms == 7_000));

    let before = hive.assignment();
    write(&home, &format!("{ONE_WORKER}replica = 2\nstop_timeout = \"soon\"\n"));
    let refused = reload().await;
    let text = message(refused);
    for part in ["rbee.toml", "rbee.toml:7", "`replica`", "did you mean `replicas`?", "rbee.toml:8", "stop_timeout"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert_eq!(code(reload().await), ErrorCode::InvalidConfig);
    assert_eq!(hive.assignment(), before);
    queen.stop().await;
}

/// The surge replica and those restarted come up when `come_up` has a permit; the others are obedient.
fn slow(come_up: std::sync::Arc<std::sync::atomic::AtomicBool>) -> Box<Behaviour> {
    let obey = obedient(vec![1, 2, 3]);
    Box::new(move |assigned: &WorkerAssignment, before: Option<&WorkerStatus>| {
        let status = obey(assigned, before)?;
        let up = come_up.load(std::sync::atomic::Ordering::Acquire);
        let fresh = before.is_none_or(|before| before.incarnation != status.incarnation);
        Some(if fresh && !up && assigned.id.replica > 0 { worker(assigned, Phase::Starting, 1) } else { status })
    })
}

fn rolling(wait_ms: u64) -> VerbRequest {
    VerbRequest { rolling: true, wait_ms, ..VerbRequest::default() }
}

/// QUEEN-20
#[tokio::test]
async fn a_rolling_restart_is_answered_when_all_is_as_before_but_new() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "", &format!("{ONE_WORKER}replicas = 2\n")).await;
    let hive = FakeHive::start(&queen, "h", obedient(vec![1, 2, 3])).await;
    let reply = queen.control.worker_verb(&"w".parse().unwrap(), Verb::Restart, &rolling(30_000)).await.unwrap();
    let runs: Vec<_> = reply.workers.iter().map(|on| (on.worker.replica, on.worker.incarnation)).collect();
    assert!(reply.changed);
    assert_eq!(runs, [(0, 2), (1, 2)]);
    assert_eq!(hive.assignment().workers.len(), 2);

    for (target, request, param) in [
        ("w/1", rolling(0), "rolling"),
        ("w", VerbRequest { rolling: true, now: true, ..VerbRequest::default() }, "now"),
    ] {
        let refused = queen.control.worker_verb(&target.parse().unwrap(), Verb::Restart, &request).await;
        assert!(message(refused).contains(param) || target == "w/1", "{target}");
    }
    let misplaced = queen.control.worker_verb(&"w".parse().unwrap(), Verb::Stop, &rolling(0)).await;
    assert_eq!(code(misplaced), ErrorCode::InvalidParameter);
    queen.stop().await;
}

/// QUEEN-21
#[tokio::test]
async fn a_rolling_restart_outlives_queen() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "", ONE_WORKER).await;
    let come_up = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut hive = FakeHive::start(&queen, "h", slow(come_up.clone())).await;
    queen.control.worker_verb(&"w".parse().unwrap(), Verb::Restart, &rolling(0)).await.unwrap();
    let status = queen.until("the stand-in", |status| status.workers().count() == 2).await;
    assert_eq!(status.workers().last().unwrap().1.phase, Phase::Starting);
    hive.die().await;
    queen.crash().await;

    let queen = TestQueen::start(home.path(), "", ONE_WORKER).await;
    come_up.store(true, std::sync::atomic::Ordering::Release);
    let hive = FakeHive::start(&queen, "h", obedient(vec![1, 2])).await;
    let ended = |status: &rbee_api::FleetStatus| {
        let mut workers = status.workers();
        workers.next().is_some_and(|(_, worker)| worker.restart_generation > 0 && worker.phase == Phase::Running)
            && workers.next().is_none()
    };
    queen.until("the end of the rolling restart", ended).await;
    assert_eq!(hive.assignment().workers.len(), 1);
    queen.stop().await;
}

/// QUEEN-22
#[tokio::test]
async fn a_drain_is_answered_when_nothing_is_in_flight_and_new_requests_wait() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "queue_timeout = \"30s\"", ONE_WORKER).await;
    let mock = MockWorker::start(Character::Slow).await;
    let hive = FakeHive::start(&queen, "h", obedient(vec![mock.port])).await;
    hive.say(|workers| workers.iter_mut().for_each(|worker| worker.own_engine = false)).await;
    let mut streaming = within(queen.chat(true).send()).await.unwrap();
    within(streaming.chunk()).await.unwrap().unwrap();

    let brief = DrainRequest { wait_ms: 1 };
    assert_eq!(code(queen.control.hive_drain("h", true, &brief).await), ErrorCode::Timeout, "one is in flight");
    let status = queen.control.status().await.unwrap();
    assert_eq!((status.hives[0].phase, status.hives[0].workers[0].phase), (Phase::Draining, Phase::Draining));
    assert!(status.hives[0].workers[0].reason.as_deref().unwrap().contains("hive undrain h"), "{status:?}");

    let waiting = tokio::spawn(queen.chat(false).send());
    queen.until_queued(1).await;
    let control = queen.control.clone();
    let draining = tokio::spawn(async move { control.hive_drain("h", true, &DrainRequest { wait_ms: 30_000 }).await });
    mock.release.add_permits(8);
    while within(streaming.chunk()).await.unwrap().is_some() {}
    let drained = within(draining).await.unwrap().unwrap();
    assert_eq!((drained.changed, drained.hive.phase), (false, Phase::Draining));

    let undrained = queen.control.hive_drain("h", false, &brief).await.unwrap();
    assert_eq!((undrained.changed, undrained.hive.phase), (true, Phase::Running));
    assert_eq!(within(waiting).await.unwrap().unwrap().status(), 200, "who waited is answered");
    assert_eq!(code(queen.control.hive_drain("x", true, &brief).await), ErrorCode::HiveNotFound);
    queen.stop().await;
}

/// QUEEN-25
#[tokio::test]
async fn what_nobody_uses_is_unloaded_and_a_request_is_held_while_it_loads() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "", &format!("{ONE_WORKER}idle_ttl = \"100ms\"\n")).await;
    let mock = MockWorker::start(Character::Good).await;
    let _hive = FakeHive::start(&queen, "h", obedient(vec![mock.port])).await;
    let unloaded = |status: &rbee_api::FleetStatus| {
        status.workers().all(|(_, worker)| worker.phase == Phase::Stopped && worker.unloaded)
    };
    let status = queen.until("unloaded", unloaded).await;
    assert_eq!(status.hives[0].workers[0].reason.as_deref(), Some("unloaded after 100ms idle"));
    let answers = (0..8).map(|_| queen.chat(false).send());
    for answer in tokio::time::timeout(PATIENCE, futures_util::future::join_all(answers)).await.unwrap() {
        assert_eq!(answer.unwrap().status(), 200);
    }
    queen.until("unloaded again", unloaded).await;
    let at_once = VerbRequest { wait_ms: 0, ..VerbRequest::default() };
    let started = queen.control.worker_verb(&"w".parse().unwrap(), Verb::Start, &at_once).await.unwrap();
    assert!(started.changed, "by hand it is loaded, too");
    queen.stop().await;
}
