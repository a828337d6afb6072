//! Why workers are as they are: each hive tells of its own.

use std::collections::BTreeMap;

use axum::extract::{Path, State};
use rbee_api::control::{WorkerOnHive, WorkerWhy};
use rbee_api::{ApiError, ErrorCode, ReplicaId, WhyReply, WorkerRef};
use rbee_runtime::http::{HttpError, Json, Query};

use super::ask::ask_hive;
use super::workers::Selector;
use super::{Api, status};
use crate::orders;

pub(super) async fn why(
    State(api): State<Api>,
    Path(name): Path<String>,
    Query(selector): Query<Selector>,
) -> Result<Json<WhyReply>, HttpError> {
    let view = api.registry.view();
    let wish = orders::wish(&view.wishes, &name)?;
    let target = WorkerRef { hive: selector.hive, name: name.clone(), replica: selector.replica };
    let mut by_hive: BTreeMap<Option<&String>, Vec<ReplicaId>> = BTreeMap::new();
    for id in orders::matching(&target, wish, &view)? {
        by_hive.entry(view.desired.placement.get(&id)).or_default().push(id);
    }
    let mut workers = Vec::new();
    for (hive, ids) in by_hive {
        let mut told = match hive {
            Some(hive) => ask_one(&api, &view, hive, &target).await?,
            None => Vec::new(),
        };
        told.retain(|why| ids.iter().any(|id| id.replica == why.worker.worker.replica));
        for id in ids {
            if !told.iter().any(|why| why.worker.worker.replica == id.replica) {
                let worker = status::worker_status(&view, &id);
                let hive = hive.cloned().unwrap_or_default();
                told.push(WorkerWhy { worker: WorkerOnHive { hive, worker }, falls: Vec::new() });
            }
        }
        workers.extend(told);
    }
    workers.sort_by_key(|why| why.worker.worker.replica);
    Ok(Json(WhyReply { workers }))
}

async fn ask_one(
    api: &Api,
    view: &crate::fleet::View,
    hive: &str,
    target: &WorkerRef,
) -> Result<Vec<WorkerWhy>, ApiError> {
    let query: Vec<(&str, u32)> = target.replica.map(|replica| ("replica", replica)).into_iter().collect();
    let response = ask_hive(api, view, hive, &format!("/api/v1/workers/{}/why", target.name), &query).await;
    let response = match response {
        // It has not taken the worker up yet: what queen knows is all there is.
        Err(error) if error.code == ErrorCode::WorkerNotFound => return Ok(Vec::new()),
        other => other?,
    };
    let reply: WhyReply = response.json().await.map_err(|error| {
        ApiError::new(ErrorCode::Unavailable, format!("the answer of hive {hive} is broken: {error}"))
    })?;
    Ok(reply.workers)
}
