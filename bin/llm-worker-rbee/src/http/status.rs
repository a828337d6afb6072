//! What the worker says of itself: models, health, metrics.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use rbee_api::openai::{Model, ModelList};
use rbee_api::{ApiError, ErrorCode, Health};
use rbee_runtime::http::{HttpError, Json};
use serde::Serialize;

use super::Service;

/// Seed 003's health body, and ours.
#[derive(Debug, Serialize)]
struct WorkerHealth {
    #[serde(flatten)]
    health: Health,
    /// Whether new requests are refused because we go down.
    draining: bool,
    model: String,
    slots: usize,
    slots_busy: i64,
    /// Tokens of prompt and answer a slot can have.
    context: usize,
    threads: usize,
    deterministic: bool,
    requests: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    uptime_s: f64,
}

pub(super) async fn health(State(service): State<Arc<Service>>) -> Response {
    let metrics = &service.metrics;
    let healthy = metrics.is_healthy();
    let health = Health {
        healthy,
        last_activity: metrics.last_activity(),
        queue_depth: u64::try_from(metrics.queue_depth.get()).unwrap_or(0),
        error_count: metrics.errors.get(),
        cache_hit_rate: Some(metrics.hit_rate()),
    };
    let body = WorkerHealth {
        health,
        draining: service.shutdown.is_draining(),
        model: service.model_name.clone(),
        slots: service.slots,
        slots_busy: metrics.slots_busy.get(),
        context: service.info.context_tokens,
        threads: service.info.threads,
        deterministic: service.deterministic,
        requests: metrics.requests.get(),
        prompt_tokens: metrics.prompt_tokens.get(),
        completion_tokens: metrics.completion_tokens.get(),
        uptime_s: metrics.uptime().as_secs_f64(),
    };
    let status = if healthy { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

pub(super) async fn models(State(service): State<Arc<Service>>) -> Json<ModelList> {
    Json(ModelList::new(vec![Model::new(&*service.model_name, service.created)]))
}

pub(super) async fn model(
    State(service): State<Arc<Service>>,
    Path(name): Path<String>,
) -> Result<Json<Model>, HttpError> {
    service.check_model(&name)?;
    Ok(Json(Model::new(name, service.created)))
}

pub(super) async fn metrics(State(service): State<Arc<Service>>) -> Result<Response, HttpError> {
    let text = service.metrics.render().map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?;
    Ok(([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response())
}
