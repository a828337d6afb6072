//! `GET /api/v1/events`: a list, or a stream that `Last-Event-ID` takes up again.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::response::sse::{KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::{self, Stream};
use http::HeaderMap;
use http::header::ACCEPT;
use rbee_api::{ApiError, ErrorCode, Event, EventKind, EventQuery, Since};
use rbee_runtime::http::HttpError;
use rbee_runtime::shutdown::Shutdown;
use serde::Deserialize;

use super::{Follower, Journal};

/// So often a quiet stream says that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What stands behind the `?`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct EventParams {
    since: Option<String>,
    kind: Option<String>,
    daemon: Option<String>,
    limit: Option<usize>,
    follow: bool,
}

/// The answer of either tier; a stream ends when `shutdown` begins to drain.
///
/// # Errors
/// [`ErrorCode::InvalidParameter`] for what cannot be understood, [`ErrorCode::Unavailable`] when too many follow already.
pub async fn answer_events(
    journal: &Journal,
    headers: &HeaderMap,
    params: EventParams,
    shutdown: Shutdown,
) -> Result<Response, HttpError> {
    let follow = params.follow || accepts_stream(headers);
    let query = params.query()?;
    if !follow {
        return Ok(Json(journal.list(&query).await).into_response());
    }
    let last_id = last_event_id(headers)?;
    let Some(follower) = journal.follow(query, last_id).await else {
        return Err(ApiError::new(ErrorCode::Unavailable, "too many follow the events already").into());
    };
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(frames(follower, shutdown)).keep_alive(keep_alive).into_response())
}

fn frames(
    follower: Follower,
    shutdown: Shutdown,
) -> impl Stream<Item = Result<axum::response::sse::Event, Infallible>> {
    let look = follower.presence();
    let frames = stream::unfold((follower, shutdown), |(mut follower, shutdown)| async {
        let event = tokio::select! {
            biased;
            () = shutdown.draining() => return None,
            event = follower.next() => event?,
        };
        Some((Ok(frame(&event)), (follower, shutdown)))
    });
    let mut frames = Box::pin(frames);
    // Asked for more only while the connection takes something, if only a sign of life.
    stream::poll_fn(move |context| {
        look();
        frames.as_mut().poll_next(context)
    })
}

fn frame(event: &Event) -> axum::response::sse::Event {
    let frame = axum::response::sse::Event::default().id(event.id.to_string()).event(event.kind.as_str());
    // JSON of our own types has no line ends, and cannot fail.
    frame.data(serde_json::to_string(event).unwrap_or_default())
}

fn accepts_stream(headers: &HeaderMap) -> bool {
    headers.get(ACCEPT).and_then(|value| value.to_str().ok()).is_some_and(|types| types.contains("text/event-stream"))
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let id = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    id.map(Some).ok_or_else(|| refused("last-event-id", "`Last-Event-ID` must be the id of an event".to_owned()))
}

impl EventParams {
    fn query(self) -> Result<EventQuery, ApiError> {
        let Self { since, kind, daemon, limit, follow: _ } = self;
        let since = since.map(|word| word.parse::<Since>().map_err(|error| refused("since", error.to_string())));
        let since = since.transpose()?;
        let words = kind.iter().flat_map(|words| words.split(',')).map(str::trim).filter(|word| !word.is_empty());
        let kinds = words.map(|word| word.parse::<EventKind>().map_err(|error| refused("kind", error.to_string())));
        Ok(EventQuery { since, kinds: kinds.collect::<Result<_, _>>()?, daemon, limit })
    }
}

fn refused(param: &str, message: String) -> ApiError {
    ApiError::new(ErrorCode::InvalidParameter, message).with_param(param)
}
