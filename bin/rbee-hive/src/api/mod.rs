//! The hive's control API (the table in `rbee_api::control`), `/health` and `/metrics`.

mod events;
mod logs;
mod metrics;
mod reload;
mod reports;
mod upgrade;
mod verbs;
mod why;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use monitoring::{History, Sampler};
use rbee_api::{ApiError, ErrorCode, FleetStatus, Health, HiveStatus, Phase, ShutdownRequest, WorkerStatus};
use rbee_runtime::http::{AllowedHosts, finish, require_token};
use rbee_runtime::shutdown::Shutdown;
use rbee_runtime::token::Token;
use tokio::sync::{Mutex as AsyncMutex, mpsc};

use crate::events::Events;
use crate::orders::Orders;
use crate::pool::Pool;
use crate::source::{Source, StartedWith};
use crate::upgrade::Upgrades;

/// Who decides what this hive runs.
#[derive(Debug)]
pub enum Owner {
    /// Nobody else: verbs change our own orders. The lock makes one verb after the other.
    Itself(AsyncMutex<Orders>),
    /// Queen, at this URL.
    Queen(String),
}

/// What the handlers share.
#[derive(Debug)]
pub struct Api {
    /// Name of the hive.
    pub name: String,
    /// Where it can be reached.
    pub url: String,
    /// When the process started.
    pub started: Instant,
    /// Who gives orders.
    pub owner: Owner,
    /// The workers.
    pub pool: Pool,
    /// Memory and processor share.
    pub sampler: Arc<Mutex<Sampler>>,
    /// Samples and events of the past.
    pub history: History,
    /// Samples taken since the start.
    pub samples: Arc<AtomicU64>,
    /// What happens here.
    pub events: Events,
    /// Where `shutdown` requests go.
    pub shutdowns: mpsc::Sender<ShutdownRequest>,
    /// When streams shall end.
    pub shutdown: Shutdown,
    /// Where the configuration is read again.
    pub source: Source,
    /// Upgrades of this hive.
    pub upgrades: Upgrades,
    /// What the configuration said when we started.
    pub started_with: StartedWith,
}

/// The whole API behind its layers.
pub fn router(api: Arc<Api>, token: Token, hosts: AllowedHosts, body_bytes_max: usize) -> Router {
    let protected = Router::new()
        .route("/api/v1/status", get(status))
        .route("/api/v1/workers/{name}/scale", post(verbs::scale))
        .route("/api/v1/workers/{name}/logs", get(logs::logs))
        .route("/api/v1/workers/{name}/why", get(why::why))
        .route("/api/v1/workers/{name}/{verb}", post(verbs::verb))
        .route("/api/v1/events", get(events::events))
        .route("/api/v1/reports", get(reports::reports))
        .route("/api/v1/reload", post(reload::reload))
        .route("/api/v1/hives/{name}/upgrade", post(upgrade::begin).get(upgrade::outcome))
        .route("/api/v1/shutdown", post(shutdown))
        .route("/metrics", get(metrics::metrics))
        .with_state(api);
    let open = Router::new().route("/health", get(health));
    finish(open.merge(require_token(protected, token)), hosts, body_bytes_max)
}

impl Api {
    /// All workers, sampled now.
    fn workers(&self) -> Vec<WorkerStatus> {
        let mut workers = self.pool.view().borrow().statuses();
        self.sampler().fill(&mut workers);
        workers
    }

    fn sampler(&self) -> MutexGuard<'_, Sampler> {
        self.sampler.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hive_status(&self) -> HiveStatus {
        let (stopping, generation) = {
            let view = self.pool.view();
            let view = view.borrow();
            (view.stopping, view.generation)
        };
        // Its own statement: the guard would live to the end of the value below, which locks it again.
        let usage = self.sampler().learned(std::process::id()).cloned();
        HiveStatus {
            usage,
            history_trouble: self.history.trouble(),
            name: self.name.clone(),
            phase: if stopping { Phase::Stopping } else { Phase::Running },
            pid: Some(std::process::id()),
            url: self.url.clone(),
            generation,
            uptime_s: self.started.elapsed().as_secs_f64(),
            // Whoever supervises us counts.
            restarts: 0,
            reason: None,
            workers: self.workers(),
        }
    }

    /// Refuses a request that means another hive.
    fn check_hive(&self, hive: Option<&str>) -> Result<(), ApiError> {
        match hive {
            Some(hive) if hive != self.name => {
                let message = format!("this is hive `{}`, not `{hive}`", self.name);
                Err(ApiError::new(ErrorCode::HiveNotFound, message).with_param("hive"))
            }
            _ => Ok(()),
        }
    }
}

async fn status(State(api): State<Arc<Api>>) -> Json<FleetStatus> {
    Json(FleetStatus { queen: None, hives: vec![api.hive_status()] })
}

async fn health() -> Json<Health> {
    Json(Health { healthy: true, last_activity: None, queue_depth: 0, error_count: 0, cache_hit_rate: None })
}

async fn shutdown(
    State(api): State<Arc<Api>>,
    body: axum::body::Bytes,
) -> Result<StatusCode, rbee_runtime::http::HttpError> {
    let request: ShutdownRequest = verbs::parse(&body)?;
    // A full queue means that one is under way; a closed one, that it is done.
    let _ = api.shutdowns.try_send(request);
    Ok(StatusCode::ACCEPTED)
}
