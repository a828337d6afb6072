//! Logs stay on the hive's machine; a read is passed on to it and streamed back.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http::header::CONTENT_TYPE;
use rbee_api::{ApiError, CORRELATION_ID_HEADER, ErrorBody, ErrorCode, LogQuery, WorkerRef};
use rbee_runtime::http::{HttpError, Query, current_correlation_id};

use super::Api;
use crate::orders;

pub(super) async fn logs(
    State(api): State<Api>,
    Path(name): Path<String>,
    Query(mut query): Query<LogQuery>,
) -> Result<Response, HttpError> {
    let view = api.registry.view();
    let wish = orders::wish(&view.wishes, &name)?;
    let target = WorkerRef { hive: query.hive.take(), name: name.clone(), replica: query.replica };
    let placed = orders::matching(&target, wish, &view)?
        .into_iter()
        .find_map(|id| view.desired.placement.get(&id).map(|hive| (id.clone(), hive.clone())));
    let Some((id, hive)) = placed else {
        let message = format!("no hive has {target}: there are no logs of it");
        return Err(ApiError::new(ErrorCode::Unavailable, message).into());
    };
    query.replica = Some(id.replica);
    let hive_url = view.desired.hives.get(&hive).map(|record| record.url.clone()).unwrap_or_default();
    let url = format!("{}/api/v1/workers/{name}/logs", hive_url.trim_end_matches('/'));
    let mut request = api.http.get(url).query(&query).bearer_auth(api.token.expose());
    if let Some(id) = current_correlation_id() {
        request = request.header(CORRELATION_ID_HEADER, id);
    }
    let response = request.send().await.map_err(|error| {
        tracing::warn!(hive, error = &error as &dyn std::error::Error, "a hive does not answer");
        let message = format!("hive {hive} does not answer at {hive_url}: its logs cannot be read now");
        ApiError::new(ErrorCode::Unavailable, message)
    })?;
    let status = response.status();
    if !status.is_success() {
        return Err(refusal(&hive, status, response).await.into());
    }
    // A followed log does not end by itself: it must not keep queen from ending.
    let stopping = api.stopping.clone();
    let lines = response.bytes_stream().take_until(async move { stopping.draining().await });
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], Body::from_stream(lines)).into_response())
}

async fn refusal(hive: &str, status: http::StatusCode, response: reqwest::Response) -> ApiError {
    match response.json::<ErrorBody>().await {
        Ok(body) => ApiError { param: body.error.param, ..ApiError::new(body.error.code, body.error.message) },
        Err(_) => ApiError::new(ErrorCode::Unavailable, format!("hive {hive} answered {status}, but not as rbee does")),
    }
}
