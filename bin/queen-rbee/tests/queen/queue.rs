//! The line before a model's workers, and clients of every kind in it.

use std::time::Duration;

use futures_util::future::join_all;
use rbee_api::Phase;
use reqwest::StatusCode;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::gateway::{error_of, first_event, text_of};
use crate::harness::{FakeHive, ONE_WORKER, TestQueen, obedient, within, worker};
use crate::teller::{Fate, Teller};
use crate::workers::{Character, MockWorker};

async fn one_slot(home: &tempfile::TempDir, keys: &str, port: u16) -> (TestQueen, FakeHive) {
    let queen = TestQueen::start(home.path(), keys, &format!("{ONE_WORKER}slots = 1\n")).await;
    let hive = FakeHive::start(&queen, "h", obedient(vec![port])).await;
    (queen, hive)
}

fn numbered(queen: &TestQueen, number: usize) -> reqwest::RequestBuilder {
    queen
        .post("/v1/chat/completions", json!({"model": "m", "stream": true, "messages": [], "user": number}).to_string())
}

/// GATE-11
#[tokio::test]
async fn a_worker_gets_no_more_than_it_has_slots_and_the_line_is_served_in_order() {
    let home = tempfile::tempdir().unwrap();
    let slow = MockWorker::start(Character::Slow).await;
    let (queen, _hive) = one_slot(&home, "max_queue = 3", slow.port).await;
    let mut first = numbered(&queen, 0).send().await.unwrap();
    first_event(&mut first).await;
    let mut waiting = Vec::new();
    for number in 1..=3 {
        waiting.push(tokio::spawn(numbered(&queen, number).send()));
        queen.until_queued(number as u64).await;
    }
    let full = numbered(&queen, 4).send().await.unwrap();
    let retry_after: u64 = full.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=30).contains(&retry_after));
    let (status, error) = error_of(full).await;
    assert_eq!((status, &error["code"]), (StatusCode::TOO_MANY_REQUESTS, &"queue_full".into()));

    // Whoever goes away from the middle of the line is passed over.
    waiting.remove(1).abort();
    queen.until_queued(2).await;
    slow.release.add_permits(100);
    assert!(text_of(first).await.ends_with("[DONE]\n\n"));
    for response in waiting {
        assert!(text_of(within(response).await.unwrap().unwrap()).await.ends_with("[DONE]\n\n"));
    }
    let asked: Vec<serde_json::Value> = slow
        .requests()
        .iter()
        .map(|(_, body)| serde_json::from_slice::<serde_json::Value>(body).unwrap()["user"].clone())
        .collect();
    assert_eq!(asked, [json!(0), json!(1), json!(3)]);
    queen.until_queued(0).await;
    queen.until_idle().await;
    queen.stop().await;
}

/// GATE-15
#[tokio::test]
async fn a_streaming_client_is_held_while_a_model_loads_and_the_load_is_asked_for_once() {
    let home = tempfile::tempdir().unwrap();
    let teller = Teller::start().await;
    let keys = "comment_interval = \"20ms\"";
    let queen =
        TestQueen::start(home.path(), keys, &format!("{ONE_WORKER}slots = 8\nidle_ttl = \"1h\"\nauto_start = false\n"))
            .await;
    let hive = FakeHive::start(
        &queen,
        "h",
        Box::new(|assigned, _| {
            let wanted = assigned.desired == rbee_api::Desired::Running;
            Some(worker(assigned, if wanted { Phase::Starting } else { Phase::Stopped }, 0))
        }),
    )
    .await;
    let before = hive.assignment().generation;
    let streams: Vec<_> = (0..5).map(|number| tokio::spawn(numbered(&queen, number).send())).collect();
    let mut responses = Vec::new();
    for response in streams {
        let mut response = within(response).await.unwrap().unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let comment = first_event(&mut response).await;
        assert!(comment.starts_with(": waiting for a worker of m since "), "{comment}");
        responses.push(response);
    }
    hive.until_applied(before + 1).await;
    let port = teller.port;
    hive.say(move |workers| {
        workers[0].phase = Phase::Running;
        workers[0].port = Some(port);
    })
    .await;
    for response in responses {
        let text = text_of(response).await;
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    }
    assert_eq!(hive.assignment().generation, before + 1, "five requests, one load");
    queen.stop().await;
}

/// GATE-12
#[tokio::test]
async fn a_client_that_reads_a_byte_at_a_time_hinders_nobody() {
    let home = tempfile::tempdir().unwrap();
    let teller = Teller::start().await;
    let queen = TestQueen::start(home.path(), "", &format!("{ONE_WORKER}slots = 8\n")).await;
    let _hive = FakeHive::start(&queen, "h", obedient(vec![teller.port])).await;
    let body = json!({"model": "m", "stream": true, "seed": 1, "max_tokens": 20_000, "messages": []}).to_string();
    let mut slow = TcpStream::connect(queen.url.trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    slow.write_all(head.as_bytes()).await.unwrap();
    slow.write_all(body.as_bytes()).await.unwrap();
    let mut byte = [0];
    for _ in 0..100 {
        within(slow.read_exact(&mut byte)).await.unwrap();
    }
    let ask = &|number| numbered(&queen, number).send();
    let streams = (0..20).map(|number| async move { text_of(ask(number).await.unwrap()).await });
    for text in within(join_all(streams)).await {
        assert!(text.ends_with("data: [DONE]\n\n"));
    }
    drop(slow);
    teller.until_idle().await;
    queen.until_idle().await;
    queen.stop().await;
}

/// GATE-12
#[tokio::test]
async fn half_a_body_is_not_waited_for_and_five_megabytes_pass() {
    let home = tempfile::tempdir().unwrap();
    let teller = Teller::start().await;
    let queen = TestQueen::start(home.path(), "body_timeout = \"100ms\"", ONE_WORKER).await;
    let _hive = FakeHive::start(&queen, "h", obedient(vec![teller.port])).await;
    let mut half = TcpStream::connect(queen.url.trim_start_matches("http://")).await.unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    half.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    within(half.read_to_end(&mut answer)).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("did not come within"), "{answer}");

    let prompt = "x".repeat(5 << 20);
    let body = json!({"model": "m", "stream": true, "messages": [{"role": "user", "content": prompt}]}).to_string();
    teller.fates(&[Fate::DiesAt(700)]);
    let text = text_of(within(queen.post("/v1/chat/completions", body).send()).await.unwrap()).await;
    assert!(text.ends_with("data: [DONE]\n\n") && text.contains("x-rbee-resumed: 1"));
    let again = teller.asked.lock().unwrap()[1].1.clone();
    assert_eq!(again["messages"][0]["content"].as_str().map(str::len), Some(5 << 20));
    queen.stop().await;
}

/// GATE-06
#[tokio::test]
async fn a_client_may_leave_at_every_stage_and_nothing_stays_behind() {
    let home = tempfile::tempdir().unwrap();
    let slow = MockWorker::start(Character::Slow).await;
    let (queen, _hive) = one_slot(&home, "", slow.port).await;
    // While it sends its body.
    let mut half = TcpStream::connect(queen.url.trim_start_matches("http://")).await.unwrap();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{";
    half.write_all(head.as_bytes()).await.unwrap();
    drop(half);
    queen.until_idle().await;
    // While it is answered, while it waits, and when both at once.
    let mut streaming = numbered(&queen, 0).send().await.unwrap();
    first_event(&mut streaming).await;
    let waits = tokio::spawn(numbered(&queen, 1).send());
    queen.until_queued(1).await;
    waits.abort();
    queen.until_queued(0).await;
    let waits = tokio::spawn(numbered(&queen, 2).send());
    queen.until_queued(1).await;
    drop(streaming);
    // Its place is the next one's.
    slow.release.add_permits(100);
    assert!(text_of(within(waits).await.unwrap().unwrap()).await.ends_with("[DONE]\n\n"));
    queen.until_idle().await;
    slow.until_open(0).await;
    tokio::time::timeout(Duration::from_secs(30), queen.stop()).await.unwrap();
}
