//! The control API (table in `rbee_api::control`), `/health` and `/metrics`.

mod ask;
mod events;
mod hives;
mod logs;
mod reports;
mod status;
mod upkeep;
mod usage;
mod why;
mod workers;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use bytes::Bytes;
use http::StatusCode;
use monitoring::{History, OwnUsage};
use rbee_api::{ApiError, ErrorCode, Health, ShutdownRequest, UpgradeReply, UpgradeRequest};
use rbee_runtime::http::{HttpError, Json, require_token};
use rbee_runtime::token::Token;
use serde::de::DeserializeOwned;

pub use reports::Records;

use crate::activity::Activity;
use crate::events::Events;
use crate::gateway::UsageBook;
use crate::hives::LocalHive;
use crate::metrics::Metrics;
use crate::once::note_key;
use crate::registry::Registry;
use crate::reload::Reloads;
use crate::stopping::Stopping;
use crate::upgrade::Upgrader;

/// What the handlers know.
#[derive(Debug, Clone)]
pub struct Api {
    /// The fleet.
    pub registry: Registry,
    /// This machine's hive, if queen keeps it.
    pub local_hive: Option<LocalHive>,
    /// How queen is stopped.
    pub stopping: Stopping,
    /// The fleet's token.
    pub token: Token,
    /// Calls hives.
    pub http: reqwest::Client,
    /// Numbers.
    pub metrics: Arc<Metrics>,
    /// About this process.
    pub about: Arc<About>,
    /// Has another process take over.
    pub upgrader: Upgrader,
    /// Reads the configuration anew.
    pub reloads: Reloads,
    /// What workers have in flight.
    pub activity: Arc<Activity>,
    /// What API keys have used.
    pub usage: UsageBook,
    /// What happens.
    pub events: Events,
    /// What queen has kept of the past.
    pub records: Records,
    /// Her samples, events and requests of the past.
    pub history: History,
    /// What this process uses.
    pub own: OwnUsage,
}

/// About this process.
#[derive(Debug)]
pub struct About {
    /// Where it listens.
    pub url: String,
    /// When it started.
    pub started: Instant,
    /// Times it was started again after a crash.
    pub restarts: u32,
}

/// All routes of the control API; the token is asked for where it must be.
pub fn router(api: Api) -> Router {
    let token = api.token.clone();
    let open = Router::new().route("/health", get(health)).route("/metrics", get(metrics));
    let protected = Router::new()
        .route("/api/v1/status", get(status::status))
        .route("/api/v1/workers/{name}/logs", get(logs::logs))
        .route("/api/v1/workers/{name}/scale", post(workers::scale))
        .route("/api/v1/workers/{name}/why", get(why::why))
        .route("/api/v1/workers/{name}/{verb}", post(workers::verb))
        .route("/api/v1/hives/{name}/heartbeat", post(hives::heartbeat))
        .route("/api/v1/hives/{name}/assignment", get(hives::assignment))
        .route("/api/v1/upgrade", post(upgrade))
        .route("/api/v1/hives/{name}/upgrade", post(hives::upgrade))
        .route("/api/v1/hives/{name}/drain", post(upkeep::drain))
        .route("/api/v1/hives/{name}/undrain", post(upkeep::undrain))
        .route("/api/v1/reload", post(upkeep::reload))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/usage", get(usage::usage))
        .route("/api/v1/reports", get(reports::reports))
        .route("/api/v1/shutdown", post(shutdown))
        .layer(axum::middleware::from_fn(note_key));
    open.with_state(api.clone()).merge(require_token(protected.with_state(api), token))
}

/// Liveness only: this process serves.
async fn health(State(api): State<Api>) -> Json<Health> {
    let busy = api.metrics.activity();
    Json(Health {
        healthy: true,
        last_activity: busy.last_activity,
        queue_depth: busy.queue_depth,
        error_count: busy.error_count,
        cache_hit_rate: None,
    })
}

async fn metrics(State(api): State<Api>) -> Result<([(http::HeaderName, &'static str); 1], String), HttpError> {
    let text = api
        .metrics
        .render(&status::fleet_status(&api))
        .map_err(|error| ApiError::new(ErrorCode::Internal, format!("the metrics could not be written: {error}")))?;
    const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(http::header::CONTENT_TYPE, TEXT)], text))
}

async fn upgrade(State(api): State<Api>, body: Bytes) -> Result<Json<UpgradeReply>, HttpError> {
    let request: UpgradeRequest = parse(&body)?;
    api.refuse_if_ending()?;
    Ok(Json(api.upgrader.upgrade(request.binary).await?))
}

async fn shutdown(State(api): State<Api>, body: Bytes) -> Result<StatusCode, HttpError> {
    let request: ShutdownRequest = parse(&body)?;
    api.stopping.ask(request.keep_children, request.now);
    Ok(StatusCode::ACCEPTED)
}

impl Api {
    /// Nothing new is begun by a queen that is asked to end.
    fn refuse_if_ending(&self) -> Result<(), ApiError> {
        if self.stopping.is_draining() {
            return Err(ApiError::new(ErrorCode::ShuttingDown, "queen is about to end"));
        }
        Ok(())
    }
}

/// A body, where none means the defaults.
fn parse<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, ApiError> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(T::default());
    }
    serde_json::from_slice(body)
        .map_err(|error| ApiError::new(ErrorCode::InvalidRequest, format!("the body is not as expected: {error}")))
}
