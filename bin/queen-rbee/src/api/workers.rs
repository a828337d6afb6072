//! Verbs: change what is wanted, then wait until it has come about.

use std::time::Duration;

use axum::extract::{Path, State};
use bytes::Bytes;
use rbee_api::control::WorkerOnHive;
use rbee_api::ids::is_valid_name;
use rbee_api::{ApiError, ErrorCode, ScaleRequest, Verb, VerbReply, VerbRequest, WorkerRef};
use rbee_runtime::http::{HttpError, Json, Query};
use serde::Deserialize;

use super::upkeep::{What, until_drained};
use super::{Api, parse, status};
use crate::fleet::View;
use crate::orders::{Goal, Order, Ordered};
use crate::settle::{Progress, progress};

/// Longest time an answer is held back.
pub(super) const WAIT_MS_MAX: u64 = 600_000;

/// Which replicas.
#[derive(Debug, Deserialize)]
pub(super) struct Selector {
    pub(super) hive: Option<String>,
    pub(super) replica: Option<u32>,
}

pub(super) async fn verb(
    State(api): State<Api>,
    Path((name, verb)): Path<(String, String)>,
    Query(selector): Query<Selector>,
    body: Bytes,
) -> Result<Json<VerbReply>, HttpError> {
    let verb: Verb = verb.parse().map_err(|_| {
        let message =
            format!("there is no verb `{verb}`: start, stop, restart, kill, retry, drain, undrain and scale are");
        ApiError::new(ErrorCode::NotFound, message)
    })?;
    let request: VerbRequest = parse(&body)?;
    let wait_ms = request.wait_ms;
    let target = WorkerRef { hive: selector.hive, name: checked(name)?, replica: selector.replica };
    carry_out(&api, Order::Verb { target, verb, request }, wait_ms).await
}

pub(super) async fn scale(
    State(api): State<Api>,
    Path(name): Path<String>,
    Json(request): Json<ScaleRequest>,
) -> Result<Json<VerbReply>, HttpError> {
    let order = Order::Scale { name: checked(name)?, replicas: request.replicas };
    carry_out(&api, order, request.wait_ms).await
}

fn checked(name: String) -> Result<String, ApiError> {
    if is_valid_name(&name) {
        return Ok(name);
    }
    let message = format!("`{name}` is no name of a worker: use letters, digits, `-` and `_`");
    Err(ApiError::new(ErrorCode::InvalidParameter, message).with_param("name"))
}

async fn carry_out(api: &Api, order: Order, wait_ms: u64) -> Result<Json<VerbReply>, HttpError> {
    api.refuse_if_ending()?;
    let drains = matches!(order, Order::Verb { verb: Verb::Drain, .. });
    let ordered = api.registry.order(order).await?;
    if wait_ms > 0 && drains {
        let ids = ordered.targets.iter().map(|target| target.id.clone()).collect();
        until_drained(api, What::Replicas(&ids), wait_ms.min(WAIT_MS_MAX)).await?;
    } else if wait_ms > 0 {
        settle(api, &ordered, wait_ms.min(WAIT_MS_MAX)).await?;
    }
    Ok(Json(reply(&ordered, &api.registry.view())))
}

pub(super) async fn settle(api: &Api, ordered: &Ordered, wait_ms: u64) -> Result<(), ApiError> {
    let mut views = api.registry.views();
    let mut pending = String::new();
    let settled = async {
        loop {
            let progress = progress(ordered, &views.borrow_and_update());
            match progress {
                Progress::Done => return Ok(()),
                Progress::Failed(error) => return Err(error),
                Progress::Waiting { why } => pending = why,
            }
            if views.changed().await.is_err() {
                return Err(ApiError::new(ErrorCode::ShuttingDown, "queen is about to end"));
            }
        }
    };
    tokio::select! {
        biased;
        settled = settled => return settled,
        () = ended(api) => {
            let message = "queen is about to end; what was ordered stays ordered";
            return Err(ApiError::new(ErrorCode::ShuttingDown, message));
        }
        () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
    }
    let message = format!("not settled within {wait_ms} ms: {pending}; what was ordered stays ordered");
    Err(ApiError::new(ErrorCode::Timeout, message))
}

/// Resolves when this is not the queen any more, or soon.
pub(super) async fn ended(api: &Api) {
    tokio::select! {
        () = api.stopping.draining() => {}
        () = api.registry.left() => {}
    }
}

fn reply(ordered: &Ordered, view: &View) -> VerbReply {
    let workers = ordered.targets.iter().filter(|target| target.goal != Goal::Gone).map(|target| {
        let hive = view.desired.placement.get(&target.id);
        WorkerOnHive { hive: hive.cloned().unwrap_or_default(), worker: status::worker_status(view, &target.id) }
    });
    VerbReply { changed: ordered.changed, workers: workers.collect() }
}
