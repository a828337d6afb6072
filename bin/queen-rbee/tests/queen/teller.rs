//! A worker that speaks our protocol and tells a story that depends on seed and position alone, up to what befalls it.

use std::collections::VecDeque;
use std::fmt::Write;
use std::io;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What befalls one answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Nothing.
    Lives,
    /// Its connection breaks after so many bytes.
    DiesAt(usize),
    /// Its connection breaks after so many blocks.
    DiesAfter(usize),
    /// It ends in order, but too early, after so many bytes.
    EndsAt(usize),
    /// It falls silent after so many bytes.
    StallsAt(usize),
    /// It hands over after so many blocks.
    HandsOverAt(usize),
    /// It sends nonsense after so many blocks.
    RavesAt(usize),
    /// It reports its own failure after so many blocks.
    FailsAt(usize),
    /// It refuses: it is on its way down.
    Refuses,
    /// It dies without a word.
    Dies,
}

/// What it has been asked.
pub type Asked = Arc<Mutex<Vec<(HeaderMap, Value)>>>;

pub struct Teller {
    pub port: u16,
    pub asked: Asked,
    fates: Arc<Mutex<VecDeque<Fate>>>,
    open: watch::Receiver<usize>,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct State_ {
    asked: Asked,
    fates: Arc<Mutex<VecDeque<Fate>>>,
    open: Arc<watch::Sender<usize>>,
}

/// Counts answers that are under way.
struct Open(Arc<watch::Sender<usize>>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Teller {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (open, watch) = watch::channel(0);
        let state = State_ { asked: Asked::default(), fates: Arc::default(), open: Arc::new(open) };
        let (asked, fates) = (Arc::clone(&state.asked), Arc::clone(&state.fates));
        let router = Router::new()
            .route("/v1/chat/completions", post(answer))
            .route("/v1/completions", post(answer))
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(state);
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { port, asked, fates, open: watch, server }
    }

    /// What befalls the next answers; after them, nothing.
    pub fn fates(&self, fates: &[Fate]) {
        *self.fates.lock().unwrap() = fates.iter().copied().collect();
    }

    /// Waits until no answer is under way.
    pub async fn until_idle(&self) {
        let mut open = self.open.clone();
        super::harness::within(open.wait_for(|open| *open == 0)).await.unwrap();
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(State(teller): State<State_>, headers: HeaderMap, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap();
    let resumable = headers.contains_key("x-rbee-resumable");
    teller.asked.lock().unwrap().push((headers, body.clone()));
    let fate = teller.fates.lock().unwrap().pop_front().unwrap_or(Fate::Lives);
    teller.open.send_modify(|count| *count += 1);
    let open = Open(Arc::clone(&teller.open));
    if fate == Fate::Refuses {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    if body["stream"] != true {
        let text: String = (0..length(&body)).map(|position| word(seed(&body), 0, position)).collect();
        let pieces = match fate {
            Fate::Lives => vec![Ok(json!({"id": body["rbee_resume"]["id"], "text": text}).to_string())],
            _ => vec![Err(io::Error::other("as told"))],
        };
        let body = stream::iter(pieces).chain(stream::poll_fn(move |_| {
            let _ = &open;
            std::task::Poll::Ready(None)
        }));
        return ([("content-type", "application/json")], Body::from_stream(body)).into_response();
    }
    let Some(blocks) = blocks(&body, resumable) else {
        return (StatusCode::BAD_REQUEST, r#"{"error":{"message":"this is no story of mine"}}"#).into_response();
    };
    let (text, end) = befall(&blocks, fate);
    // In pieces that tear blocks.
    let pieces: Vec<Bytes> = text.as_bytes().chunks(61).map(Bytes::copy_from_slice).collect();
    let body = stream::iter(pieces).map(Ok::<_, io::Error>).chain(end.stream(open));
    ([("content-type", "text/event-stream")], Body::from_stream(body)).into_response()
}

enum Ending {
    InOrder,
    Broken,
    Silent,
}

impl Ending {
    fn stream(self, open: Open) -> stream::BoxStream<'static, io::Result<Bytes>> {
        let held = move || {
            let _ = &open;
        };
        match self {
            Self::InOrder => stream::poll_fn(move |_| {
                held();
                std::task::Poll::Ready(None)
            })
            .boxed(),
            Self::Broken => stream::once(async move {
                // What was written before is on its way by then.
                tokio::task::yield_now().await;
                held();
                Err(io::Error::other("as told"))
            })
            .boxed(),
            Self::Silent => stream::poll_fn(move |_| {
                held();
                std::task::Poll::Pending
            })
            .boxed(),
        }
    }
}

fn befall(blocks: &[String], fate: Fate) -> (String, Ending) {
    let whole = blocks.concat();
    let cut = |bytes: usize| whole[..bytes.min(whole.len())].to_owned();
    let first = |count: usize, more: &str| [&blocks[..count.min(blocks.len())].concat(), more].concat();
    match fate {
        Fate::Lives => (whole.clone(), Ending::InOrder),
        Fate::DiesAt(bytes) => (cut(bytes), Ending::Broken),
        Fate::DiesAfter(count) => (first(count, ""), Ending::Broken),
        Fate::Dies | Fate::Refuses => (String::new(), Ending::Broken),
        Fate::EndsAt(bytes) => (cut(bytes), Ending::InOrder),
        Fate::StallsAt(bytes) => (cut(bytes), Ending::Silent),
        Fate::HandsOverAt(count) => (first(count, ": rbee handover\n\n"), Ending::InOrder),
        Fate::RavesAt(count) => (first(count, "<html>502 Bad Gateway</html>\n\n"), Ending::InOrder),
        Fate::FailsAt(count) => {
            let error = r#"{"error":{"code":"worker_failed","message":"m","type":"server_error","param":null,"correlation_id":null}}"#;
            (first(count, &format!("data: {error}\n\n")), Ending::InOrder)
        }
    }
}

fn length(body: &Value) -> usize {
    usize::try_from(body["max_tokens"].as_u64().unwrap_or(12)).unwrap()
}

fn seed(body: &Value) -> u64 {
    body["seed"].as_u64().unwrap()
}

fn token(seed: u64, choice: u64, position: usize) -> u32 {
    let mixed =
        (seed ^ (choice << 32) ^ (position as u64).wrapping_mul(0x9e37_79b9)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    (mixed >> 40) as u32 % 50_000
}

fn word(seed: u64, choice: u64, position: usize) -> String {
    match token(seed, choice, position) % 5 {
        0 => "é\n".to_owned(),
        1 => "\"finish_reason\":\"stop\"".to_owned(),
        _ => format!("w{} ", token(seed, choice, position)),
    }
}

/// The blocks of a story from where the request says; `None` where what was told is another story.
fn blocks(body: &Value, resumable: bool) -> Option<Vec<String>> {
    let (seed, length) = (seed(body), length(body));
    let choices = body["n"].as_u64().unwrap_or(1);
    let none = Vec::new();
    let told = body["rbee_resume"]["choices"].as_array().unwrap_or(&none);
    let id = &body["rbee_resume"]["id"];
    let created = &body["rbee_resume"]["created"];
    let event = |choices: Value, usage: Value| {
        let mut event = json!({"id": id, "created": created, "choices": choices});
        if !usage.is_null() {
            event["usage"] = usage;
        }
        // As our worker writes it: the index first.
        let text = event.to_string();
        format!("data: {text}\n\n")
    };
    let note = |line: String, block: String| if resumable { format!(": rbee {line}\n{block}") } else { block };
    let mut blocks = Vec::new();
    if resumable {
        blocks.push(": rbee progress\n\n".to_owned());
    }
    for choice in 0..choices {
        let listed = told.iter().find(|told| told["index"] == choice);
        if listed.is_none() {
            blocks.push(event(json!([{"index": choice, "delta": {"role": "assistant", "content": ""}}]), Value::Null));
        }
        if listed.is_some_and(|listed| !listed["finished"].is_null()) {
            continue;
        }
        let tokens = listed.map(|listed| listed["tokens"].as_array().unwrap().clone()).unwrap_or_default();
        let mut sent = listed.map_or(0, |listed| usize::try_from(listed["text_bytes"].as_u64().unwrap()).unwrap());
        for (position, given) in tokens.iter().enumerate() {
            if *given != token(seed, choice, position) {
                return None;
            }
        }
        let mut text: String = (0..tokens.len()).map(|position| word(seed, choice, position)).collect();
        let mut fresh = String::new();
        for position in tokens.len()..length {
            text.push_str(&word(seed, choice, position));
            let comma = if fresh.is_empty() { "" } else { "," };
            write!(fresh, "{comma}{}", token(seed, choice, position)).unwrap();
            // Text is held back now and then, as with stop strings.
            if position % 3 == 1 && position + 1 < length {
                continue;
            }
            let new = event(
                json!([{"index": choice, "delta": {"content": &text[sent..]}, "finish_reason": null}]),
                Value::Null,
            );
            sent = text.len();
            blocks.push(note(format!("{choice} {} {sent}", std::mem::take(&mut fresh)), new));
        }
        let end = event(json!([{"index": choice, "delta": {}, "finish_reason": "length"}]), Value::Null);
        blocks.push(note(format!("{choice} - {sent}"), end));
    }
    if body["stream_options"]["include_usage"] == true {
        let completion = length as u64 * choices;
        let usage = json!({"prompt_tokens": 3, "completion_tokens": completion, "total_tokens": 3 + completion});
        blocks.push(event(json!([]), usage));
    }
    blocks.push("data: [DONE]\n\n".to_owned());
    Some(blocks)
}
