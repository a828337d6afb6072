//! One attempt to have one worker answer.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST, HeaderName,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use rbee_api::CORRELATION_ID_HEADER;
use rbee_runtime::token::Token;

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

/// What goes to the worker.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// `/v1/…`.
    pub(super) path: &'static str,
    /// As the client sent them, without what is not for the worker.
    pub(super) headers: HeaderMap,
    /// As the client sent it.
    pub(super) body: Bytes,
    /// The request's id.
    pub(super) correlation_id: String,
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
    /// Its beginning and the rest.
    Flowing { first: Bytes, rest: Pieces, events: bool },
}

/// Pieces of a body.
pub(super) type Pieces = BoxStream<'static, Result<Bytes, reqwest::Error>>;

/// How an attempt ended.
pub(super) enum Outcome {
    /// The client gets this.
    Answer(Answer),
    /// The worker is full (429): another may not be.
    Busy(Answer),
    /// The worker cannot serve now (503).
    Unready,
    /// Nothing listens there, or it does not accept.
    NoConnection(reqwest::Error),
    /// It was reached and broke before a byte went to the client.
    Died(reqwest::Error),
    /// It was silent for too long before a byte went to the client.
    Silent,
}

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Upstream {
    /// Connections.
    pub(super) http: reqwest::Client,
    /// For our own engines.
    pub(super) token: Token,
    /// How long a worker may be silent within an answer.
    pub(super) stall_timeout: Duration,
    /// How long it may take to begin one: without a stream, it begins when it is complete.
    pub(super) answer_timeout: Duration,
}

impl Upstream {
    /// Asks one worker.
    pub(super) async fn ask(&self, endpoint: &Endpoint, question: &Question) -> Outcome {
        let url = format!("http://{}{}", endpoint.address, question.path);
        let mut request = self.http.post(url).headers(question.headers.clone()).body(question.body.clone());
        request = request.header(CORRELATION_ID_HEADER, &question.correlation_id);
        if endpoint.own_engine {
            request = request.bearer_auth(self.token.expose());
        }
        let response = match tokio::time::timeout(self.answer_timeout, request.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) if error.is_connect() => return Outcome::NoConnection(error),
            Ok(Err(error)) => return Outcome::Died(error),
            Err(_) => return Outcome::Silent,
        };
        let status = response.status();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            return Outcome::Unready;
        }
        let headers = for_the_client(response.headers());
        let body = match self.begin(response).await {
            Ok(body) => body,
            Err(outcome) => return outcome,
        };
        let answer = Answer { status, headers, body };
        if status == StatusCode::TOO_MANY_REQUESTS { Outcome::Busy(answer) } else { Outcome::Answer(answer) }
    }

    async fn begin(&self, response: reqwest::Response) -> Result<AnswerBody, Outcome> {
        let events = response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"text/event-stream"));
        let mut pieces: Pieces = response.bytes_stream().boxed();
        if events {
            // Until the first event nothing has been promised to the client.
            let first = match tokio::time::timeout(self.answer_timeout, pieces.next()).await {
                Ok(Some(Ok(first))) => first,
                Ok(Some(Err(error))) => return Err(Outcome::Died(error)),
                Ok(None) => Bytes::new(),
                Err(_) => return Err(Outcome::Silent),
            };
            return Ok(AnswerBody::Flowing { first, rest: pieces, events });
        }
        let mut whole = BytesMut::new();
        loop {
            match tokio::time::timeout(self.stall_timeout, pieces.next()).await {
                Ok(Some(Ok(piece))) => whole.extend_from_slice(&piece),
                Ok(Some(Err(error))) => return Err(Outcome::Died(error)),
                Ok(None) => return Ok(AnswerBody::Whole(whole.freeze())),
                Err(_) => return Err(Outcome::Silent),
            }
            if whole.len() > WHOLE_ANSWER_BYTES_MAX {
                return Ok(AnswerBody::Flowing { first: whole.freeze(), rest: pieces, events });
            }
        }
    }
}

/// What of a client's headers a worker may see. Its credentials are for us, compression would hide events from us,
/// and an expectation is met already.
pub(super) fn for_the_worker(headers: &HeaderMap) -> HeaderMap {
    let ours = [HOST, AUTHORIZATION, COOKIE, CONTENT_LENGTH, ACCEPT_ENCODING, EXPECT];
    let mut kept = end_to_end(headers);
    for name in ours {
        kept.remove(name);
    }
    kept.remove(CORRELATION_ID_HEADER);
    kept
}

/// What of a worker's headers the client may see; length and id are set anew.
fn for_the_client(headers: &HeaderMap) -> HeaderMap {
    let mut kept = end_to_end(headers);
    kept.remove(CONTENT_LENGTH);
    kept.remove(CORRELATION_ID_HEADER);
    kept
}

fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<String> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value: &HeaderValue| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    let dropped = |name: &HeaderName| HOP_BY_HOP.contains(&name.as_str()) || named.iter().any(|n| n == name.as_str());
    headers.iter().filter(|(name, _)| !dropped(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
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
        let kept = for_the_worker(&headers);
        let mut names: Vec<&str> = kept.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "x-stainless-lang"]);
    }
}
