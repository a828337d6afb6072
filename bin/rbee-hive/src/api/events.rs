//! `GET /api/v1/events`: what happened here, as a list or as it comes.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::HeaderMap;
use monitoring::{EventParams, answer_events};
use rbee_runtime::http::{HttpError, Query};

use super::Api;

pub(super) async fn events(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    Query(params): Query<EventParams>,
) -> Result<Response, HttpError> {
    answer_events(api.events.journal(), &headers, params, api.shutdown.clone()).await
}
