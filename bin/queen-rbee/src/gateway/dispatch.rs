//! From a request to an answer: choose, ask, ask another, wait.
//!
//! ```text
//!   pick ──one is open──▶ ask ──answer──▶ relay
//!    ▲ │                   │ no connection, 503, ended: cut, again
//!    │ └none─▶ hold ◀──────┤ 429: another, else pass it on
//!    └─ registry changed,  │ died before a byte passed: once again, then 502
//!       a cut is over      ▼
//!                     unknown model 404, all down 503, queue full 429, deadline 503
//! ```

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use rbee_api::{ApiError, ErrorCode};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::picker::{InFlight, Pick};
use super::relay::Relay;
use super::upstream::{Answer, AnswerBody, Outcome, Question};
use super::{Gateway, Tracked};
use crate::fleet::View;
use crate::orders::suggest;
use crate::routes::{Endpoint, Outlook, Route};

/// Deaths of workers a request may cause or meet before a byte has passed: a request that kills workers must not
/// kill them all.
const DEATHS_MAX: u32 = 2;
/// What `Retry-After` says.
const RETRY_AFTER_S: u32 = 5;

/// One request on its way.
pub(super) struct Dispatch<'g> {
    gateway: &'g Gateway,
    model: &'g str,
    question: Question,
    views: watch::Receiver<Arc<View>>,
    started: Instant,
    deaths: u32,
    full: Vec<Endpoint>,
    full_answer: Option<Answer>,
    place_in_queue: Option<OwnedSemaphorePermit>,
}

impl<'g> Dispatch<'g> {
    pub(super) fn new(gateway: &'g Gateway, model: &'g str, question: Question) -> Self {
        Self {
            gateway,
            model,
            question,
            views: gateway.registry.views(),
            started: Instant::now(),
            deaths: 0,
            full: Vec::new(),
            full_answer: None,
            place_in_queue: None,
        }
    }

    /// Until there is an answer. Dropped when the client goes away, at any point.
    pub(super) async fn run(mut self, tracked: Tracked) -> Result<Response, ApiError> {
        loop {
            let view = Arc::clone(&self.views.borrow_and_update());
            let route = route(&view, self.model)?;
            match self.gateway.picker.pick(&route.endpoints, &self.full, Instant::now()) {
                Pick::Ready(in_flight) => {
                    self.place_in_queue = None;
                    let outcome = ask(self.gateway, self.views.clone(), in_flight.endpoint(), &self.question).await;
                    if let Some(answer) = self.judge(&in_flight, outcome)? {
                        return Ok(self.pass_on(answer, in_flight, tracked));
                    }
                }
                Pick::None { opens_at } => {
                    if let Some(answer) = self.full_answer.take() {
                        return Ok(whole_response(answer));
                    }
                    self.hold(route, opens_at).await?;
                }
            }
        }
    }

    fn judge(&mut self, in_flight: &InFlight, outcome: Option<Outcome>) -> Result<Option<Answer>, ApiError> {
        let endpoint = in_flight.endpoint();
        let (kind, died) = match outcome {
            Some(Outcome::Answer(answer)) => {
                self.gateway.picker.answered(endpoint);
                self.gateway.metrics.first_byte(self.model, self.started.elapsed());
                return Ok(Some(answer));
            }
            Some(Outcome::Busy(answer)) => {
                self.full.push(endpoint.clone());
                self.full_answer = Some(answer);
                return Ok(None);
            }
            Some(Outcome::Unready) => ("unready", None),
            Some(Outcome::NoConnection(error)) => {
                tracing::debug!(replica = %endpoint.id, error = &error as &dyn std::error::Error, "no connection");
                ("connect", None)
            }
            None => ("ended", None),
            Some(Outcome::Died(error)) => {
                tracing::warn!(replica = %endpoint.id, error = &error as &dyn std::error::Error, "broke before its answer");
                ("died", Some("its connection broke"))
            }
            Some(Outcome::Silent) => ("silent", Some("it was silent for too long")),
        };
        self.gateway.metrics.upstream_failure(kind);
        self.gateway.picker.failed(endpoint, Instant::now());
        self.deaths += u32::from(died.is_some());
        match died {
            Some(why) if self.deaths >= DEATHS_MAX || kind == "silent" => {
                let message = format!("worker {} did not answer: {why}", endpoint.id);
                Err(ApiError::new(ErrorCode::UpstreamBroken, message))
            }
            _ => Ok(None),
        }
    }

    /// Waits until something has changed.
    async fn hold(&mut self, route: &Route, opens_at: Option<Instant>) -> Result<(), ApiError> {
        let gateway = self.gateway;
        if let (Outlook::Down { reason }, None) = (&route.outlook, opens_at) {
            let message = format!("model `{}` cannot be served: {reason}", self.model);
            return Err(ApiError::new(ErrorCode::Unavailable, message).with_retry_after_s(RETRY_AFTER_S));
        }
        if self.place_in_queue.is_none() {
            let place = Arc::clone(&gateway.queue).try_acquire_owned().map_err(|_| {
                let message = format!("{} requests wait for a worker already", gateway.limits.max_queue);
                ApiError::new(ErrorCode::QueueFull, message).with_retry_after_s(RETRY_AFTER_S)
            })?;
            self.place_in_queue = Some(place);
        }
        let deadline = self.started + gateway.limits.queue_timeout;
        let until = opens_at.map_or(deadline, |opens_at| opens_at.min(deadline));
        tokio::select! {
            biased;
            () = gateway.stopping.draining() => Err(shutting_down()),
            changed = self.views.changed() => changed.map_err(|_| shutting_down()),
            () = tokio::time::sleep_until(until.into()) => {
                if Instant::now() < deadline {
                    return Ok(());
                }
                let waited_s = gateway.limits.queue_timeout.as_secs();
                let message = format!("no worker of model `{}` was ready within {waited_s} s", self.model);
                Err(ApiError::new(ErrorCode::Unavailable, message).with_retry_after_s(RETRY_AFTER_S))
            }
        }
    }

    fn pass_on(self, answer: Answer, in_flight: InFlight, tracked: Tracked) -> Response {
        let Answer { status, headers, body } = answer;
        let (first, rest, events) = match body {
            AnswerBody::Whole(bytes) => return (status, headers, bytes).into_response(),
            AnswerBody::Flowing { first, rest, events } => (first, rest, events),
        };
        let metrics = Arc::clone(&self.gateway.metrics);
        let relay = Relay {
            first: Some(first),
            rest,
            in_flight,
            tracked,
            stall_timeout: self.gateway.limits.stall_timeout,
            stopping: self.gateway.stopping.clone(),
            on_break: Box::new(move |_| metrics.upstream_failure("broke_in_answer")),
            correlation_id: self.question.correlation_id,
        };
        let body: Body = if events { relay.into_events() } else { relay.into_bytes() };
        (status, headers, body).into_response()
    }
}

/// Asks one worker. `None`: its process is known to have ended while it had our connection, nobody has begun to answer.
async fn ask(
    gateway: &Gateway,
    mut views: watch::Receiver<Arc<View>>,
    endpoint: &Endpoint,
    question: &Question,
) -> Option<Outcome> {
    let ended = async {
        // A listening socket outlives its worker: a connection made meanwhile waits for the next one, or for ever.
        while !views.borrow_and_update().is_gone(endpoint) {
            if views.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        biased;
        outcome = gateway.upstream.ask(endpoint, question) => Some(outcome),
        () = ended => None,
    }
}

fn whole_response(answer: Answer) -> Response {
    let body = match answer.body {
        AnswerBody::Whole(bytes) => Body::from(bytes),
        // A refusal of such a size is not worth keeping a worker busy for.
        AnswerBody::Flowing { first, .. } => Body::from(first),
    };
    (answer.status, answer.headers, body).into_response()
}

/// The route of a model.
fn route<'v>(view: &'v View, model: &str) -> Result<&'v Route, ApiError> {
    view.routes.models.get(model).ok_or_else(|| {
        let message = format!("there is no model `{model}`{}", suggest(model, view.routes.models.keys()));
        ApiError::new(ErrorCode::ModelNotFound, message).with_param("model")
    })
}

/// The answer of a queen that is on her way out.
pub(super) fn shutting_down() -> ApiError {
    ApiError::new(ErrorCode::ShuttingDown, "queen is about to end").with_retry_after_s(RETRY_AFTER_S)
}
