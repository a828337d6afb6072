//! Logs stay on the hive's machine; a read is passed on to it and streamed back.

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use http::header::CONTENT_TYPE;
use rbee_api::{ApiError, ErrorCode, LogQuery, WorkerRef};
use rbee_runtime::http::{HttpError, Query};

use super::Api;
use super::ask::ask_hive;
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
    let response = ask_hive(&api, &view, &hive, &format!("/api/v1/workers/{name}/logs"), &query).await?;
    // A followed log does not end by itself: it must not keep queen from ending.
    let stopping = api.stopping.clone();
    let lines = response.bytes_stream().take_until(async move { stopping.draining().await });
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], Body::from_stream(lines)).into_response())
}
