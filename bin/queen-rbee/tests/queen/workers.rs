//! Workers of every character, on real sockets.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use futures_util::stream::unfold;
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Character {
    /// As it should: JSON, or three events and `[DONE]`.
    Good,
    /// One event, then one more for each `release`d permit; the third is `[DONE]`.
    Slow,
    /// Events without `[DONE]`, ended in order.
    EndsEarly,
    /// 503.
    Unready,
    /// 429.
    Busy,
    /// An error of its own, 400.
    Refuses,
}

/// What it has seen.
#[derive(Debug, Default)]
struct Seen {
    requests: Mutex<Vec<(HeaderMap, Bytes)>>,
}

/// A worker that speaks HTTP.
pub struct MockWorker {
    pub port: u16,
    pub release: Arc<Semaphore>,
    seen: Arc<Seen>,
    open: watch::Receiver<usize>,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct Worker {
    character: Character,
    port: u16,
    release: Arc<Semaphore>,
    seen: Arc<Seen>,
    open: watch::Sender<usize>,
}

/// Counts answers that are under way.
struct Open(watch::Sender<usize>);

impl Open {
    fn new(open: &watch::Sender<usize>) -> Self {
        open.send_modify(|count| *count += 1);
        Self(open.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl MockWorker {
    pub async fn start(character: Character) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (open, watch) = watch::channel(0);
        let (release, seen) = (Arc::new(Semaphore::new(0)), Arc::new(Seen::default()));
        let worker = Worker { character, port, release: Arc::clone(&release), seen: Arc::clone(&seen), open };
        let router = Router::new()
            .route("/v1/chat/completions", post(answer))
            .route("/v1/completions", post(answer))
            .route("/v1/embeddings", post(answer))
            .with_state(worker);
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { port, release, seen, open: watch, server }
    }

    pub fn requests(&self) -> Vec<(HeaderMap, Bytes)> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// Waits until so many answers are under way.
    pub async fn until_open(&self, count: usize) {
        let mut open = self.open.clone();
        super::harness::within(open.wait_for(|open| *open == count)).await.unwrap();
    }
}

impl Drop for MockWorker {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(worker): State<Worker>, headers: HeaderMap, body: Bytes) -> Response {
    let stream = body.windows(13).any(|window| window == br#""stream":true"#);
    worker.seen.requests.lock().unwrap().push((headers, body));
    let open = Open::new(&worker.open);
    match worker.character {
        Character::Unready => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Character::Busy => (StatusCode::TOO_MANY_REQUESTS, "full").into_response(),
        Character::Refuses => (StatusCode::BAD_REQUEST, r#"{"error":{"message":"its own words"}}"#).into_response(),
        Character::Good if stream => events(&[r#"{"n":1}"#, r#"{"n":2}"#, "[DONE]"]),
        Character::EndsEarly => events(&[r#"{"n":1}"#, r#"{"n":2}"#]),
        Character::Slow if stream => slow_events(worker, open),
        Character::Good | Character::Slow => {
            if worker.character == Character::Slow {
                worker.release.acquire().await.unwrap().forget();
            }
            drop(open);
            axum::Json(serde_json::json!({"object": "chat.completion", "port": worker.port})).into_response()
        }
    }
}

fn events(data: &[&str]) -> Response {
    let text: String = data.iter().map(|data| format!("data: {data}\n\n")).collect();
    ([("content-type", "text/event-stream")], text).into_response()
}

fn slow_events(worker: Worker, open: Open) -> Response {
    let body = unfold((0, worker, open), |(number, worker, open)| async move {
        if number > 0 {
            worker.release.acquire().await.unwrap().forget();
        }
        let data = match number {
            0 | 1 => format!("{{\"n\":{number}}}"),
            2 => "[DONE]".to_owned(),
            _ => return None,
        };
        let event = Ok::<_, std::io::Error>(format!("data: {data}\n\n"));
        // The last event needs no further permit to end.
        let number = if number == 2 {
            worker.release.add_permits(1);
            3
        } else {
            number + 1
        };
        Some((event, (number, worker, open)))
    });
    ([("content-type", "text/event-stream")], Body::from_stream(body)).into_response()
}

/// A socket that answers each request with these bytes and closes. Returns its port and how often it was asked.
pub async fn raw(answer: &'static [u8]) -> (u16, watch::Receiver<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, watch) = watch::channel(0);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            asked.send_modify(|asked| *asked += 1);
            tokio::spawn(async move {
                let mut request = Vec::new();
                // Bodies of these tests end with a brace; heads do not.
                while !request.ends_with(b"}") && socket.read_buf(&mut request).await.is_ok_and(|read| read > 0) {}
                let _ = socket.write_all(answer).await;
                let _ = socket.shutdown().await;
            });
        }
    });
    (port, watch)
}

/// An answer of events that breaks off in the middle of the second one.
pub const BREAKS_IN_EVENT: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\nf\r\ndata: {\"n\":1}\n\n\r\n6\r\ndata: \r\n";
/// An answer in one piece that breaks off.
pub const BREAKS_IN_JSON: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{\"object\":";
/// No HTTP at all.
pub const GARBAGE: &[u8] = b"\x00\x01\x02 what?\r\n\r\n";

/// A port where nobody listens.
pub async fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}
