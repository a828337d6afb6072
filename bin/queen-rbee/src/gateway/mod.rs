//! The OpenAI-compatible gateway, `/v1/`: routes to workers and streams their answers through.

mod dispatch;
mod picker;
mod relay;
mod request;
mod sse;
mod upstream;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use rbee_api::openai::{Model, ModelList};
use rbee_api::{ApiError, ErrorCode};
use rbee_runtime::http::{HttpError, Json, current_correlation_id};
use rbee_runtime::token::Token;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::metrics::{InFlightGauge, Metrics};
use crate::orders::suggest;
use crate::registry::Registry;
use crate::stopping::Stopping;
use dispatch::Dispatch;
use picker::Picker;
use upstream::{Question, Upstream};

/// How long a worker may take to begin an answer; one without a stream begins when it is complete.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3600);

/// The gateway's bounds.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest request body, in bytes.
    pub body_bytes_max: usize,
    /// Requests that may wait for a worker.
    pub max_queue: u32,
    /// How long each of them may wait.
    pub queue_timeout: Duration,
    /// How long a worker may be silent within an answer.
    pub stall_timeout: Duration,
}

/// What the handlers share.
#[derive(Debug, Clone)]
pub struct Gateway {
    registry: Registry,
    stopping: Stopping,
    metrics: Arc<Metrics>,
    limits: Limits,
    upstream: Upstream,
    picker: Arc<Picker>,
    queue: Arc<Semaphore>,
    in_flight: TaskTracker,
    started_s: i64,
}

/// A request that is not answered to its end: queen waits for it when she drains, and it is in the metrics.
struct Tracked {
    _token: TaskTrackerToken,
    _gauge: InFlightGauge,
}

impl Gateway {
    /// A gateway to the workers that `registry` knows.
    #[must_use]
    pub fn new(
        registry: Registry,
        stopping: Stopping,
        metrics: Arc<Metrics>,
        limits: Limits,
        http: reqwest::Client,
        token: Token,
    ) -> Self {
        let upstream = Upstream { http, token, stall_timeout: limits.stall_timeout, answer_timeout: ANSWER_TIMEOUT };
        let queue = Arc::new(Semaphore::new(limits.max_queue as usize));
        metrics.watch_queue(Arc::clone(&queue), limits.max_queue);
        Self {
            registry,
            stopping,
            metrics,
            limits,
            upstream,
            picker: Arc::default(),
            queue,
            in_flight: TaskTracker::new(),
            started_s: jiff::Timestamp::now().as_second(),
        }
    }

    /// The routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/v1/models", get(models))
            .route("/v1/models/{*id}", get(model))
            .route("/v1/chat/completions", post(chat_completions))
            .route("/v1/completions", post(completions))
            .route("/v1/embeddings", post(embeddings))
            .with_state(self)
    }

    /// Resolves when no request is in flight; new ones must be refused by then.
    pub async fn drained(&self) {
        self.in_flight.close();
        self.in_flight.wait().await;
    }
}

async fn models(State(gateway): State<Gateway>) -> Json<ModelList> {
    let view = gateway.registry.view();
    let models = view.routes.models.keys().map(|name| Model::new(name, gateway.started_s));
    Json(ModelList::new(models.collect()))
}

async fn model(State(gateway): State<Gateway>, Path(id): Path<String>) -> Result<Json<Model>, HttpError> {
    let view = gateway.registry.view();
    if view.routes.models.contains_key(&id) {
        return Ok(Json(Model::new(id, gateway.started_s)));
    }
    let message = format!("there is no model `{id}`{}", suggest(&id, view.routes.models.keys()));
    Err(ApiError::new(ErrorCode::ModelNotFound, message).with_param("model").into())
}

async fn chat_completions(State(gateway): State<Gateway>, request: Request) -> Response {
    serve(&gateway, "/v1/chat/completions", request).await
}

async fn completions(State(gateway): State<Gateway>, request: Request) -> Response {
    serve(&gateway, "/v1/completions", request).await
}

async fn embeddings(State(gateway): State<Gateway>, request: Request) -> Response {
    serve(&gateway, "/v1/embeddings", request).await
}

async fn serve(gateway: &Gateway, path: &'static str, request: Request) -> Response {
    let mut model = None;
    let response = match answer(gateway, path, request, &mut model).await {
        Ok(response) => response,
        Err(error) => HttpError(error).into_response(),
    };
    gateway.metrics.answered(model.as_deref(), response.status());
    response
}

/// `model` is told once it is known to be one of ours: names that clients make up must not become labels.
async fn answer(
    gateway: &Gateway,
    path: &'static str,
    request: Request,
    model: &mut Option<String>,
) -> Result<Response, ApiError> {
    // Counted before the look: what drains after it sees this request.
    let tracked = Tracked { _token: gateway.in_flight.token(), _gauge: gateway.metrics.in_flight() };
    if gateway.stopping.is_draining() {
        return Err(dispatch::shutting_down());
    }
    let (parts, body) = request.into_parts();
    let body = request::read_body(&parts.headers, body, gateway.limits.body_bytes_max).await?;
    let asked = request::peek(&body)?;
    if gateway.registry.view().routes.models.contains_key(&asked.model) {
        *model = Some(asked.model.clone());
    }
    tracing::debug!(model = asked.model, stream = asked.stream, "asked");
    let question = Question {
        path,
        headers: upstream::for_the_worker(&parts.headers),
        body,
        correlation_id: current_correlation_id().unwrap_or_default(),
    };
    Dispatch::new(gateway, &asked.model, question).run(tracked).await
}
