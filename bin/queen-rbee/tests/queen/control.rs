//! The control API: who may ask, verbs that wait, hives that come and go, what survives queen.

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use futures_util::TryStreamExt;
use rbee_api::{
    Desired, ErrorCode, LogQuery, Phase, ScaleRequest, ShutdownRequest, Verb, VerbReply, VerbRequest, WorkerRef,
};
use reqwest::StatusCode;
use serde_json::Value;

use crate::harness::{FakeHive, ONE_WORKER, TOKEN, TestQueen, code, message, obedient, within, worker};

fn request(wait_ms: u64) -> VerbRequest {
    VerbRequest { wait_ms, ..VerbRequest::default() }
}

async fn verb(queen: &TestQueen, target: &str, verb: Verb) -> Result<VerbReply, rbee_api::ClientError> {
    let target: WorkerRef = target.parse().unwrap();
    within(queen.control.worker_verb(&target, verb, &request(20_000))).await
}

#[tokio::test]
async fn who_may_ask_what() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "", ONE_WORKER).await;
    let status_url = format!("{}/api/v1/status", queen.url);
    for (token, status) in [(None, 401), (Some("0123456789abcdef-wrong"), 401), (Some(TOKEN), 200)] {
        let mut request = queen.http.get(&status_url);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        assert_eq!(request.send().await.unwrap().status(), status, "{token:?}");
    }
    let health: Value = queen.http.get(format!("{}/health", queen.url)).send().await.unwrap().json().await.unwrap();
    assert_eq!(health["healthy"], true);
    let foreign = queen.http.get(&status_url).bearer_auth(TOKEN).header("host", "evil.example").send().await.unwrap();
    assert_eq!(foreign.status(), StatusCode::FORBIDDEN);
    let nothing = queen.http.delete(format!("{}/api/v9", queen.url)).send().await.unwrap();
    assert_eq!(nothing.status(), StatusCode::NOT_FOUND);
    assert!(nothing.headers().contains_key("x-correlation-id"));
    assert_eq!(nothing.json::<Value>().await.unwrap()["error"]["code"], "not_found");
    queen.stop().await;
}

#[tokio::test]
async fn the_tree_is_shown_as_far_as_it_is_known() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "", &format!("{ONE_WORKER}replicas = 2\n")).await;
    let empty = queen.control.status().await.unwrap();
    let of_queen = empty.queen.unwrap();
    assert_eq!((of_queen.phase, of_queen.pid, &of_queen.url), (Phase::Running, Some(std::process::id()), &queen.url));
    assert!(empty.hives.is_empty());

    // One replica it does not speak of yet.
    let behaviour = |assigned: &rbee_api::WorkerAssignment, _: Option<&_>| {
        (assigned.id.replica == 0).then(|| worker(assigned, Phase::Running, 7855))
    };
    let _hive = FakeHive::start(&queen, "h", Box::new(behaviour)).await;
    let status = queen.control.status().await.unwrap();
    let hive = &status.hives[0];
    assert_eq!((hive.name.as_str(), hive.phase, hive.pid), ("h", Phase::Running, Some(4711)));
    let phases: Vec<_> = hive.workers.iter().map(|worker| (worker.replica, worker.phase)).collect();
    assert_eq!(phases, [(0, Phase::Running), (1, Phase::Starting)]);
    queen.stop().await;
}

/// QUEEN-06
#[tokio::test]
async fn verbs_wait_until_it_has_come_about_and_change_nothing_twice() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "", ONE_WORKER).await;
    let hive = FakeHive::start(&queen, "h", obedient(vec![7855])).await;
    let first = hive.assignment().generation;

    let reply = verb(&queen, "w", Verb::Start).await.unwrap();
    assert!(!reply.changed);
    assert_eq!((reply.workers[0].hive.as_str(), reply.workers[0].worker.phase), ("h", Phase::Running));
    assert_eq!(hive.assignment().generation, first, "nothing changed, no new generation");

    let reply = verb(&queen, "h:w/0", Verb::Stop).await.unwrap();
    assert_eq!((reply.changed, reply.workers[0].worker.phase), (true, Phase::Stopped));
    assert_eq!(hive.assignment().workers[0].desired, Desired::Stopped);
    assert!(!verb(&queen, "w", Verb::Stop).await.unwrap().changed);
    assert!(!verb(&queen, "w", Verb::Kill).await.unwrap().changed, "it is down already");

    assert!(verb(&queen, "w", Verb::Start).await.unwrap().changed);
    let reply = verb(&queen, "w", Verb::Restart).await.unwrap();
    assert_eq!((reply.changed, reply.workers[0].worker.incarnation), (true, 2));
    let reply = verb(&queen, "w", Verb::Kill).await.unwrap();
    assert_eq!(reply.workers[0].worker.phase, Phase::Stopped);
    assert_eq!(hive.assignment().workers[0].desired, Desired::Killed);
    queen.stop().await;
}

#[tokio::test]
async fn scaling_goes_both_ways() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "", ONE_WORKER).await;
    let hive = FakeHive::start(&queen, "h", obedient(vec![7855])).await;
    for (replicas, changed) in [(3, true), (3, false), (1, true), (0, true), (1, true)] {
        let scale = ScaleRequest { replicas, wait_ms: 20_000 };
        let reply = within(queen.control.scale("w", &scale)).await.unwrap();
        assert_eq!((reply.changed, reply.workers.len()), (changed, replicas as usize));
        assert!(reply.workers.iter().all(|worker| worker.worker.phase == Phase::Running));
        assert_eq!(hive.assignment().workers.len(), replicas as usize);
    }
    let scale = ScaleRequest { replicas: 100_000, wait_ms: 0 };
    assert_eq!(code(queen.control.scale("w", &scale).await), ErrorCode::InvalidParameter);
    queen.stop().await;
}

#[tokio::test]
async fn a_worker_that_fails_says_why_and_can_be_tried_again() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "", ONE_WORKER).await;
    let behaviour = |assigned: &rbee_api::WorkerAssignment, _: Option<&_>| {
        let phase = match (assigned.desired, assigned.retry_generation) {
            (Desired::Running, 0) => Phase::Failed,
            (Desired::Running, _) => Phase::Running,
            _ => Phase::Stopped,
        };
        let mut status = worker(assigned, phase, 7855);
        if phase == Phase::Failed {
            status.reason = Some("exit code 3, 5 times within 1 h".into());
            status.last_log_lines = vec!["cannot read the model".into()];
        }
        Some(status)
    };
    let _hive = FakeHive::start(&queen, "h", Box::new(behaviour)).await;
    let failed = verb(&queen, "w", Verb::Restart).await;
    assert!(matches!(&failed, Err(rbee_api::ClientError::Api { status: 502, .. })), "{failed:?}");
    let text = message(failed);
    assert!(text.contains("exit code 3, 5 times") && text.contains("cannot read the model"), "{text}");

    let reply = verb(&queen, "w", Verb::Start).await.unwrap();
    assert_eq!((reply.changed, reply.workers[0].worker.phase), (true, Phase::Running));
    queen.stop().await;
}

#[tokio::test]
async fn waiting_for_a_worker_has_an_end() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "", ONE_WORKER).await;
    let target: WorkerRef = "w".parse().unwrap();
    let nowhere = queen.control.worker_verb(&target, Verb::Start, &request(50)).await;
    assert!(message(nowhere).contains("no hive is there"));

    let hive = FakeHive::start(&queen, "h", Box::new(|assigned, _| Some(worker(assigned, Phase::Starting, 0)))).await;
    let late = queen.control.worker_verb(&target, Verb::Start, &request(50)).await;
    assert!(matches!(&late, Err(rbee_api::ClientError::Api { status: 504, .. })), "{late:?}");
    assert!(message(late).contains("w/0 is starting"));
    let at_once = queen.control.worker_verb(&target, Verb::Start, &request(0)).await.unwrap();
    assert_eq!(at_once.workers[0].worker.phase, Phase::Starting);

    // Somebody else decides otherwise while we wait.
    let control = queen.control.clone();
    let waits = tokio::spawn(async move {
        let target: WorkerRef = "w".parse().unwrap();
        control.worker_verb(&target, Verb::Restart, &request(20_000)).await
    });
    hive.until_applied(hive.assignment().generation + 1).await;
    queen.control.worker_verb(&target, Verb::Stop, &request(0)).await.unwrap();
    assert_eq!(code(within(waits).await.unwrap()), ErrorCode::Conflict);
    queen.stop().await;
}

#[tokio::test]
async fn what_does_not_exist_is_told_with_what_does() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "", &ONE_WORKER.replace("worker.w]", "worker.smollm2]")).await;
    let _hive = FakeHive::start(&queen, "left", obedient(vec![1])).await;
    for (target, expected, says) in [
        ("smolm2", ErrorCode::WorkerNotFound, "did you mean `smollm2`?"),
        ("zzzzzzz", ErrorCode::WorkerNotFound, "there are: smollm2"),
        ("smollm2/1", ErrorCode::WorkerNotFound, "has 1 replicas"),
        ("leff:smollm2", ErrorCode::HiveNotFound, "did you mean `left`?"),
    ] {
        let text = message(verb(&queen, target, Verb::Stop).await);
        assert!(text.contains(says), "{target}: {text}");
        assert_eq!(code(verb(&queen, target, Verb::Stop).await), expected);
    }
    let auth = |path: &str, body: &'static str| queen.post(path, body).bearer_auth(TOKEN).send();
    for (path, body, status) in [
        ("/api/v1/workers/smollm2/explode", "", 404),
        ("/api/v1/workers/smollm2/stop", r#"{"wait":1}"#, 400),
        ("/api/v1/workers/smollm2/stop", "{", 400),
        ("/api/v1/workers/smollm2/stop?replica=x", "", 400),
        ("/api/v1/workers/smollm2/restart", r#"{"now":true}"#, 400),
        ("/api/v1/workers/smollm2/stop", r#"{"force":true}"#, 400),
        ("/api/v1/workers/smollm2/scale", "{}", 400),
        ("/api/v1/workers/smollm2/scale", r#"{"replicas":-1}"#, 400),
        ("/api/v1/workers/a%20b/stop", "", 400),
        ("/api/v1/hives/h/heartbeat", "{}", 400),
    ] {
        let response = auth(path, body).await.unwrap();
        assert_eq!(response.status(), status, "{path} {body}");
        assert!(response.json::<Value>().await.unwrap()["error"]["message"].is_string());
    }
    // An empty body means the defaults.
    assert_eq!(auth("/api/v1/workers/smollm2/start", "").await.unwrap().status(), 200);
    queen.stop().await;
}

#[tokio::test]
async fn a_hive_gets_its_orders_once_and_at_once() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "", ONE_WORKER).await;
    let hive = FakeHive::silent(&queen, "h", "http://127.0.0.1:9");
    assert_eq!(queen.control.assignment("h", None, 0).await.unwrap(), None, "it has not spoken yet");
    let reply = hive.heartbeat().await.unwrap();
    let assignment = queen.control.assignment("h", None, 0).await.unwrap().unwrap();
    assert_eq!((reply.generation, &reply.fleet_id), (assignment.generation, &assignment.fleet_id));
    assert_eq!(reply.lease_ttl_ms, 15_000);
    let current = (assignment.fleet_id.clone(), assignment.generation);
    let again = queen.control.assignment("h", Some((&current.0, current.1)), 0).await.unwrap();
    assert_eq!(again, None);
    let other_fleet = queen.control.assignment("h", Some(("other", 99)), 0).await.unwrap();
    assert_eq!(other_fleet.unwrap(), assignment, "generations of different fleets do not compare");

    let (control, fleet) = (queen.control.clone(), current.0.clone());
    let poll = tokio::spawn(async move { control.assignment("h", Some((&fleet, current.1)), 25_000).await });
    for _ in 0..3 {
        assert_eq!(hive.heartbeat().await.unwrap().generation, current.1, "heartbeats are no changes");
    }
    queen.control.scale("w", &ScaleRequest { replicas: 2, wait_ms: 0 }).await.unwrap();
    let newer = within(poll).await.unwrap().unwrap().unwrap();
    assert!(newer.generation > current.1);
    assert_eq!(newer.workers.len(), 2);
    queen.stop().await;
}

/// QUEEN-02
#[tokio::test]
async fn a_lost_hives_replicas_move_and_a_returning_one_gets_none() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "lease_ttl = \"2s\"", &format!("{ONE_WORKER}replicas = 2\n")).await;
    let mut a = FakeHive::start(&queen, "a", obedient(vec![7855])).await;
    assert_eq!(a.assignment().workers.len(), 2);
    let b = FakeHive::start(&queen, "b", obedient(vec![7855])).await;
    assert!(b.assignment().workers.is_empty(), "nothing moves without need");
    a.die().await;
    // Only b goes on speaking.
    let moved = async {
        loop {
            b.heartbeat().await.unwrap();
            if b.assignment().workers.len() == 2 {
                return;
            }
        }
    };
    within(moved).await;
    let status = queen.control.status().await.unwrap();
    assert_eq!((status.hives[0].phase, status.hives[1].phase), (Phase::Unavailable, Phase::Running));
    a.heartbeat().await.unwrap();
    let orders = queen.control.assignment("a", None, 0).await.unwrap().unwrap();
    assert!(orders.workers.is_empty(), "{orders:?}");
    queen.stop().await;
}

/// QUEEN-03
#[tokio::test]
async fn two_machines_cannot_have_one_name() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "", ONE_WORKER).await;
    let first = FakeHive::start(&queen, "h", obedient(vec![7855])).await;
    let second = FakeHive::silent(&queen, "h", "http://127.0.0.1:10").on_machine("another");
    assert_eq!(code(second.heartbeat().await), ErrorCode::Conflict);
    assert_eq!(queen.control.status().await.unwrap().hives[0].url, "http://127.0.0.1:9");
    first.say_stopping().await;
    let stopping = queen.control.status().await.unwrap();
    assert_eq!(stopping.hives[0].phase, Phase::Stopping);
    second.heartbeat().await.unwrap();
    for (name, url) in [("a b", "http://127.0.0.1:1"), ("ok", "nonsense")] {
        let name = name.replace(' ', "%20");
        assert_eq!(code(FakeHive::silent(&queen, &name, url).heartbeat().await), ErrorCode::InvalidParameter);
    }
    queen.stop().await;
}

/// QUEEN-04
#[tokio::test]
async fn the_next_queen_goes_on_where_the_last_one_was_killed() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "", &format!("{ONE_WORKER}replicas = 2\n")).await;
    let mut hive = FakeHive::start(&queen, "h", obedient(vec![7855])).await;
    verb(&queen, "w/1", Verb::Stop).await.unwrap();
    let before = hive.assignment();
    hive.die().await;
    queen.crash().await;

    let queen = TestQueen::start(home.path(), "", &format!("{ONE_WORKER}replicas = 2\n")).await;
    let status = queen.control.status().await.unwrap();
    assert_eq!(status.queen.unwrap().restarts, 1);
    assert_eq!(status.hives[0].phase, Phase::Unavailable);
    assert!(status.hives[0].reason.as_deref().unwrap().starts_with("not heard of since 20"), "{:?}", status.hives[0]);
    // Another hive is quicker; it gets nothing of what the first one has.
    let other = FakeHive::start(&queen, "a", obedient(vec![7855])).await;
    assert!(other.assignment().workers.is_empty());
    let hive = FakeHive::silent(&queen, "h", "http://127.0.0.1:9");
    let reply = hive.heartbeat().await.unwrap();
    assert_eq!((reply.fleet_id, reply.generation), (before.fleet_id.clone(), before.generation));
    let newer = queen.control.assignment("h", Some((&before.fleet_id, before.generation)), 0).await.unwrap();
    assert_eq!(newer, None, "its orders are as they were");
    queen.stop().await;
    let queen = TestQueen::start(home.path(), "", ONE_WORKER).await;
    assert_eq!(queen.control.status().await.unwrap().queen.unwrap().restarts, 0, "she was stopped, not killed");
    queen.stop().await;
}

/// QUEEN-05
#[tokio::test]
async fn a_corrupt_store_is_a_new_fleet_and_work_goes_on() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "", ONE_WORKER).await;
    let hive = FakeHive::start(&queen, "h", obedient(vec![7855])).await;
    let before = hive.assignment();
    queen.stop().await;
    std::fs::write(home.path().join("state/queen.sqlite"), vec![b'x'; 10_000]).unwrap();
    let queen = TestQueen::start(home.path(), "", ONE_WORKER).await;
    let hive = FakeHive::start(&queen, "h", obedient(vec![7855])).await;
    assert_ne!(hive.assignment().fleet_id, before.fleet_id);
    assert!(verb(&queen, "w", Verb::Start).await.is_ok());
    let aside = std::fs::read_dir(home.path().join("state")).unwrap().flatten();
    assert_eq!(aside.filter(|file| file.file_name().to_string_lossy().contains("corrupt")).count(), 1);
    queen.stop().await;
}

#[tokio::test]
async fn logs_come_from_the_hive_as_they_are_written() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "", ONE_WORKER).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let logs = |uri: http::Uri, headers: http::HeaderMap| async move {
        assert_eq!(headers["authorization"], format!("Bearer {TOKEN}").as_str());
        assert_eq!(uri.query(), Some("replica=0&lines=7&follow=true"));
        // It goes on for ever, as a followed log does.
        let lines = futures_util::stream::iter([Ok::<_, std::io::Error>("a line\n")]);
        axum::body::Body::from_stream(futures_util::StreamExt::chain(lines, futures_util::stream::pending()))
    };
    let router = Router::new().route("/api/v1/workers/w/logs", get(logs));
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let _hive = FakeHive::start_at(&queen, "h", &url, obedient(vec![7855])).await;
    let query = LogQuery { lines: 7, follow: true, ..LogQuery::default() };
    let stream = queen.control.worker_logs("w", &query).await.unwrap();
    tokio::pin!(stream);
    assert_eq!(within(stream.try_next()).await.unwrap().unwrap(), "a line\n");
    assert_eq!(code(queen.control.worker_logs("v", &query).await.map(drop)), ErrorCode::WorkerNotFound);
    server.abort();
    let _ = server.await;
    // The open one must not keep queen from ending.
    queen.stop().await;
}

#[tokio::test]
async fn logs_of_a_hive_that_does_not_answer() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "", ONE_WORKER).await;
    let none = queen.control.worker_logs("w", &LogQuery::default()).await.map(drop);
    assert_eq!(code(none), ErrorCode::Unavailable);
    let url = format!("http://127.0.0.1:{}", crate::workers::closed_port().await);
    let _hive = FakeHive::start_at(&queen, "h", &url, obedient(vec![7855])).await;
    let silent = queen.control.worker_logs("w", &LogQuery::default()).await.map(drop);
    assert!(message(silent).contains("hive h does not answer"));
    queen.stop().await;
}

/// QUEEN-10
#[tokio::test]
async fn asked_to_end_queen_lets_everybody_go_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "", ONE_WORKER).await;
    let _hive = FakeHive::start(&queen, "h", obedient(vec![7855])).await;
    let lock = home.path().join("run/queen-rbee.lock");
    assert_eq!(std::fs::read_to_string(&lock).unwrap().trim(), std::process::id().to_string());
    let current = _hive.assignment();
    let control = queen.control.clone();
    let poll =
        tokio::spawn(
            async move { control.assignment("h", Some((&current.fleet_id, current.generation)), 60_000).await },
        );
    queen.control.shutdown(&ShutdownRequest { keep_children: true, now: false }).await.unwrap();
    // Its poll is answered, or it was not heard any more: it does not hang until its time is over.
    let _ = tokio::time::timeout(Duration::from_secs(20), poll).await.expect("the poll hangs");
    within(queen.task).await.unwrap().unwrap();
    assert!(!lock.exists());
    let folders = ["logs", "models", "monitor"];
    let left = |folder: &str| -> Vec<String> {
        let files = std::fs::read_dir(home.path().join(folder)).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !folders.contains(&name.as_str())).collect()
    };
    assert_eq!(left("state"), ["queen.sqlite"], "no side files of the store");
    assert_eq!(left("state/monitor"), ["queen.sqlite"], "nor of the history");
}
