//! The gateway while queen is on her way down, who may use it, and what it counts.

use futures_util::StreamExt;
use reqwest::StatusCode;

use crate::gateway::{error_of, first_event, fleet, text_of};
use crate::harness::{ONE_WORKER, TOKEN, TestQueen, within};
use crate::workers::{Character, MockWorker, closed_port};

#[tokio::test]
async fn a_stream_in_flight_is_finished_before_queen_ends_and_nothing_new_begins() {
    let home = tempfile::tempdir().unwrap();
    let slow = MockWorker::start(Character::Slow).await;
    let (queen, _hive) = fleet(&home, "", vec![slow.port]).await;
    let mut streaming = queen.chat(true).send().await.unwrap();
    first_event(&mut streaming).await;
    queen.shutdown.drain();
    let (status, error) = error_of(queen.chat(true).send().await.unwrap()).await;
    assert_eq!((status, &error["code"]), (StatusCode::SERVICE_UNAVAILABLE, &"shutting_down".into()));
    slow.release.add_permits(2);
    assert!(text_of(streaming).await.ends_with("data: [DONE]\n\n"));
    within(queen.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_queen_in_a_hurry_says_that_the_stream_is_cut() {
    let home = tempfile::tempdir().unwrap();
    let slow = MockWorker::start(Character::Slow).await;
    let (queen, _hive) = fleet(&home, "", vec![slow.port]).await;
    let mut streaming = queen.chat(true).send().await.unwrap();
    first_event(&mut streaming).await;
    queen.shutdown.now();
    let pieces: Vec<_> = within(streaming.bytes_stream().collect()).await;
    let text: String = pieces.into_iter().flatten().map(|p| String::from_utf8(p.to_vec()).unwrap()).collect();
    assert!(!text.contains("[DONE]"), "{text}");
    within(queen.task).await.unwrap().unwrap();
}

#[tokio::test]
async fn other_machines_need_the_token() {
    let home = tempfile::tempdir().unwrap();
    let queen = TestQueen::start_on(home.path(), "", ONE_WORKER, "0.0.0.0:0").await;
    let models = || queen.http.get(format!("{}/v1/models", queen.url));
    assert_eq!(models().send().await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(models().bearer_auth(TOKEN).send().await.unwrap().status(), StatusCode::OK);
    queen.stop().await;
}

#[tokio::test]
async fn the_numbers_tell_what_happened() {
    let home = tempfile::tempdir().unwrap();
    let good = MockWorker::start(Character::Good).await;
    let (queen, _hive) = fleet(&home, "", vec![closed_port().await, good.port]).await;
    assert_eq!(queen.chat(false).send().await.unwrap().status(), StatusCode::OK);
    queen.post("/v1/chat/completions", r#"{"model":"made-up"}"#).send().await.unwrap();
    let text = queen.http.get(format!("{}/metrics", queen.url)).send().await.unwrap().text().await.unwrap();
    for line in [
        r#"rbee_queen_requests_total{model="m",code="200"} 1"#,
        r#"rbee_queen_requests_total{model="unknown",code="404"} 1"#,
        r#"rbee_queen_upstream_failures_total{kind="connect"} 1"#,
        r#"rbee_queen_time_to_first_byte_seconds_count{model="m"} 1"#,
        r#"rbee_queen_hives{phase="running"} 1"#,
        r#"rbee_queen_workers{phase="running"} 2"#,
        "rbee_queen_requests_in_flight 0",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    queen.stop().await;
}
