//! A worker's log lines as text, on request without end.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use daemon_lifecycle::{LogFollower, SupervisorError};
use http::header::CONTENT_TYPE;
use rbee_api::{ApiError, ErrorCode, LogQuery, ReplicaId};
use rbee_runtime::http::{HttpError, Query};
use rbee_runtime::shutdown::Shutdown;

use super::Api;

/// More lines than this are not sent at once.
const LINES_MAX: u32 = 10_000;

pub(super) async fn logs(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    Query(query): Query<LogQuery>,
) -> Result<Response, HttpError> {
    api.check_hive(query.hive.as_deref())?;
    let id = find(&api, &name, query.replica)?;
    let lines = usize::try_from(query.lines.min(LINES_MAX)).unwrap_or(usize::MAX);
    let body = if query.follow {
        let follower = api.pool.follow(&id, lines).await.map_err(|error| unreadable(&id, &error))?;
        Body::from_stream(stream(follower, api.shutdown.clone()))
    } else {
        let lines = api.pool.logs(&id, lines).await.map_err(|error| unreadable(&id, &error))?;
        Body::from(lines.into_iter().map(|line| line + "\n").collect::<String>())
    };
    Ok(([(CONTENT_TYPE, "text/plain; charset=utf-8")], body).into_response())
}

fn find(api: &Api, name: &str, replica: Option<u32>) -> Result<ReplicaId, ApiError> {
    let view = api.pool.view();
    let view = view.borrow();
    // By name and replica: the first one is the lowest.
    let mut ids = view.workers.iter().map(|worker| worker.id()).filter(|id| id.name == name);
    ids.find(|id| replica.is_none_or(|replica| replica == id.replica)).ok_or_else(|| {
        let replica = replica.map(|replica| format!("/{replica}")).unwrap_or_default();
        ApiError::new(ErrorCode::WorkerNotFound, format!("there is no worker `{name}{replica}` here"))
    })
}

fn unreadable(id: &ReplicaId, error: &SupervisorError) -> ApiError {
    match error {
        SupervisorError::UnknownUnit { .. } => {
            ApiError::new(ErrorCode::Unavailable, format!("{id} has not run yet, so there is no log to follow"))
        }
        error => {
            let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
            ApiError::new(ErrorCode::Internal, format!("the log of {id}: {error}{cause}"))
        }
    }
}

/// Lines until the worker is forgotten or we end.
fn stream(follower: LogFollower, shutdown: Shutdown) -> impl futures_util::Stream<Item = Result<String, Infallible>> {
    futures_util::stream::unfold((follower, shutdown), |(mut follower, shutdown)| async {
        let line = tokio::select! {
            line = follower.next() => line?,
            () = shutdown.draining() => return None,
        };
        Some((Ok(line + "\n"), (follower, shutdown)))
    })
}
