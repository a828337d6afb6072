//! What hives call: heartbeats, and the long poll for their assignment.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use rbee_api::{
    ApiError, Assignment, ErrorCode, Heartbeat, HeartbeatReply, HiveUpgrade, HiveUpgradeReply, HiveUpgradeRequest,
};
use rbee_runtime::http::{HttpError, Json, Query};
use serde::Deserialize;

use super::workers::ended;
use super::{Api, parse};
use crate::fleet::View;
use crate::orders::Order;

/// Longest time an answer to a hive is held back.
const WAIT_MS_MAX: u64 = 60_000;

pub(super) async fn heartbeat(
    State(api): State<Api>,
    Path(name): Path<String>,
    Json(mut heartbeat): Json<Heartbeat>,
) -> Result<Json<HeartbeatReply>, HttpError> {
    let told = std::mem::take(&mut heartbeat.events);
    let mut reply = api.registry.heartbeat(&name, heartbeat).await?;
    // Not before it is taken for whom it says it is.
    reply.events_known = Some(api.events.take_in(&name, told).await);
    Ok(Json(reply))
}

/// Has a hive become the binary that is there now, and waits until it has.
pub(super) async fn upgrade(
    State(api): State<Api>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<HiveUpgradeReply>, HttpError> {
    let request: HiveUpgradeRequest = parse(&body)?;
    api.refuse_if_ending()?;
    let ordered = api.registry.order(Order::UpgradeHive { hive: name.clone() }).await?;
    let number = ordered.since;
    let mut views = api.registry.views();
    let settled = views.wait_for(|view| upgraded(view, &name).is_some_and(|done| done.generation >= number));
    tokio::select! {
        _ = settled => {}
        () = ended(&api) => {
            return Err(ApiError::new(ErrorCode::ShuttingDown, "queen is about to end; the hive goes on with it").into());
        }
        () = tokio::time::sleep(Duration::from_millis(request.wait_ms.min(WAIT_MS_MAX))) => {}
    }
    let view = api.registry.view();
    let heartbeat = view.hives.get(&name).and_then(|hive| hive.heartbeat.clone());
    match heartbeat.and_then(|heartbeat| Some((heartbeat.pid, heartbeat.upgrade.clone()?))) {
        Some((pid, upgrade)) if upgrade.generation >= number => match upgrade.error {
            Some(error) => {
                let message = format!("hive `{name}`: {error}; nothing has changed, the hive that ran goes on");
                Err(ApiError::new(ErrorCode::UpgradeFailed, message).into())
            }
            None => Ok(Json(HiveUpgradeReply { hive: name, pid, upgrade })),
        },
        _ => {
            let message = format!("hive `{name}` has not come back in time; what was ordered stays ordered");
            Err(ApiError::new(ErrorCode::Timeout, message).into())
        }
    }
}

fn upgraded<'v>(view: &'v View, hive: &str) -> Option<&'v HiveUpgrade> {
    view.hives.get(hive)?.heartbeat.as_ref()?.upgrade.as_ref()
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
        () = api.registry.left() => None,
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
        upgrade_generation: view.desired.upkeep.hive_upgrades.get(name).copied().unwrap_or(0),
    })
}
