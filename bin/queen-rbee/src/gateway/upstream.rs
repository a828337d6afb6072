//! One attempt to have one worker answer.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST, HeaderName,
};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rbee_api::CORRELATION_ID_HEADER;
use rbee_api::openai::Usage;
use rbee_runtime::token::Token;
use serde::Deserialize;

use crate::routes::Endpoint;

/// An answer in one piece up to this size is complete before its first byte goes to the client, so that it can be
/// asked for again when it breaks.
const WHOLE_ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long a worker's machine may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a machine that is gone goes unnoticed by its silent connection.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// How long a connection is kept for the next request, and how many to one worker.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const POOL_IDLE_MAX: usize = 256;
/// What one connection may hold of an answer before it is passed on.
const BUFFER_BYTES_MAX: usize = 32 * 1024;
/// Chunks that are passed on at once, where so many have come.
const GATHERED_MAX: usize = 32;
/// Tells our engine that its answer can be gone on with elsewhere.
const RESUMABLE_HEADER: HeaderName = HeaderName::from_static("x-rbee-resumable");
/// Meant for one connection, not for who is behind it (RFC 9110, 7.6.1).
const HOP_BY_HOP: [&str; 8] = [
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// What goes to a worker.
#[derive(Debug, Clone)]
pub(super) struct Question<'q> {
    /// `/v1/…`.
    pub(super) path: &'static str,
    /// As the client sent them, without what is not for the worker.
    pub(super) headers: &'q HeaderMap,
    /// For this worker.
    pub(super) body: Bytes,
    /// The request's id.
    pub(super) correlation_id: &'q str,
    /// Whether a stream of our engine is wanted that can be gone on with.
    pub(super) resumable: bool,
    /// How long the worker may take to begin its answer; without a stream, it begins when it is complete.
    pub(super) patience: Duration,
}

/// A worker's answer, as far as it is there.
pub(super) struct Answer {
    /// Its status.
    pub(super) status: StatusCode,
    /// What the client may see of its headers.
    pub(super) headers: HeaderMap,
    /// The body.
    pub(super) body: AnswerBody,
}

/// The body of an answer.
pub(super) enum AnswerBody {
    /// All of it.
    Whole(Bytes),
    /// The beginning of what is too large to be kept, and the rest.
    Large(Bytes, Pieces),
    /// A stream of events, of which nothing is read yet.
    Events(Pieces),
}

/// Pieces of a body.
pub(super) struct Pieces {
    body: Incoming,
    gathered: Vec<Bytes>,
    /// How it ended, behind what was given already.
    ended: Option<Option<hyper::Error>>,
}

impl Pieces {
    fn new(body: Incoming) -> Self {
        Self { body, gathered: Vec::new(), ended: None }
    }

    /// The next one, with all that came together with it; `None` at the end. Nothing is lost when this is dropped.
    pub(super) async fn next(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        if self.gathered.is_empty() {
            if let Some(ended) = self.ended.take() {
                return ended.map(Err);
            }
            match self.frame().await? {
                Ok(first) => self.gathered.push(first),
                Err(error) => return Some(Err(error)),
            }
        }
        // A worker that has much to say says it in many chunks. The task that reads them gives them one by one: let it,
        // rather than wake the client for each.
        while self.ended.is_none() && self.gathered.len() < GATHERED_MAX {
            tokio::task::yield_now().await;
            match self.frame().now_or_never() {
                None => break,
                Some(Some(Ok(piece))) => self.gathered.push(piece),
                Some(Some(Err(error))) => self.ended = Some(Some(error)),
                Some(None) => self.ended = Some(None),
            }
        }
        let gathered = std::mem::take(&mut self.gathered);
        Some(Ok(match gathered.len() {
            1 => gathered.into_iter().next().unwrap_or_default(),
            _ => gathered.concat().into(),
        }))
    }

    async fn frame(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            match self.body.frame().await? {
                Ok(frame) => match frame.into_data() {
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => return Some(Ok(data)),
                    // Trailers.
                    Err(_) => {}
                },
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// What the connections to workers may break with.
pub(super) type ConnectionError = Box<dyn std::error::Error + Send + Sync>;

/// How an attempt ended.
pub(super) enum Outcome {
    /// The client gets this.
    Answer(Answer),
    /// The worker is full (429): another may not be.
    Busy(Answer),
    /// The worker cannot serve now (503).
    Unready,
    /// Nothing listens there, or it does not accept.
    NoConnection(ConnectionError),
    /// It was reached and broke before a byte went to the client.
    Died(ConnectionError),
    /// It was silent for too long before a byte went to the client.
    Silent,
}

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Upstream {
    http: Client<HttpConnector, Full<Bytes>>,
    /// For our own engines.
    token: HeaderValue,
}

impl Upstream {
    /// With connections of its own.
    pub(super) fn new(token: &Token) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_keepalive(Some(KEEPALIVE));
        // Tokens are small packets: each must leave at once.
        connector.set_nodelay(true);
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .pool_max_idle_per_host(POOL_IDLE_MAX)
            .http1_max_buf_size(BUFFER_BYTES_MAX)
            .build(connector);
        let mut token = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            // A token is visible ASCII, so this is never taken.
            .unwrap_or_else(|_| HeaderValue::from_static("Bearer"));
        token.set_sensitive(true);
        Self { http, token }
    }

    /// Asks one worker.
    pub(super) async fn ask(&self, endpoint: &Endpoint, question: &Question<'_>) -> Outcome {
        let request = match self.request(endpoint, question) {
            Ok(request) => request,
            Err(error) => return Outcome::NoConnection(error.into()),
        };
        let response = match tokio::time::timeout(question.patience, self.http.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_connect() => return Outcome::NoConnection(error.into()),
            Ok(Err(error)) => return Outcome::Died(error.into()),
            Err(_) => return Outcome::Silent,
        };
        let (head, body) = response.into_parts();
        let events = head
            .headers
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"text/event-stream"));
        let pieces = Pieces::new(body);
        let body = match events && head.status.is_success() {
            true => AnswerBody::Events(pieces),
            false => match whole(pieces, question.patience).await {
                Ok(body) => body,
                Err(outcome) => return outcome,
            },
        };
        let answer = Answer { status: head.status, headers: for_the_client(head.headers), body };
        match answer.status {
            StatusCode::SERVICE_UNAVAILABLE => Outcome::Unready,
            StatusCode::TOO_MANY_REQUESTS => Outcome::Busy(answer),
            // Its engine has ended: of ours, not of somebody behind it.
            StatusCode::BAD_GATEWAY if endpoint.own_engine => Outcome::Died("the engine has ended".into()),
            _ => Outcome::Answer(answer),
        }
    }

    fn request(&self, endpoint: &Endpoint, question: &Question<'_>) -> http::Result<Request<Full<Bytes>>> {
        let uri = Uri::builder().scheme("http").authority(endpoint.address.as_str()).path_and_query(question.path);
        let mut request = Request::post(uri.build()?).body(Full::new(question.body.clone()))?;
        let headers = request.headers_mut();
        *headers = question.headers.clone();
        headers.insert(CORRELATION_ID_HEADER, HeaderValue::from_str(question.correlation_id)?);
        if endpoint.own_engine {
            headers.insert(AUTHORIZATION, self.token.clone());
        }
        if question.resumable {
            headers.insert(RESUMABLE_HEADER, HeaderValue::from_static("1"));
        }
        Ok(request)
    }
}

async fn whole(mut pieces: Pieces, patience: Duration) -> Result<AnswerBody, Outcome> {
    let mut whole = BytesMut::new();
    loop {
        match tokio::time::timeout(patience, pieces.next()).await {
            Ok(Some(Ok(piece))) => whole.extend_from_slice(&piece),
            Ok(Some(Err(error))) => return Err(Outcome::Died(error.into())),
            Ok(None) => return Ok(AnswerBody::Whole(whole.freeze())),
            Err(_) => return Err(Outcome::Silent),
        }
        if whole.len() > WHOLE_ANSWER_BYTES_MAX {
            return Ok(AnswerBody::Large(whole.freeze(), pieces));
        }
    }
}

impl Answer {
    /// What it took, where it says so.
    pub(super) fn usage(&self) -> Option<Usage> {
        #[derive(Deserialize)]
        struct WithUsage {
            usage: EmbeddingsUsage,
        }
        // That of embeddings generates nothing.
        #[derive(Deserialize)]
        struct EmbeddingsUsage {
            prompt_tokens: u64,
            #[serde(default)]
            completion_tokens: u64,
        }
        let AnswerBody::Whole(body) = &self.body else { return None };
        let said: WithUsage = serde_json::from_slice(body).ok()?;
        Some(Usage::new(said.usage.prompt_tokens, said.usage.completion_tokens))
    }
}

impl AnswerBody {
    /// The body of a refusal; more than fits in one piece is not worth keeping a worker busy for.
    pub(super) fn into_refusal(self) -> Body {
        match self {
            Self::Whole(bytes) | Self::Large(bytes, _) => Body::from(bytes),
            Self::Events(_) => Body::empty(),
        }
    }
}

/// What of a client's headers a worker may see. Its credentials are for us, compression would hide events from us,
/// and an expectation is met already.
pub(super) fn for_the_worker(headers: HeaderMap) -> HeaderMap {
    let ours = [HOST, AUTHORIZATION, COOKIE, CONTENT_LENGTH, ACCEPT_ENCODING, EXPECT, RESUMABLE_HEADER];
    let mut kept = end_to_end(headers);
    for name in ours {
        kept.remove(name);
    }
    kept.remove(CORRELATION_ID_HEADER);
    kept
}

/// What of a worker's headers the client may see; length and id are set anew.
fn for_the_client(headers: HeaderMap) -> HeaderMap {
    let mut kept = end_to_end(headers);
    kept.remove(CONTENT_LENGTH);
    kept.remove(CORRELATION_ID_HEADER);
    kept
}

fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value: &HeaderValue| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    for name in named {
        headers.remove(name);
    }
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_for_the_worker_reaches_it() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "queen"),
            ("authorization", "Bearer secret"),
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("accept-encoding", "gzip"),
            ("content-length", "3"),
            ("content-type", "application/json"),
            ("x-stainless-lang", "python"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let kept = for_the_worker(headers);
        let mut names: Vec<&str> = kept.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "x-stainless-lang"]);
    }
}
