//! `GET /api/v1/workers/{name}/why`: how workers came to be as they are.

use std::sync::Arc;

use axum::extract::{Path, State};
use daemon_lifecycle::{Fall, FallOutcome};
use monitoring::words::{in_our_words, sentence_in_our_words};
use rbee_api::control::{WhyFall, WhyOutcome, WorkerOnHive, WorkerWhy};
use rbee_api::{ApiError, ErrorCode, ReplicaId, WhyReply};
use rbee_runtime::http::{HttpError, Json, Query};

use super::Api;
use super::verbs::Selector;

pub(super) async fn why(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    Query(selector): Query<Selector>,
) -> Result<Json<WhyReply>, HttpError> {
    api.check_hive(selector.hive.as_deref())?;
    let is_meant = |replica: u32| selector.replica.is_none_or(|meant| meant == replica);
    let named: Vec<_> =
        api.workers().into_iter().filter(|worker| worker.name == name && is_meant(worker.replica)).collect();
    if named.is_empty() {
        let replica = selector.replica.map(|replica| format!("/{replica}")).unwrap_or_default();
        let message = format!("there is no worker `{name}{replica}` here");
        return Err(ApiError::new(ErrorCode::WorkerNotFound, message).into());
    }
    let mut workers = Vec::new();
    for worker in named {
        let id = ReplicaId { name: worker.name.clone(), replica: worker.replica };
        let history = api.pool.why(&id).await;
        let history = history.map_err(|error| ApiError::new(ErrorCode::ShuttingDown, error.to_string()))?;
        let falls = history.map(|history| history.falls.iter().map(fall).collect()).unwrap_or_default();
        workers.push(WorkerWhy { worker: WorkerOnHive { hive: api.name.clone(), worker }, falls });
    }
    Ok(Json(WhyReply { workers }))
}

fn fall(fall: &Fall) -> WhyFall {
    let (outcome, since) = match fall.outcome {
        FallOutcome::Pending => (WhyOutcome::Pending, None),
        FallOutcome::Running { since, .. } => (WhyOutcome::Running, Some(since)),
        FallOutcome::Down { since } => (WhyOutcome::Down, Some(since)),
        FallOutcome::Overtaken => (WhyOutcome::Overtaken, None),
    };
    WhyFall {
        at: fall.at,
        incarnation: fall.incarnation,
        summary: sentence_in_our_words(&fall.sentence, &fall.chain),
        chain: fall.chain.iter().map(|unit| in_our_words(unit)).collect(),
        ended: fall.ended.clone(),
        outcome,
        since,
    }
}
