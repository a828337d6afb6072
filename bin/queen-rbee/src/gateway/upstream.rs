//! One attempt to have one worker answer.

use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, StatusCode};
use rbee_api::openai::Usage;
use rbee_api::{CORRELATION_ID_HEADER, RESUMABLE_HEADER};
use rbee_runtime::token::Token;
use serde::Deserialize;

use super::links::{LinkError, Links, Reply};
use super::pieces::Pieces;
use crate::routes::Endpoint;

/// An answer in one piece up to this size is complete before its first byte goes to the client, so that it can be
/// asked for again when it breaks.
const WHOLE_ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
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

/// A client's headers that are not for a worker: credentials are for us, compression would hide events from us, an
/// expectation is met already, and the others are set anew.
const NOT_FOR_THE_WORKER: [&str; 8] = [
    "host",
    "authorization",
    "cookie",
    "content-length",
    "accept-encoding",
    "expect",
    RESUMABLE_HEADER,
    CORRELATION_ID_HEADER,
];

/// What goes to a worker.
#[derive(Debug, Clone)]
pub(super) struct Question<'q> {
    /// `/v1/…`.
    pub(super) path: &'static str,
    /// Of [`for_the_worker`].
    pub(super) headers: &'q [u8],
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
    links: Links,
    /// For our own engines.
    token: Token,
}

impl Upstream {
    /// With connections of its own.
    pub(super) fn new(token: &Token) -> Self {
        Self { links: Links::default(), token: token.clone() }
    }

    /// Asks one worker.
    pub(super) async fn ask(&self, endpoint: &Endpoint, question: &Question<'_>) -> Outcome {
        let asked = self.links.ask(&endpoint.address, self.head(endpoint, question), &question.body);
        let head = match tokio::time::timeout(question.patience, asked).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error @ LinkError::NoConnection(_))) => return Outcome::NoConnection(error.into()),
            Ok(Err(error @ LinkError::Broken(_))) => return Outcome::Died(error.into()),
            Err(_) => return Outcome::Silent,
        };
        let Reply { status, headers, pieces } = head;
        let events = headers
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"text/event-stream"));
        let body = match events && status.is_success() {
            true => AnswerBody::Events(pieces),
            false => match whole(pieces, question.patience).await {
                Ok(body) => body,
                Err(outcome) => return outcome,
            },
        };
        let answer = Answer { status, headers: for_the_client(headers), body };
        match answer.status {
            StatusCode::SERVICE_UNAVAILABLE => Outcome::Unready,
            StatusCode::TOO_MANY_REQUESTS => Outcome::Busy(answer),
            // Its engine has ended: of ours, not of somebody behind it.
            StatusCode::BAD_GATEWAY if endpoint.own_engine => Outcome::Died("the engine has ended".into()),
            _ => Outcome::Answer(answer),
        }
    }

    fn head(&self, endpoint: &Endpoint, question: &Question<'_>) -> Bytes {
        let mut head = Vec::with_capacity(512 + question.headers.len());
        let mut put = |parts: &[&str]| parts.iter().for_each(|part| head.extend_from_slice(part.as_bytes()));
        put(&["POST ", question.path, " HTTP/1.1\r\nhost: ", &endpoint.address, "\r\n"]);
        // It came from a header or was made by us, so it is always one.
        if HeaderValue::from_str(question.correlation_id).is_ok() {
            put(&[CORRELATION_ID_HEADER, ": ", question.correlation_id, "\r\n"]);
        }
        if endpoint.own_engine {
            put(&["authorization: Bearer ", self.token.expose(), "\r\n"]);
        }
        if question.resumable {
            put(&[RESUMABLE_HEADER, ": 1\r\n"]);
        }
        put(&["content-length: ", &question.body.len().to_string(), "\r\n"]);
        head.extend_from_slice(question.headers);
        head.extend_from_slice(b"\r\n");
        head.into()
    }
}

async fn whole(mut pieces: Pieces, patience: Duration) -> Result<AnswerBody, Outcome> {
    let mut whole = BytesMut::new();
    loop {
        // Nearly always all of it has come already.
        if whole.is_empty()
            && let Some(all) = pieces.all()
        {
            return Ok(AnswerBody::Whole(all));
        }
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
        // That of embeddings generates nothing.
        #[derive(Deserialize)]
        struct AnyUsage {
            prompt_tokens: u64,
            #[serde(default)]
            completion_tokens: u64,
        }
        let AnswerBody::Whole(body) = &self.body else { return None };
        // In JSON a quote inside of a text is escaped, so this is a key; it stands near the end, and the rest of a large
        // answer need not be read for it.
        let at = memchr::memmem::rfind(body, br#""usage""#)? + br#""usage""#.len();
        let said = body[at..].trim_ascii_start().strip_prefix(b":")?;
        let said = serde_json::Deserializer::from_slice(said).into_iter::<AnyUsage>().next()?.ok()?;
        Some(Usage::new(said.prompt_tokens, said.completion_tokens))
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

/// What of a client's headers a worker may see, as they are sent.
pub(super) fn for_the_worker(headers: &HeaderMap) -> Vec<u8> {
    let named = named_by_connection(headers);
    let mut lines = Vec::with_capacity(256);
    for (name, value) in headers {
        let word = name.as_str();
        if HOP_BY_HOP.contains(&word) || NOT_FOR_THE_WORKER.contains(&word) || named.contains(name) {
            continue;
        }
        for part in [word.as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            lines.extend_from_slice(part);
        }
    }
    lines
}

/// What of a worker's headers the client may see; length and id are set anew.
fn for_the_client(headers: HeaderMap) -> HeaderMap {
    let mut kept = end_to_end(headers);
    kept.remove(CONTENT_LENGTH);
    kept.remove(CORRELATION_ID_HEADER);
    kept
}

fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    let named = named_by_connection(&headers);
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    for name in named {
        headers.remove(name);
    }
    headers
}

fn named_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value: &HeaderValue| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_found_wherever_it_stands_and_no_text_is_taken_for_it() {
        for (body, expected) in [
            (r#"{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":4,"total_tokens":7}}"#, Some((3, 4))),
            (r#"{"usage" : {"prompt_tokens":3},"data":[{"embedding":[1,2]}]}"#, Some((3, 0))),
            (r#"{"choices":[{"text":"\"usage\":{\"prompt_tokens\":9}"}]}"#, None),
            (r#"{"usage":null}"#, None),
            (r#"{"usage":{"prompt_tokens":3"#, None),
            ("", None),
        ] {
            let body = AnswerBody::Whole(bytes::Bytes::from(body));
            let answer = Answer { status: http::StatusCode::OK, headers: HeaderMap::new(), body };
            assert_eq!(answer.usage(), expected.map(|(prompt, completion)| Usage::new(prompt, completion)));
        }
    }

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
        let mut lines: Vec<String> =
            String::from_utf8(for_the_worker(&headers)).unwrap().split_terminator("\r\n").map(str::to_owned).collect();
        lines.sort_unstable();
        assert_eq!(lines, ["content-type: application/json", "x-stainless-lang: python"]);
    }
}
