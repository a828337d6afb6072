//! The OpenAI-compatible gateway, `/v1/`: routes to workers and streams their answers through.
//!
//! ```text
//!   request ─▶ dispatch ─▶ lanes (whose turn) ─▶ picker (which worker) ─▶ upstream ─┐
//!                  ▲                                ▲ prefix (where it is warm)     ▼
//!                  │ goes on elsewhere              │ routes (of the registry)    answer
//!   client ◀──── relay ◀─── stream: whole blocks, what was said so far (resume) ◀───┘
//! ```

mod dispatch;
mod events;
mod http1;
mod keys;
mod lanes;
mod limits;
mod links;
mod models;
mod picker;
mod pieces;
mod prefix;
mod relay;
mod request;
mod resume;
mod sse;
mod stream;
mod tally;
mod upstream;
mod usage;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::stream::unfold;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use rbee_api::{ApiError, ErrorCode};
use rbee_runtime::http::{HttpError, current_correlation_id};
use rbee_runtime::token::Token;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

pub use keys::{KeyError, Keys};
pub use limits::{Limits, connection_limits};
pub use tally::Tallies;
pub use usage::UsageBook;

use crate::activity::Activity;
use crate::metrics::{InFlightGauge, Metrics};
use crate::registry::Registry;
use crate::stopping::Stopping;
use dispatch::{Begun, Dispatch, Wanted};
use keys::Caller;
use lanes::Lanes;
use picker::{InFlight, Picker};
use pieces::Pieces;
use prefix::Warm;
use relay::{Next, Relay};
use request::Path;
use resume::Progress;
use tally::Ledger;
use upstream::{Answer, AnswerBody, Upstream};

/// How long a request that is still being written has when queen ends.
const LATE_BODY: Duration = Duration::from_secs(2);

/// What the gateway works with.
#[derive(Debug)]
pub struct Parts {
    /// Knows where workers are.
    pub registry: Registry,
    /// How queen is stopped.
    pub stopping: Stopping,
    /// Numbers.
    pub metrics: Arc<Metrics>,
    /// Is told what is in flight where.
    pub activity: Arc<Activity>,
    /// For our own engines, and for those who may ask for everything.
    pub token: Token,
    /// Is told what each key uses.
    pub usage: UsageBook,
    /// Is told how the requests for each model go.
    pub tallies: Tallies,
    /// Whether anybody may ask as long as there are no keys.
    pub open: bool,
}

/// From the configuration.
#[derive(Debug)]
struct Settings {
    limits: Limits,
    keys: Keys,
}

/// What the handlers share.
#[derive(Debug, Clone)]
pub struct Gateway {
    shared: Arc<Shared>,
}

/// The gateway's inside.
#[derive(Debug)]
pub struct Shared {
    registry: Registry,
    stopping: Stopping,
    metrics: Arc<Metrics>,
    settings: Arc<Settings>,
    token: Token,
    open: bool,
    usage: UsageBook,
    tallies: Tallies,
    upstream: Upstream,
    picker: Arc<Picker>,
    lanes: Arc<Lanes>,
    warm: Warm,
    in_flight: TaskTracker,
    started_s: i64,
}

impl std::ops::Deref for Gateway {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

/// A request that is not answered to its end: queen waits for it when she drains, and it is in the metrics.
struct Tracked {
    _token: TaskTrackerToken,
    _gauge: InFlightGauge,
}

impl Gateway {
    /// A gateway to the workers that the registry knows.
    #[must_use]
    pub fn new(parts: Parts, limits: Limits, keys: Keys) -> Self {
        let lanes = Arc::new(Lanes::new(limits.max_queue));
        let depths = Arc::clone(&lanes);
        parts.metrics.watch_queue(move || depths.depths());
        let shared = Shared {
            upstream: Upstream::new(&parts.token),
            picker: Arc::new(Picker::new(parts.activity)),
            registry: parts.registry,
            stopping: parts.stopping,
            metrics: parts.metrics,
            settings: Arc::new(Settings { limits, keys }),
            token: parts.token,
            open: parts.open,
            usage: parts.usage,
            tallies: parts.tallies,
            lanes,
            warm: Warm::default(),
            in_flight: TaskTracker::new(),
            started_s: jiff::Timestamp::now().as_second(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/v1/models", get(models::list))
            .route("/v1/models/{*id}", get(models::one))
            .route("/v1/chat/completions", post(chat_completions))
            .route("/v1/completions", post(completions))
            .route("/v1/embeddings", post(embeddings))
            .with_state(self)
    }

    /// What each key has used.
    #[must_use]
    pub fn usage(&self) -> &UsageBook {
        &self.usage
    }

    /// How the requests for each model go.
    #[must_use]
    pub fn tallies(&self) -> &Tallies {
        &self.tallies
    }

    fn caller(&self, headers: &HeaderMap) -> Result<Caller, ApiError> {
        self.settings.keys.caller(headers, &self.token, self.open)
    }

    /// Resolves when no request is in flight; new ones must be refused by then.
    pub async fn drained(&self) {
        self.in_flight.close();
        self.in_flight.wait().await;
    }
}

fn refusal(error: ApiError) -> Response {
    let unauthorized = error.code == ErrorCode::Unauthorized;
    let mut response = HttpError(error).into_response();
    if unauthorized {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

async fn chat_completions(State(gateway): State<Gateway>, request: Request) -> Response {
    serve(&gateway, Path::Chat, request).await
}

async fn completions(State(gateway): State<Gateway>, request: Request) -> Response {
    serve(&gateway, Path::Completions, request).await
}

async fn embeddings(State(gateway): State<Gateway>, request: Request) -> Response {
    serve(&gateway, Path::Embeddings, request).await
}

async fn serve(gateway: &Gateway, path: Path, request: Request) -> Response {
    let mut model = None;
    let response = match answer(gateway, path, request, &mut model).await {
        Ok(response) => response,
        Err(error) => refusal(error),
    };
    gateway.metrics.answered(model.as_deref(), response.status());
    response
}

/// `model` is told once it is known to be one of ours: names that clients make up must not become labels.
async fn answer(
    gateway: &Gateway,
    path: Path,
    request: Request,
    model: &mut Option<String>,
) -> Result<Response, ApiError> {
    // Counted before the look: what drains after it sees this request.
    let tracked = Tracked { _token: gateway.in_flight.token(), _gauge: gateway.metrics.in_flight() };
    if gateway.stopping.is_draining() {
        return Err(dispatch::shutting_down());
    }
    let arrived = Instant::now();
    let settings = Arc::clone(&gateway.settings);
    let limits = &settings.limits;
    let (parts, body) = request.into_parts();
    let caller = gateway.caller(&parts.headers)?;
    let body = request::read_body(&parts.headers, body, limits.body_bytes_max, limits.body_timeout);
    // Not the time of those who wait for an answer: half a request that never ends must not hold up queen's end.
    let too_late = async {
        gateway.stopping.draining().await;
        tokio::time::sleep(LATE_BODY).await;
    };
    let body = tokio::select! {
        biased;
        body = body => body?,
        () = too_late => return Err(dispatch::shutting_down()),
    };
    let asked = request::peek(path, &body, caller.key.is_some())?;
    models::known(gateway, &caller, &asked.model)?;
    *model = Some(asked.model.clone());
    tracing::debug!(model = asked.model, stream = asked.stream, "asked");
    let wanted = Arc::new(Wanted {
        path,
        headers: upstream::for_the_worker(&parts.headers),
        body,
        asked,
        correlation_id: current_correlation_id().unwrap_or_default(),
        arrived,
    });
    let account = caller.key.map(|key| gateway.usage.account(&key.name, &wanted.asked.model));
    let ledger = gateway.tallies.ledger(&wanted.asked.model, arrived, account);
    match wanted.asked.stream && path != Path::Embeddings {
        true => stream(gateway, settings, wanted, ledger, tracked).await,
        false => whole(gateway, settings, wanted, ledger, tracked).await,
    }
}

/// An answer in one piece. Nothing of it has been sent before it is there, so it can always be asked for again.
async fn whole(
    gateway: &Gateway,
    settings: Arc<Settings>,
    wanted: Arc<Wanted>,
    mut ledger: Ledger,
    tracked: Tracked,
) -> Result<Response, ApiError> {
    let own_body = wanted.asked.own.as_ref().map(|own| own.at(&Progress::default()));
    let dispatch = Dispatch::new(gateway.clone(), settings, wanted, own_body, false, 0);
    let begun = dispatch.run().await;
    match &begun {
        Ok(Begun { answer, .. }) if answer.status.is_success() => {
            answer.usage().into_iter().for_each(|usage| ledger.used(usage));
            ledger.done();
        }
        _ => ledger.failed(),
    }
    let Begun { answer, in_flight, .. } = begun?;
    Ok(pass_on(answer, in_flight, tracked))
}

fn pass_on(answer: Answer, in_flight: InFlight, tracked: Tracked) -> Response {
    let Answer { status, headers, body } = answer;
    let body = match body {
        AnswerBody::Whole(bytes) => Body::from(bytes),
        AnswerBody::Large(first, rest) if status.is_success() => large(Some(first), rest, (in_flight, tracked)),
        // Nobody asked for one.
        AnswerBody::Events(rest) => large(None, rest, (in_flight, tracked)),
        refusal => refusal.into_refusal(),
    };
    (status, headers, body).into_response()
}

/// What is too large to be kept: where it breaks, so does the client's connection.
fn large(first: Option<Bytes>, rest: Pieces, held: (InFlight, Tracked)) -> Body {
    Body::from_stream(unfold(Some((first, rest, held)), |state| async move {
        let (first, mut rest, held) = state?;
        if let Some(first) = first {
            return Some((Ok(first), Some((None, rest, held))));
        }
        match rest.next().await? {
            Ok(piece) => Some((Ok(piece), Some((None, rest, held)))),
            Err(error) => Some((Err(error), None)),
        }
    }))
}

/// A stream of events. Until something passes, what goes wrong still has its status.
async fn stream(
    gateway: &Gateway,
    settings: Arc<Settings>,
    wanted: Arc<Wanted>,
    ledger: Ledger,
    tracked: Tracked,
) -> Result<Response, ApiError> {
    let mut relay = Relay::new(gateway.clone(), settings, wanted, ledger);
    let first = match relay.next().await {
        Next::Pass(first) => first,
        Next::Failed(error) => return Err(error),
        Next::Other(other) => {
            let (answer, in_flight) = *other;
            return Ok(pass_on(answer, in_flight, tracked));
        }
        Next::End => Bytes::new(),
    };
    let headers = relay.headers.take().unwrap_or_else(event_headers);
    let body = Body::from_stream(unfold(Some((Some(first), relay, tracked)), |state| async move {
        let (first, mut relay, tracked) = state?;
        if let Some(first) = first {
            return Some((Ok::<_, io::Error>(first), Some((None, relay, tracked))));
        }
        match relay.next().await {
            Next::Pass(bytes) => Some((Ok(bytes), Some((None, relay, tracked)))),
            Next::Failed(error) => Some((Ok(relay.error_event(&error)), None)),
            Next::Other(other) => Some((Ok(relay.refusal_event(&other.0)), None)),
            Next::End => None,
        }
    }));
    Ok((StatusCode::OK, headers, body).into_response())
}

/// Of a stream that no worker has begun yet.
fn event_headers() -> HeaderMap {
    // Proxies of the nginx kind would otherwise gather the events.
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-cache"),
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    headers.into_iter().map(|(name, value)| (name, HeaderValue::from_static(value))).collect()
}
