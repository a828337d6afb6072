//! Clients that go away, and the worker's own end.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use futures_util::StreamExt;
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::worker::{PATIENCE, Worker, events, long};

/// WORK-05.
#[tokio::test]
async fn a_client_that_goes_away_while_its_prompt_is_read_frees_its_slot() {
    let Some(worker) = Worker::start(&["--slots", "1"]) else { return };
    let prompt = "word ".repeat(1900);
    let response = worker.post("/v1/completions", &long(&prompt, 50)).send().await.unwrap();
    worker.wait_for_health("busy", |health| health["slots_busy"] == 1).await;
    drop(response);
    let health = worker.wait_for_health("free", |health| health["slots_busy"] == 0).await;
    assert_eq!(health["prompt_tokens"], 0, "the whole prompt was read before the slot was free");
    assert_eq!(worker.post("/v1/completions", &long("b", 2)).send().await.unwrap().status(), 200);
}

/// WORK-05.
#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_of_an_answer_frees_its_slot() {
    let Some(worker) = Worker::start(&["--slots", "1"]) else { return };
    let mut response = worker.post("/v1/completions", &long("a", 2000)).send().await.unwrap();
    response.chunk().await.unwrap().unwrap();
    drop(response);
    let health = worker.wait_for_health("free", |health| health["slots_busy"] == 0).await;
    assert!(health["completion_tokens"].as_u64().unwrap() < 2000, "{health}");
    // One that is waited for as a whole, too.
    let whole = tokio::time::timeout(
        Duration::from_millis(50),
        worker
            .post("/v1/completions", &{
                let mut body = long("a", 2000);
                body["stream"] = false.into();
                body
            })
            .send(),
    );
    assert!(whole.await.is_err());
    worker.wait_for_health("free", |health| health["slots_busy"] == 0 && health["queue_depth"] == 0).await;
}

/// WORK-06.
#[tokio::test]
async fn a_client_that_does_not_read_stalls_nobody() {
    let Some(worker) = Worker::start(&["--slots", "2"]) else { return };
    let silent = worker.post("/v1/completions", &long("a", 300)).send().await.unwrap();
    let other = worker.post("/v1/completions", &long("b", 30)).send().await.unwrap().text().await.unwrap();
    assert!(other.ends_with("data: [DONE]\n\n"), "{other}");
    // It gets all of it, however late.
    worker.wait_for_health("free", |health| health["slots_busy"] == 0).await;
    assert!(silent.text().await.unwrap().ends_with("data: [DONE]\n\n"));
}

/// A stream of which the first piece is here.
async fn begun(worker: &Worker, tokens: u32) -> (String, reqwest::Response) {
    let mut response = worker.post("/v1/completions", &long("a", tokens)).send().await.unwrap();
    let first = response.chunk().await.unwrap().unwrap();
    (String::from_utf8(first.to_vec()).unwrap(), response)
}

async fn rest((mut text, response): (String, reqwest::Response)) -> String {
    let mut stream = response.bytes_stream();
    while let Some(piece) = stream.next().await {
        text.push_str(&String::from_utf8_lossy(&piece.unwrap()));
    }
    text
}

/// WORK-07.
#[tokio::test]
async fn sigterm_finishes_what_is_in_flight_and_refuses_what_is_new() {
    let Some(worker) = Worker::start(&[]) else { return };
    let stream = begun(&worker, 300).await;
    worker.signal(Signal::SIGTERM);
    worker.wait_for_health("draining", |health| health["draining"] == true).await;
    let refused = worker.post("/v1/completions", &long("b", 1)).send().await.unwrap();
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(refused.json::<Value>().await.unwrap()["error"]["code"], "shutting_down");
    let body = rest(stream).await;
    assert_eq!(*events(&body).last().unwrap(), "[DONE]");
    let (status, log) = worker.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
    let last = log.lines().last().unwrap();
    assert!(last.contains("stopped") && last.contains("completion_tokens=300"), "{log}");
}

async fn assert_cut_off(worker: Worker, stream: (String, reqwest::Response)) {
    let body = rest(stream).await;
    let lines = events(&body);
    assert!(lines.iter().all(|line| *line != "[DONE]"), "{body}");
    let last: Value = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert_eq!(last["error"]["code"], "shutting_down", "{body}");
    let (status, log) = worker.ended().await;
    assert_eq!(status.code(), Some(0), "{log}");
}

#[tokio::test]
async fn when_the_time_to_drain_is_over_answers_end_with_an_error() {
    let Some(worker) = Worker::start(&["--drain-timeout", "10ms"]) else { return };
    let stream = begun(&worker, 2000).await;
    worker.signal(Signal::SIGTERM);
    assert_cut_off(worker, stream).await;
}

#[tokio::test]
async fn a_second_sigterm_ends_at_once() {
    let Some(worker) = Worker::start(&[]) else { return };
    let stream = begun(&worker, 2000).await;
    worker.signal(Signal::SIGTERM);
    worker.wait_for_health("draining", |health| health["draining"] == true).await;
    worker.signal(Signal::SIGTERM);
    assert_cut_off(worker, stream).await;
}

#[tokio::test]
async fn the_supervisor_hears_of_ready_and_stopping() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let Some(worker) = Worker::start_with(&[], |command| _ = command.env("NOTIFY_SOCKET", &path)) else { return };
    let wait_for = |wanted: &str| {
        let mut buffer = [0; 512];
        loop {
            let length = socket.recv(&mut buffer).unwrap();
            if String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == wanted) {
                return;
            }
        }
    };
    wait_for("READY=1");
    worker.signal(Signal::SIGTERM);
    wait_for("STOPPING=1");
    assert_eq!(worker.ended().await.0.code(), Some(0));
}
