//! Verbs on workers: an edit of our own orders, then a wait for what it leads to.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use rbee_api::control::WorkerOnHive;
use rbee_api::ids::is_valid_name;
use rbee_api::{ApiError, ErrorCode, Phase, ScaleRequest, Verb, VerbReply, VerbRequest, WorkerRef};
use rbee_runtime::http::{HttpError, Json, Query};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use super::{Api, Owner};
use crate::orders::{Edit, Orders};
use crate::settle::{Goal, settled};

/// No answer waits longer, whatever the request says.
pub(super) const WAIT_MS_MAX: u64 = 3_600_000;

/// Which of the workers of that name.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Selector {
    pub(super) replica: Option<u32>,
    pub(super) hive: Option<String>,
}

pub(super) async fn verb(
    State(api): State<Arc<Api>>,
    Path((name, word)): Path<(String, String)>,
    Query(selector): Query<Selector>,
    body: Bytes,
) -> Result<Json<VerbReply>, HttpError> {
    let verb: Verb = word.parse().map_err(|_| ApiError::new(ErrorCode::NotFound, format!("`{word}` is no verb")))?;
    own_orders(&api)?;
    api.check_hive(selector.hive.as_deref())?;
    let request: VerbRequest = parse(&body)?;
    let target = WorkerRef { hive: None, name: valid(name)?, replica: selector.replica };
    let (view, how) = (api.pool.view(), request.clone());
    let (edit, goal) = order(&api, move |orders| {
        let phase = |id: &_| view.borrow().get(id).map_or(Phase::Stopped, |worker| worker.status.phase);
        orders.verb(&target, verb, &how, phase)
    })
    .await?;
    reply(&api, edit, goal, request.wait_ms).await
}

pub(super) async fn scale(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    Query(selector): Query<Selector>,
    body: Bytes,
) -> Result<Json<VerbReply>, HttpError> {
    own_orders(&api)?;
    api.check_hive(selector.hive.as_deref())?;
    let request: ScaleRequest = parse(&body)?;
    let name = valid(name)?;
    let (edit, goal) = order(&api, move |orders| orders.scale(&name, request.replicas)).await?;
    reply(&api, edit, goal, request.wait_ms).await
}

fn own_orders(api: &Api) -> Result<&Mutex<Orders>, ApiError> {
    if api.pool.view().borrow().stopping {
        return Err(ApiError::new(ErrorCode::ShuttingDown, "this hive is stopping"));
    }
    match &api.owner {
        Owner::Itself(orders) => Ok(orders),
        Owner::Queen(url) => {
            let message = format!("hive `{}` takes its orders from queen; ask her at {url}", api.name);
            Err(ApiError::new(ErrorCode::ManagedByQueen, message))
        }
    }
}

/// Edits our orders and tells the pool, in a task of its own: a client that goes away in between leaves nothing half
/// done.
async fn order(
    api: &Arc<Api>,
    edit: impl FnOnce(&mut Orders) -> Result<Edit, ApiError> + Send + 'static,
) -> Result<(Edit, Goal), ApiError> {
    let api = Arc::clone(api);
    let done = tokio::spawn(async move {
        let mut orders = own_orders(&api)?.lock().await;
        let edit = edit(&mut orders)?;
        let goal = carry_out(&api, &orders, &edit).await?;
        Ok((edit, goal))
    });
    done.await.unwrap_or_else(|error| Err(ApiError::new(ErrorCode::Internal, format!("the order broke off: {error}"))))
}

async fn carry_out(api: &Api, orders: &Orders, edit: &Edit) -> Result<Goal, ApiError> {
    if edit.changed {
        api.pool.assign(orders.to_stored()).await.map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            let message = format!("{error}{cause}; it is carried out, but the next restart will not know of it");
            ApiError::new(ErrorCode::Internal, message)
        })?;
    }
    let assignment = orders.assignment();
    let named = assignment.workers.iter().filter(|worker| edit.targets.contains(&worker.id));
    Ok(Goal { generation: assignment.generation, workers: named.cloned().collect(), gone: edit.gone.clone() })
}

async fn reply(api: &Api, edit: Edit, goal: Goal, wait_ms: u64) -> Result<Json<VerbReply>, HttpError> {
    if wait_ms > 0 {
        settled(api.pool.view(), &goal, Duration::from_millis(wait_ms.min(WAIT_MS_MAX))).await?;
    }
    let named = api
        .workers()
        .into_iter()
        .filter(|worker| edit.targets.iter().any(|id| id.name == worker.name && id.replica == worker.replica));
    let workers = named.map(|worker| WorkerOnHive { hive: api.name.clone(), worker }).collect();
    Ok(Json(VerbReply { changed: edit.changed, workers }))
}

fn valid(name: String) -> Result<String, ApiError> {
    if is_valid_name(&name) {
        return Ok(name);
    }
    Err(ApiError::new(ErrorCode::InvalidParameter, format!("`{name}` is no name of a worker")).with_param("name"))
}

/// A JSON body; an empty one means the defaults, where there are any.
pub(super) fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, ApiError> {
    let body: &[u8] = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body)
        .map_err(|error| ApiError::new(ErrorCode::InvalidRequest, format!("the body is not as expected: {error}")))
}
