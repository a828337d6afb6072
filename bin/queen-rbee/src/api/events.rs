//! `GET /api/v1/events`: what happened in the fleet, as a list or as it comes.

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use monitoring::{EventParams, answer_events};
use rbee_runtime::http::{HttpError, Query};

use super::Api;

pub(super) async fn events(
    State(api): State<Api>,
    headers: HeaderMap,
    Query(params): Query<EventParams>,
) -> Result<Response, HttpError> {
    answer_events(api.events.journal(), &headers, params, api.stopping.shutdown()).await
}
