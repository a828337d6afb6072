//! From a request to the beginning of an answer: wait for a turn, choose, ask, ask another.
//!
//! ```text
//!   turn ──▶ pick ──one is open──▶ ask ──answer──▶ done
//!             ▲ │                   │ no connection, 503, ended, 429 of ours: cut, again
//!             │ └none─▶ wait ◀──────┤ 429 of others: another, else pass it on
//!             └─ a worker freed,    │ died or silent: again, `attempts_max` times in a row, then 502
//!                the fleet changed, ▼
//!                a cut is over      unknown model 404, all down 503, line full 429, deadline 429 or 503
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use rbee_api::assignment::Engine;
use rbee_api::{ApiError, ErrorCode};
use tokio::sync::watch;

use super::lanes::{Before, Lane, Place, Turn};
use super::picker::{Choice, InFlight, Pick};
use super::request::{Asked, Path};
use super::upstream::{Answer, Outcome, Question};
use super::{Gateway, Settings};
use crate::fleet::View;
use crate::orders::suggest;
use crate::routes::{Endpoint, Outlook, Route};

/// What `Retry-After` says.
const RETRY_AFTER_S: u32 = 5;
/// How long a worker may take to answer what is no stream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3600);

/// One request, for as long as it lives.
pub(super) struct Wanted {
    /// The path.
    pub(super) path: Path,
    /// What the worker may see of the client's headers.
    pub(super) headers: Vec<u8>,
    /// As the client sent it.
    pub(super) body: bytes::Bytes,
    /// What it asks for.
    pub(super) asked: Asked,
    /// Its id.
    pub(super) correlation_id: String,
    /// When it came.
    pub(super) arrived: Instant,
}

/// What a worker has begun.
pub(super) struct Begun {
    /// Its answer.
    pub(super) answer: Answer,
    /// It, for as long as the answer takes.
    pub(super) in_flight: InFlight,
    /// Deaths in a row that this request has met.
    pub(super) deaths: u32,
}

/// One request on its way to a worker.
pub(super) struct Dispatch {
    gateway: Gateway,
    settings: Arc<Settings>,
    wanted: Arc<Wanted>,
    lane: Arc<Lane>,
    views: watch::Receiver<Arc<View>>,
    started: Instant,
    deaths: u32,
    /// For our own engine.
    own_body: Option<bytes::Bytes>,
    /// Its client has seen the beginning: only our own engine can go on with it, and nobody goes first.
    resumes: bool,
    full: Vec<Endpoint>,
    /// Of an engine that is not ours: it may say when to come again.
    full_answer: Option<(Answer, InFlight)>,
    /// An engine of ours has said that it is full.
    busy: bool,
}

/// Where one stands while waiting.
enum Standing {
    New,
    /// Without a place it is the first look, which needs none.
    InLine {
        _place: Option<Place>,
        turn: Option<Turn>,
    },
    Before {
        _before: Before,
    },
}

impl Dispatch {
    /// On behalf of `wanted`, which has met `deaths` in a row; `own_body` goes to our own engines.
    pub(super) fn new(
        gateway: Gateway,
        settings: Arc<Settings>,
        wanted: Arc<Wanted>,
        own_body: Option<bytes::Bytes>,
        resumes: bool,
        deaths: u32,
    ) -> Self {
        Self {
            lane: gateway.lanes.of(&wanted.asked.model),
            views: gateway.registry.views(),
            started: Instant::now(),
            full: Vec::new(),
            full_answer: None,
            busy: false,
            gateway,
            settings,
            wanted,
            own_body,
            resumes,
            deaths,
        }
    }

    /// Until there is an answer. May be dropped at any point.
    pub(super) async fn run(mut self) -> Result<Begun, ApiError> {
        loop {
            let in_flight = match self.find().await? {
                Found::Worker(in_flight) => in_flight,
                Found::Refusal(refusal) => {
                    let (answer, in_flight) = *refusal;
                    return Ok(Begun { answer, in_flight, deaths: self.deaths });
                }
            };
            let outcome = self.ask(in_flight.endpoint()).await;
            if let Some((answer, in_flight)) = self.judge(in_flight, outcome)? {
                return Ok(Begun { answer, in_flight, deaths: self.deaths });
            }
        }
    }

    /// Waits in line for a worker with room.
    async fn find(&mut self) -> Result<Found, ApiError> {
        let lane = Arc::clone(&self.lane);
        let mut standing = match self.resumes {
            true => Standing::Before { _before: lane.before() },
            false => Standing::New,
        };
        loop {
            let freed = lane.until_freed();
            let view = Arc::clone(&self.views.borrow_and_update());
            let route = route(&view, &self.wanted.asked.model)?;
            if let Standing::New = standing {
                standing = Standing::InLine { _place: None, turn: lane.try_turn() };
            }
            let mut blocked = Blocked { opens_at: None, full: !route.endpoints.is_empty() };
            if standing.may_look(&lane) {
                match self.pick(&view, route) {
                    Pick::Ready(in_flight) => return Ok(Found::Worker(in_flight)),
                    Pick::None { opens_at, full } => blocked = Blocked { opens_at, full },
                }
                if let Some(refusal) = self.full_answer.take() {
                    return Ok(Found::Refusal(Box::new(refusal)));
                }
                if route.outlook == Outlook::Unloaded && route.endpoints.is_empty() {
                    // Whoever is first has it loaded; the others find it on its way.
                    if self.gateway.registry.want_loaded(&self.wanted.asked.model).await {
                        continue;
                    }
                    let message = format!("model `{}` is not loaded and cannot be now", self.wanted.asked.model);
                    return Err(ApiError::new(ErrorCode::Unavailable, message).with_retry_after_s(RETRY_AFTER_S));
                }
                if let (Outlook::Down { reason }, None, false) = (&route.outlook, blocked.opens_at, blocked.full) {
                    let message = format!("model `{}` cannot be served: {reason}", self.wanted.asked.model);
                    return Err(ApiError::new(ErrorCode::Unavailable, message).with_retry_after_s(RETRY_AFTER_S));
                }
            }
            if let Standing::InLine { _place: place @ None, .. } = &mut standing {
                *place = Some(lane.place().ok_or_else(|| {
                    let max = self.settings.limits.max_queue;
                    let message = format!("{max} requests wait for a worker of this model already");
                    ApiError::new(ErrorCode::QueueFull, message).with_retry_after_s(RETRY_AFTER_S)
                })?);
            }
            self.wait(&lane, freed, &view, &mut standing, &blocked).await?;
        }
    }

    fn pick(&self, view: &View, route: &Route) -> Pick {
        let warm = self.gateway.warm.find(&self.wanted.asked.beginnings);
        let room = |endpoint: &Endpoint| match view.wishes.get(&endpoint.id.name)?.spec.engine {
            Engine::Llm { slots, .. } if endpoint.own_engine => Some(slots as usize),
            _ => None,
        };
        let choice = Choice {
            endpoints: &route.endpoints,
            own_only: self.resumes,
            excluded: &self.full,
            warm: warm.as_ref(),
            room: &room,
        };
        self.gateway.picker.pick(&choice, &self.lane, Instant::now())
    }

    /// Until something has changed, or for so long as it may take.
    async fn wait(
        &mut self,
        lane: &Lane,
        freed: tokio::sync::futures::Notified<'_>,
        view: &View,
        standing: &mut Standing,
        blocked: &Blocked,
    ) -> Result<(), ApiError> {
        let gateway = &self.gateway;
        let model = &self.wanted.asked.model;
        // A start takes the longer the larger the model is.
        let loading = view.routes.models.get(model).map(|route| route.start_timeout).unwrap_or_default();
        let patience = self.settings.limits.queue_timeout + loading;
        let deadline = self.started + patience;
        let until = blocked.opens_at.map_or(deadline, |opens_at| opens_at.min(deadline));
        let looks = standing.may_look(lane);
        let next_turn = async {
            match standing {
                Standing::InLine { turn: turn @ None, .. } => *turn = Some(lane.turn().await),
                _ => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            // An answer that has begun is still brought to its end.
            () = gateway.stopping.draining(), if !self.resumes => Err(shutting_down()),
            changed = self.views.changed(), if looks => changed.map_err(|_| shutting_down()),
            () = freed => Ok(()),
            () = next_turn => Ok(()),
            () = tokio::time::sleep_until(until.into()) => {
                if Instant::now() < deadline {
                    return Ok(());
                }
                let waited_s = patience.as_secs();
                let error = match blocked.full || self.busy {
                    true => ApiError::new(
                        ErrorCode::QueueFull,
                        format!("no worker of model `{model}` was free within {waited_s} s"),
                    ),
                    false => ApiError::new(
                        ErrorCode::Unavailable,
                        format!("no worker of model `{model}` was ready within {waited_s} s"),
                    ),
                };
                Err(error.with_retry_after_s(RETRY_AFTER_S))
            }
        }
    }

    /// Asks one worker. `None`: its process is known to have ended while it had our connection, nobody has begun to
    /// answer.
    async fn ask(&self, endpoint: &Endpoint) -> Option<Outcome> {
        let mut views = self.views.clone();
        let ended = async {
            // A listening socket outlives its worker: a connection made meanwhile waits for the next one, or for ever.
            while !views.borrow_and_update().is_gone(endpoint) {
                if views.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        let own = self.own_body.as_ref().filter(|_| endpoint.own_engine);
        let resumable = own.is_some() && self.wanted.asked.stream;
        let question = Question {
            path: self.wanted.path.as_str(),
            headers: &self.wanted.headers,
            body: own.unwrap_or(&self.wanted.body).clone(),
            correlation_id: &self.wanted.correlation_id,
            resumable,
            // An engine of ours that is asked for a stream says something at least once a second.
            patience: if resumable { self.settings.limits.stall_timeout } else { ANSWER_TIMEOUT },
        };
        tokio::select! {
            biased;
            outcome = self.gateway.upstream.ask(endpoint, &question) => Some(outcome),
            () = ended => None,
        }
    }

    fn judge(&mut self, in_flight: InFlight, outcome: Option<Outcome>) -> Result<Option<(Answer, InFlight)>, ApiError> {
        let endpoint = in_flight.endpoint();
        let (kind, died) = match outcome {
            Some(Outcome::Answer(answer)) => {
                self.gateway.picker.answered(endpoint);
                self.gateway.warm.served(&self.wanted.asked.beginnings, &endpoint.id);
                self.gateway.metrics.first_byte(&self.wanted.asked.model, self.wanted.arrived.elapsed());
                return Ok(Some((answer, in_flight)));
            }
            Some(Outcome::Busy(answer)) if !endpoint.own_engine => {
                self.full.push(endpoint.clone());
                self.full_answer = Some((answer, in_flight));
                return Ok(None);
            }
            Some(Outcome::Busy(_)) => {
                self.busy = true;
                ("busy", None)
            }
            Some(Outcome::Unready) => ("unready", None),
            Some(Outcome::NoConnection(error)) => {
                tracing::debug!(replica = %endpoint.id, %error, "no connection");
                ("connect", None)
            }
            None => ("ended", None),
            Some(Outcome::Died(error)) => {
                tracing::warn!(replica = %endpoint.id, %error, "broke before its answer");
                ("died", Some("its connection broke"))
            }
            Some(Outcome::Silent) => ("silent", Some("it was silent for too long")),
        };
        self.gateway.metrics.upstream_failure(kind);
        let silent = kind == "silent";
        match silent {
            true => self.gateway.picker.silent(endpoint, Instant::now()),
            false => self.gateway.picker.failed(endpoint, Instant::now()),
        }
        self.deaths += u32::from(died.is_some());
        // What was silent for the whole time that an answer may take is not asked for again.
        let hopeless = silent && !(self.wanted.asked.stream && endpoint.own_engine);
        match died {
            Some(why) if self.deaths >= self.settings.limits.attempts_max || hopeless => {
                let message = format!("worker {} did not answer: {why}", endpoint.id);
                Err(ApiError::new(ErrorCode::UpstreamBroken, message))
            }
            _ => Ok(None),
        }
    }
}

enum Found {
    Worker(InFlight),
    Refusal(Box<(Answer, InFlight)>),
}

/// Why no worker was found.
struct Blocked {
    opens_at: Option<Instant>,
    full: bool,
}

impl Standing {
    fn may_look(&self, lane: &Lane) -> bool {
        match self {
            Self::New => false,
            Self::InLine { turn, .. } => turn.is_some() && !lane.somebody_before(),
            Self::Before { .. } => true,
        }
    }
}

/// What a client that waits for a model may want to know, on one line.
pub(super) fn outlook(view: &View, model: &str) -> String {
    let serves = |name: &str| view.wishes.get(name)?.model.as_ref().filter(|spec| spec.name == model).map(drop);
    let heartbeats = view.hives.values().filter_map(|hive| hive.heartbeat.as_ref());
    let workers = heartbeats.flat_map(|heartbeat| &heartbeat.workers).filter(|worker| serves(&worker.name).is_some());
    let phases: Vec<String> =
        workers.map(|worker| format!("{}/{} {}", worker.name, worker.replica, worker.phase.as_str())).collect();
    if phases.is_empty() { "no worker yet".to_owned() } else { phases.join(", ") }
}

/// The route of a model.
pub(super) fn route<'v>(view: &'v View, model: &str) -> Result<&'v Route, ApiError> {
    view.routes.models.get(model).ok_or_else(|| {
        let message = format!("there is no model `{model}`{}", suggest(model, view.routes.models.keys()));
        ApiError::new(ErrorCode::ModelNotFound, message).with_param("model")
    })
}

/// The answer of a queen that is on her way out.
pub(super) fn shutting_down() -> ApiError {
    ApiError::new(ErrorCode::ShuttingDown, "queen is about to end").with_retry_after_s(RETRY_AFTER_S)
}
