//! One id per request, through all tiers and logs.

use axum::extract::Request;
use axum::response::Response;
use http::HeaderValue;
use rbee_api::CORRELATION_ID_HEADER;
use tracing::Instrument;
use uuid::Uuid;

/// Longest id taken from a caller, in bytes.
const INBOUND_LENGTH_MAX: usize = 128;

/// The id of the request being served; an extension of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorrelationId(pub String);

tokio::task_local! {
    static CURRENT: CorrelationId;
}

/// The id of the request this task serves; `None` outside of a request (also in tasks it spawns).
#[must_use]
pub fn current_correlation_id() -> Option<String> {
    CURRENT.try_with(|id| id.0.clone()).ok()
}

/// Takes the caller's id or makes one; puts it into the request, the log span and the answer.
pub(super) async fn attach<A: Future<Output = Response>>(
    mut request: Request,
    answer: impl FnOnce(Request) -> A,
) -> Response {
    let inbound = request.headers().get(CORRELATION_ID_HEADER).and_then(|value| value.to_str().ok());
    let id = CorrelationId(match inbound {
        Some(text) if is_sane(text) => text.to_owned(),
        _ => Uuid::now_v7().to_string(),
    });
    let span = tracing::info_span!(
        "request",
        correlation_id = %id.0,
        method = %request.method(),
        path = request.uri().path(),
    );
    request.extensions_mut().insert(id.clone());
    let mut response = CURRENT.scope(id.clone(), answer(request)).instrument(span).await;
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        response.headers_mut().insert(CORRELATION_ID_HEADER, value);
    }
    response
}

/// What may go into our logs: short, and no character that could forge a line.
fn is_sane(text: &str) -> bool {
    (1..=INBOUND_LENGTH_MAX).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:/".contains(&b))
}
