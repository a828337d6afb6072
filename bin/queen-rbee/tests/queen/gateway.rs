//! The OpenAI-compatible gateway, with workers of every character behind it.

use futures_util::future::join_all;
use rbee_api::{Phase, ScaleRequest};
use reqwest::{Response, StatusCode};
use serde_json::Value;

use crate::harness::{FakeHive, ONE_WORKER, TOKEN, TestQueen, obedient, within, worker};
use crate::workers::{BREAKS_IN_EVENT, BREAKS_IN_JSON, Character, GARBAGE, MockWorker, closed_port, raw};

/// A queen with one hive whose replica N of worker `w` answers at `ports[N]`.
pub(crate) async fn fleet(home: &tempfile::TempDir, queen_keys: &str, ports: Vec<u16>) -> (TestQueen, FakeHive) {
    let replicas = ports.len();
    let queen = TestQueen::start(home.path(), queen_keys, &format!("{ONE_WORKER}replicas = {replicas}\n")).await;
    let hive = FakeHive::start(&queen, "h", obedient(ports)).await;
    (queen, hive)
}

pub(crate) async fn error_of(response: Response) -> (StatusCode, Value) {
    let status = response.status();
    let body: Value = within(response.json()).await.unwrap();
    assert!(body["error"]["correlation_id"].is_string(), "{body}");
    (status, body["error"].clone())
}

pub(crate) async fn text_of(response: Response) -> String {
    within(response.text()).await.unwrap()
}

/// All its workers are commands, not our engine.
pub(crate) async fn foreign(hive: &FakeHive) {
    hive.say(|workers| workers.iter_mut().for_each(|worker| worker.own_engine = false)).await;
}

/// Reads up to the first event.
pub(crate) async fn first_event(response: &mut Response) -> String {
    let piece = within(response.chunk()).await.unwrap().expect("an event");
    String::from_utf8(piece.to_vec()).unwrap()
}

#[tokio::test]
async fn models_are_listed_and_unknown_ones_are_told_apart() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "", ONE_WORKER).await;
    let list: Value = queen.http.get(format!("{}/v1/models", queen.url)).send().await.unwrap().json().await.unwrap();
    assert_eq!((&list["object"], &list["data"][0]["id"]), (&"list".into(), &"m".into()));
    let one = queen.http.get(format!("{}/v1/models/m", queen.url)).send().await.unwrap();
    assert_eq!(one.status(), 200);
    let (status, error) =
        error_of(queen.http.get(format!("{}/v1/models/org/x", queen.url)).send().await.unwrap()).await;
    assert_eq!((status, &error["code"]), (StatusCode::NOT_FOUND, &"model_not_found".into()));

    let unknown = queen.post("/v1/chat/completions", r#"{"model":"mm"}"#).send().await.unwrap();
    let (status, error) = error_of(unknown).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    assert_eq!(
        (&error["code"], &error["type"], &error["param"]),
        (&"model_not_found".into(), &"invalid_request_error".into(), &"model".into())
    );
    assert!(error["message"].as_str().unwrap().contains("`m`"), "{error}");
    queen.stop().await;
}

#[tokio::test]
async fn bad_bodies_have_their_answer() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "", ONE_WORKER).await;
    for (body, status, code) in [
        ("{".to_owned(), StatusCode::BAD_REQUEST, "invalid_request"),
        ("{}".to_owned(), StatusCode::BAD_REQUEST, "invalid_request"),
        (r#"{"model":7}"#.to_owned(), StatusCode::BAD_REQUEST, "invalid_request"),
        ("x".repeat(20 << 20), StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
    ] {
        for path in ["/v1/chat/completions", "/v1/completions", "/v1/embeddings"] {
            let (got, error) = error_of(queen.post(path, body.clone()).send().await.unwrap()).await;
            assert_eq!((got, error["code"].as_str()), (status, Some(code)), "{path} {} bytes", body.len());
        }
    }
    let wrong_method = queen.http.get(format!("{}/v1/embeddings", queen.url)).send().await.unwrap();
    assert_eq!(error_of(wrong_method).await.1["code"], "method_not_allowed");
    queen.stop().await;
}

/// GATE-08
#[tokio::test]
async fn answers_pass_through_and_only_what_is_meant_for_the_worker_reaches_it() {
    let home = tempfile::tempdir().unwrap();
    let good = MockWorker::start(Character::Good).await;
    let (queen, hive) = fleet(&home, "", vec![good.port]).await;
    let request = queen.chat(false).header("x-correlation-id", "c-1").header("authorization", "Bearer of-the-client");
    let response = request.send().await.unwrap();
    assert_eq!((response.status(), &response.headers()["x-correlation-id"]), (StatusCode::OK, &"c-1".parse().unwrap()));
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(
        text_of(queen.chat(true).send().await.unwrap()).await,
        "data: {\"n\":1}\n\ndata: {\"n\":2}\n\ndata: [DONE]\n\n"
    );

    let requests = good.requests();
    let (headers, body) = &requests[0];
    assert_eq!(headers["x-correlation-id"], "c-1");
    assert_eq!(headers["authorization"], format!("Bearer {TOKEN}").as_str());
    let body: Value = serde_json::from_slice(body).unwrap();
    assert!(body["seed"].is_u64() && body["rbee_resume"]["choices"].is_array(), "{body}");
    assert!(!headers.contains_key("x-rbee-resumable"), "nothing is sent of it before it is complete");
    assert_eq!(requests[1].0["x-rbee-resumable"], "1");

    foreign(&hive).await;
    let foreign = queen.chat(false).header("authorization", "Bearer of-the-client").send().await.unwrap();
    assert_eq!(foreign.status(), StatusCode::OK);
    let requests = good.requests();
    let (headers, body) = requests.last().unwrap();
    assert!(!headers.contains_key("authorization"), "a command that is not ours gets no token");
    assert_eq!(&body[..], br#"{"model":"m","stream":false,"messages":[]}"#, "nor anything else of ours");
    queen.stop().await;
}

#[tokio::test]
async fn a_workers_own_refusal_is_passed_on_as_it_is() {
    let home = tempfile::tempdir().unwrap();
    let refuses = MockWorker::start(Character::Refuses).await;
    let (queen, _hive) = fleet(&home, "", vec![refuses.port]).await;
    let response = queen.chat(true).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(text_of(response).await.contains("its own words"));
    queen.stop().await;
}

/// GATE-03
#[tokio::test]
async fn streams_are_not_buffered_and_the_least_busy_replica_is_next() {
    let home = tempfile::tempdir().unwrap();
    let (a, b) = (MockWorker::start(Character::Slow).await, MockWorker::start(Character::Slow).await);
    let (queen, _hive) = fleet(&home, "", vec![a.port, b.port]).await;
    let mut first = queen.chat(true).send().await.unwrap();
    assert_eq!(first_event(&mut first).await, "data: {\"n\":0}\n\n", "it comes while the worker holds the rest back");
    let mut second = queen.chat(true).send().await.unwrap();
    assert_eq!(first_event(&mut second).await, "data: {\"n\":0}\n\n");
    a.until_open(1).await;
    b.until_open(1).await;
    b.release.add_permits(2);
    assert_eq!(text_of(second).await, "data: {\"n\":1}\n\ndata: [DONE]\n\n");
    b.until_open(0).await;
    let third = queen.chat(true).send().await.unwrap();
    b.until_open(1).await;
    assert_eq!((a.requests().len(), b.requests().len()), (1, 2));
    drop((first, third));
    a.until_open(0).await;
    b.until_open(0).await;
    queen.stop().await;
}

/// GATE-06
#[tokio::test]
async fn a_client_that_goes_away_ends_its_request_at_the_worker() {
    let home = tempfile::tempdir().unwrap();
    let slow = MockWorker::start(Character::Slow).await;
    let (queen, _hive) = fleet(&home, "", vec![slow.port]).await;
    let mut streaming = queen.chat(true).send().await.unwrap();
    first_event(&mut streaming).await;
    drop(streaming);
    slow.until_open(0).await;

    // Before a byte of the answer, too.
    let whole = tokio::spawn(queen.chat(false).send());
    slow.until_open(1).await;
    whole.abort();
    slow.until_open(0).await;
    queen.stop().await;
}

#[tokio::test]
async fn embeddings_are_routed_as_they_are_and_asked_for_again() {
    let home = tempfile::tempdir().unwrap();
    let good = MockWorker::start(Character::Good).await;
    let (breaks, _) = raw(BREAKS_IN_JSON).await;
    let (queen, _hive) = fleet(&home, "", vec![breaks, good.port]).await;
    let body = r#"{"model":"m","input":["a"],"encoding_format":"base64"}"#;
    let response = within(queen.post("/v1/embeddings", body).send()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(&good.requests()[0].1[..], body.as_bytes());
    queen.stop().await;
}

/// GATE-04
#[tokio::test]
async fn a_replica_that_cannot_be_used_is_replaced_by_another() {
    let (refused, unready) = (closed_port().await, MockWorker::start(Character::Unready).await);
    let (garbage, _) = raw(GARBAGE).await;
    let (breaks, _) = raw(BREAKS_IN_JSON).await;
    let busy = MockWorker::start(Character::Busy).await;
    for port in [refused, unready.port, garbage, breaks, busy.port] {
        let home = tempfile::tempdir().unwrap();
        let good = MockWorker::start(Character::Good).await;
        let (queen, _hive) = fleet(&home, "", vec![port, good.port]).await;
        for stream in [false, true] {
            let response = within(queen.chat(stream).send()).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK, "port {port}, stream {stream}");
        }
        queen.stop().await;
    }
}

#[tokio::test]
async fn a_full_fleet_says_so_and_a_deadly_request_is_not_tried_for_ever() {
    let busy = MockWorker::start(Character::Busy).await;
    let home = tempfile::tempdir().unwrap();
    let (queen, hive) = fleet(&home, "queue_timeout = \"400ms\"", vec![busy.port, busy.port]).await;
    let (status, error) = error_of(within(queen.chat(true).send()).await.unwrap()).await;
    assert_eq!((status, &error["code"]), (StatusCode::TOO_MANY_REQUESTS, &"queue_full".into()));
    // An engine that is not ours may have its own reasons.
    foreign(&hive).await;
    let response = queen.chat(true).send().await.unwrap();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(text_of(response).await, "full");
    queen.stop().await;

    let (deadly, asked) = raw(b"").await;
    let home = tempfile::tempdir().unwrap();
    let (queen, _hive) = fleet(&home, "attempts_max = 2", vec![deadly, deadly, deadly]).await;
    let (status, error) = error_of(within(queen.chat(false).send()).await.unwrap()).await;
    assert_eq!((status, &error["code"]), (StatusCode::BAD_GATEWAY, &"upstream_broken".into()));
    assert_eq!(*asked.borrow(), 2);
    queen.stop().await;
}

/// GATE-05
#[tokio::test]
async fn a_stream_that_breaks_ends_with_an_error_and_without_done() {
    let ends_early = MockWorker::start(Character::EndsEarly).await;
    let (breaks, _) = raw(BREAKS_IN_EVENT).await;
    for (port, before) in [(breaks, "data: {\"n\":1}\n\n"), (ends_early.port, "data: {\"n\":1}\n\ndata: {\"n\":2}\n\n")]
    {
        let home = tempfile::tempdir().unwrap();
        let (queen, hive) = fleet(&home, "", vec![port]).await;
        foreign(&hive).await;
        let response = queen.chat(true).header("x-correlation-id", "c-2").send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let text = text_of(response).await;
        let event = text.strip_prefix(before).unwrap_or_else(|| panic!("{text}"));
        let json = event.strip_prefix("data: ").and_then(|event| event.strip_suffix("\n\n")).unwrap();
        let error: Value = serde_json::from_str(json).unwrap();
        assert_eq!(
            (&error["error"]["code"], &error["error"]["correlation_id"]),
            (&"upstream_broken".into(), &"c-2".into())
        );
        assert!(!text.contains("[DONE]"));
        queen.stop().await;
    }
}

#[tokio::test]
async fn a_worker_that_falls_silent_in_its_answer_is_given_up() {
    let slow = MockWorker::start(Character::Slow).await;
    let home = tempfile::tempdir().unwrap();
    let (queen, hive) = fleet(&home, "command_stall_timeout = \"50ms\"", vec![slow.port]).await;
    foreign(&hive).await;
    let text = text_of(queen.chat(true).send().await.unwrap()).await;
    assert!(text.starts_with("data: {\"n\":0}\n\ndata: {\"error\"") && text.contains("silent"), "{text}");
    slow.until_open(0).await;
    queen.stop().await;
}

#[tokio::test]
async fn a_request_waits_for_a_worker_that_is_coming() {
    let good = MockWorker::start(Character::Good).await;
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "", ONE_WORKER).await;
    // Before any hive was heard of.
    let early = tokio::spawn(queen.chat(false).send());
    queen.until_queued(1).await;
    let hive = FakeHive::start(&queen, "h", Box::new(|assigned, _| Some(worker(assigned, Phase::Starting, 0)))).await;
    let later = tokio::spawn(queen.chat(true).send());
    queen.until_queued(2).await;
    hive.say(|workers| {
        workers[0].phase = Phase::Running;
        workers[0].port = Some(good.port);
    })
    .await;
    assert_eq!(within(early).await.unwrap().unwrap().status(), StatusCode::OK);
    assert!(text_of(within(later).await.unwrap().unwrap()).await.ends_with("data: [DONE]\n\n"));
    queen.stop().await;
}

#[tokio::test]
async fn waiting_has_its_bounds() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "queue_timeout = \"100ms\"", ONE_WORKER).await;
    let response = within(queen.chat(false).send()).await.unwrap();
    assert!(response.headers().contains_key("retry-after"));
    let (status, error) = error_of(response).await;
    assert_eq!((status, &error["code"]), (StatusCode::SERVICE_UNAVAILABLE, &"unavailable".into()));
    queen.stop().await;

    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start(home.path(), "max_queue = 1", ONE_WORKER).await;
    let waits = tokio::spawn(queen.chat(false).send());
    queen.until_queued(1).await;
    let (status, error) = error_of(queen.chat(false).send().await.unwrap()).await;
    assert_eq!((status, &error["code"]), (StatusCode::TOO_MANY_REQUESTS, &"queue_full".into()));
    // Whoever waits is told when queen ends.
    queen.shutdown.drain();
    assert_eq!(error_of(within(waits).await.unwrap().unwrap()).await.1["code"], "shutting_down");
    within(queen.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_will_not_come_is_said_at_once() {
    let home = tempfile::tempdir().unwrap();
    let good = MockWorker::start(Character::Good).await;
    let (queen, hive) = fleet(&home, "", vec![good.port]).await;
    hive.say(|workers| {
        workers[0].phase = Phase::Failed;
        workers[0].reason = Some("it crashed 5 times".into());
    })
    .await;
    let (status, error) = error_of(within(queen.chat(false).send()).await.unwrap()).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(error["message"].as_str().unwrap().contains("it crashed 5 times"), "{error}");

    queen.control.scale("w", &ScaleRequest { replicas: 0, wait_ms: 0 }).await.unwrap();
    let (_, error) = error_of(within(queen.chat(false).send()).await.unwrap()).await;
    assert!(error["message"].as_str().unwrap().contains("stopped"), "{error}");
    queen.stop().await;
}

#[tokio::test]
async fn a_request_that_waits_at_a_dead_workers_socket_goes_to_its_successor() {
    let home = tempfile::tempdir().unwrap();
    // Listens, and nobody accepts: as the socket of a worker that was killed.
    let orphan = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = MockWorker::start(Character::Good).await;
    let (queen, hive) = fleet(&home, "", vec![orphan.local_addr().unwrap().port()]).await;
    let waits = tokio::spawn(queen.chat(false).send());
    let _connection = within(orphan.accept()).await.unwrap();
    hive.say(|workers| {
        workers[0].phase = Phase::Restarting;
        workers[0].port = None;
    })
    .await;
    queen.until_queued(1).await;
    hive.say(|workers| {
        workers[0].phase = Phase::Running;
        workers[0].incarnation = 2;
        workers[0].port = Some(good.port);
    })
    .await;
    assert_eq!(within(waits).await.unwrap().unwrap().status(), StatusCode::OK);
    queen.stop().await;
}

/// GATE-07
#[tokio::test]
async fn the_death_of_a_hive_disturbs_no_request() {
    let home = tempfile::tempdir().unwrap();
    let good = MockWorker::start(Character::Good).await;
    let (queen, mut hive) = fleet(&home, "lease_ttl = \"1s\"", vec![good.port]).await;
    hive.die().await;
    let gone = queen.until("the lease has run out", |status| status.hives[0].phase == Phase::Unavailable).await;
    assert!(gone.hives[0].reason.as_deref().unwrap().starts_with("no heartbeat for"));
    assert_eq!(queen.chat(false).send().await.unwrap().status(), StatusCode::OK);

    // It comes back with nothing found yet, then finds its worker.
    let back = FakeHive::silent(&queen, "h", "http://127.0.0.1:9");
    back.heartbeat().await.unwrap();
    assert_eq!(queen.chat(false).send().await.unwrap().status(), StatusCode::OK);
    queen.stop().await;
}

#[tokio::test]
async fn fifty_streams_at_once_all_complete() {
    let home = tempfile::tempdir().unwrap();
    let (a, b) = (MockWorker::start(Character::Good).await, MockWorker::start(Character::Good).await);
    let (queen, _hive) = fleet(&home, "", vec![a.port, b.port]).await;
    let streams = (0..50).map(|_| async { text_of(queen.chat(true).send().await.unwrap()).await });
    for text in within(join_all(streams)).await {
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    }
    assert_eq!(a.requests().len() + b.requests().len(), 50);
    queen.stop().await;
}
