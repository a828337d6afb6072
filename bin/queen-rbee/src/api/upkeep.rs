//! Draining hives, and reading the configuration anew.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use axum::extract::{Path, State};
use bytes::Bytes;
use rbee_api::{ApiError, DrainReply, DrainRequest, ErrorCode, ReloadReply, ReloadRequest, ReplicaId};
use rbee_runtime::http::{HttpError, Json};

use super::workers::{WAIT_MS_MAX, ended, settle};
use super::{Api, parse, status};
use crate::activity::Place;
use crate::orders::Order;

pub(super) async fn drain(
    State(api): State<Api>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<DrainReply>, HttpError> {
    carry_out(&api, name, true, parse(&body)?).await
}

pub(super) async fn undrain(
    State(api): State<Api>,
    Path(name): Path<String>,
    body: Bytes,
) -> Result<Json<DrainReply>, HttpError> {
    carry_out(&api, name, false, parse(&body)?).await
}

async fn carry_out(api: &Api, hive: String, drain: bool, request: DrainRequest) -> Result<Json<DrainReply>, HttpError> {
    api.refuse_if_ending()?;
    let changed = api.registry.order(Order::DrainHive { hive: hive.clone(), drain }).await?.changed;
    if drain && request.wait_ms > 0 {
        until_drained(api, What::Hive(&hive), request.wait_ms.min(WAIT_MS_MAX)).await?;
    }
    let view = api.registry.view();
    let known = view.hives.get(&hive).map(|known| status::hive_status(&view, &hive, known, Instant::now()));
    let hive = known.ok_or_else(|| ApiError::new(ErrorCode::HiveNotFound, format!("hive `{hive}` is gone")))?;
    Ok(Json(DrainReply { changed, hive }))
}

pub(super) async fn reload(State(api): State<Api>, body: Bytes) -> Result<Json<ReloadReply>, HttpError> {
    let request: ReloadRequest = parse(&body)?;
    api.refuse_if_ending()?;
    let reloaded = api.reloads.reload().await?;
    if request.wait_ms > 0 {
        settle(&api, &reloaded.ordered, request.wait_ms.min(WAIT_MS_MAX)).await.map_err(|mut error| {
            error.message = format!("the new configuration is in force, but {}", error.message);
            error
        })?;
    }
    Ok(Json(reloaded.reply(&api.registry.view())))
}

/// What a drain is about.
pub(super) enum What<'a> {
    /// All that is on a hive, and what is to leave it.
    Hive(&'a str),
    /// These, wherever they are.
    Replicas(&'a BTreeSet<ReplicaId>),
}

/// Waits until nothing is in flight there and nothing has yet to leave.
pub(super) async fn until_drained(api: &Api, what: What<'_>, wait_ms: u64) -> Result<(), ApiError> {
    let mut views = api.registry.views();
    let mut idles = api.activity.idles();
    let mut busy = String::new();
    let drained = async {
        loop {
            idles.mark_unchanged();
            let left = left(api, &views.borrow_and_update(), &what);
            match left {
                None => return,
                Some(why) => busy = why,
            }
            tokio::select! {
                _ = views.changed() => {}
                _ = idles.changed() => {}
            }
        }
    };
    tokio::select! {
        biased;
        () = drained => return Ok(()),
        () = ended(api) => {
            let message = "queen is about to end; what was drained stays drained";
            return Err(ApiError::new(ErrorCode::ShuttingDown, message));
        }
        () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
    }
    let message = format!("not drained within {wait_ms} ms: {busy}; it gets no new work and stays drained");
    Err(ApiError::new(ErrorCode::Timeout, message))
}

/// What is left there, for people.
fn left(api: &Api, view: &crate::fleet::View, what: &What<'_>) -> Option<String> {
    let is_meant = |(hive, id): &Place| match what {
        What::Hive(name) => hive == name,
        What::Replicas(ids) => ids.contains(id),
    };
    let moving =
        view.desired.upkeep.moves.iter().find(|leaving| matches!(what, What::Hive(name) if leaving.from == **name));
    if let Some(leaving) = moving {
        let to = view.desired.placement.get(&leaving.id).map_or("another hive", String::as_str);
        return Some(format!("{} is on its way to {to}", leaving.id));
    }
    let busy = api.activity.busy(is_meant);
    busy.into_iter().next().map(|((_, id), in_flight)| format!("{in_flight} requests are in flight at {id}"))
}
