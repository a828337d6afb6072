//! What hives call: heartbeats, and the long poll for their assignment.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use rbee_api::{Assignment, Heartbeat, HeartbeatReply};
use rbee_runtime::http::{HttpError, Json, Query};
use serde::Deserialize;

use super::Api;
use crate::fleet::View;

/// Longest time an answer to a hive is held back.
const WAIT_MS_MAX: u64 = 60_000;

pub(super) async fn heartbeat(
    State(api): State<Api>,
    Path(name): Path<String>,
    Json(heartbeat): Json<Heartbeat>,
) -> Result<Json<HeartbeatReply>, HttpError> {
    Ok(Json(api.registry.heartbeat(&name, heartbeat).await?))
}

/// What the hive has already.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Current {
    fleet: String,
    generation: u64,
    wait_ms: u64,
}

/// The newest assignment, as soon as the hive does not have it; 204 when there is none in time. A hive that has not
/// said its first word waits, too.
pub(super) async fn assignment(
    State(api): State<Api>,
    Path(name): Path<String>,
    Query(current): Query<Current>,
) -> Response {
    let mut views = api.registry.views();
    let newer = async {
        loop {
            let newer = newer(&views.borrow_and_update(), &name, &current);
            if let Some(assignment) = newer {
                return Some(assignment);
            }
            // The registry's end is queen's end.
            views.changed().await.ok()?;
        }
    };
    let wait = Duration::from_millis(current.wait_ms.min(WAIT_MS_MAX));
    let found = tokio::select! {
        biased;
        found = newer => found,
        () = tokio::time::sleep(wait) => None,
        () = api.stopping.draining() => None,
    };
    match found {
        Some(assignment) => Json(assignment).into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

fn newer(view: &View, name: &str, current: &Current) -> Option<Assignment> {
    let record = view.desired.hives.get(name)?;
    // A hive only known from the store has not shown yet which machine it is.
    view.hives.get(name)?.heartbeat.as_ref()?;
    let same_fleet = current.fleet == view.desired.fleet_id;
    (!same_fleet || record.generation > current.generation).then(|| Assignment {
        fleet_id: view.desired.fleet_id.clone(),
        generation: record.generation,
        workers: record.workers.clone(),
    })
}
