//! A stream of events on its way to the client, over as many workers as it takes.
//!
//! ```text
//!              a worker begins                    [DONE], its own error
//!   Asking ──────────────────────▶ Flowing ─────────────────────────────▶ Ended
//!     │ ▲                             │ dies, falls silent, hands over, sends garbage
//!     │ └── may it be gone on with? ◀─┘   ours: always; others: until the client has seen something
//!     │     `attempts_max` times in a row without getting any further
//!     └──▶ Ended: an error event, never [DONE]
//! ```
//!
//! While nothing comes the client gets a comment now and then. Dropped by the client at any point, it drops all that
//! it has: a place in line, a connection, and with it the work at the worker.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rbee_api::{ApiError, ErrorCode};
use tokio::time::{Instant, Sleep};

use super::dispatch::{self, Begun, Dispatch, Wanted};
use super::events;
use super::picker::InFlight;
use super::pieces::Pieces;
use super::stream::{End, Stream};
use super::tally::Ledger;
use super::upstream::{Answer, AnswerBody};
use super::{Gateway, Settings};

/// Times that one answer is gone on with.
const RESUMES_MAX: u32 = 256;
/// To a client while a worker has nothing to say.
const WORKING: Bytes = Bytes::from_static(b": working\n\n");

/// One stream.
pub(super) struct Relay {
    gateway: Gateway,
    settings: Arc<Settings>,
    wanted: Arc<Wanted>,
    stream: Stream,
    phase: Phase,
    /// Goes off when there is something to do though nothing comes.
    timer: Pin<Box<Sleep>>,
    /// Queen is told to stop at once.
    interrupt: Pin<Box<dyn Future<Output = ()> + Send>>,
    last_sent: Instant,
    resumes: u32,
    /// In a row, without getting any further.
    deaths: u32,
    /// Of the worker that began first.
    pub(super) headers: Option<http::HeaderMap>,
    ledger: Ledger,
}

type Asking = Pin<Box<dyn Future<Output = Result<Begun, ApiError>> + Send>>;

enum Phase {
    Asking(Asking),
    Flowing(Box<Flowing>),
    Ended,
}

/// A worker's part.
struct Flowing {
    pieces: Pieces,
    in_flight: InFlight,
    last_heard: Instant,
}

/// What comes next.
pub(super) enum Next {
    /// For the client.
    Pass(Bytes),
    /// The first answer was no stream.
    Other(Box<(Answer, InFlight)>),
    /// It cannot be brought to its end.
    Failed(ApiError),
    /// That was all.
    End,
}

/// Why a worker's part has ended too early.
enum Break {
    Died(&'static str),
    Silent(Duration),
    Handover,
    Garbage(&'static str),
    Error(Bytes),
}

impl Relay {
    /// Begins to ask.
    pub(super) fn new(gateway: Gateway, settings: Arc<Settings>, wanted: Arc<Wanted>, ledger: Ledger) -> Self {
        let interrupted = gateway.clone();
        let now = Instant::now();
        let mut relay = Self {
            stream: Stream::new(wanted.asked.terms),
            phase: Phase::Ended,
            timer: Box::pin(tokio::time::sleep_until(now + settings.limits.comment_interval)),
            interrupt: Box::pin(async move { interrupted.stopping.immediate().await }),
            last_sent: now,
            resumes: 0,
            deaths: 0,
            headers: None,
            ledger,
            gateway,
            settings,
            wanted,
        };
        relay.ask();
        relay
    }

    /// The next part for the client. Nothing is lost when this is dropped.
    pub(super) async fn next(&mut self) -> Next {
        loop {
            match &mut self.phase {
                Phase::Ended => return Next::End,
                Phase::Asking(asking) => {
                    tokio::select! {
                        biased;
                        begun = asking => match self.begun(begun) {
                            Some(next) => return next,
                            None => continue,
                        },
                        () = &mut self.interrupt => return self.fail(events::interrupted()),
                        () = &mut self.timer => {}
                    }
                    return self.comment();
                }
                Phase::Flowing(flowing) => {
                    let piece = tokio::select! {
                        biased;
                        piece = flowing.pieces.next() => piece,
                        () = &mut self.interrupt => return self.fail(events::interrupted()),
                        () = &mut self.timer => match self.patience_is_over() {
                            Some(next) => return next,
                            None => continue,
                        },
                    };
                    if let Some(next) = self.piece(piece) {
                        return next;
                    }
                }
            }
        }
    }

    fn ask(&mut self) {
        let own_body = self.wanted.asked.own.as_ref().map(|own| own.at(self.stream.progress()));
        let resumes = self.stream.has_passed();
        let (gateway, settings) = (self.gateway.clone(), Arc::clone(&self.settings));
        let wanted = Arc::clone(&self.wanted);
        let dispatch = Dispatch::new(gateway, settings, wanted, own_body, resumes, self.deaths);
        self.phase = Phase::Asking(Box::pin(dispatch.run()));
        self.set_timer();
    }

    fn begun(&mut self, begun: Result<Begun, ApiError>) -> Option<Next> {
        let Begun { answer, in_flight, deaths } = match begun {
            Ok(begun) => begun,
            Err(error) => return Some(self.fail(error)),
        };
        self.deaths = deaths;
        let Answer { status, headers, body } = answer;
        let AnswerBody::Events(pieces) = body else {
            self.phase = Phase::Ended;
            self.ledger.failed();
            return Some(Next::Other(Box::new((Answer { status, headers, body }, in_flight))));
        };
        if self.stream.has_passed() {
            self.resumes += 1;
            let endpoint = in_flight.endpoint();
            self.gateway.metrics.resumed(&self.wanted.asked.model);
            tracing::info!(
                replica = %endpoint.id, hive = endpoint.hive, correlation_id = self.wanted.correlation_id,
                tokens = self.stream.progress().tokens(), "a stream goes on"
            );
        }
        self.headers.get_or_insert(headers);
        self.stream.another_worker();
        self.phase = Phase::Flowing(Box::new(Flowing { pieces, in_flight, last_heard: Instant::now() }));
        self.set_timer();
        None
    }

    fn piece(&mut self, piece: Option<io::Result<Bytes>>) -> Option<Next> {
        let Phase::Flowing(flowing) = &mut self.phase else { return Some(Next::End) };
        let own = flowing.in_flight.endpoint().own_engine && self.wanted.asked.own.is_some();
        let (taken, over) = match piece {
            Some(Ok(piece)) => (self.stream.take(piece, own), None),
            Some(Err(_)) => (self.stream.rest(own), Some("the connection to the worker broke")),
            None => (self.stream.rest(own), Some("the worker ended its answer too early")),
        };
        let now = Instant::now();
        if taken.alive || !own {
            flowing.last_heard = now;
        }
        if taken.further {
            self.deaths = 0;
        }
        let why = match (taken.end, over) {
            (Some(End::Done), _) => {
                self.phase = Phase::Ended;
                return Some(self.last(&taken.pass));
            }
            (Some(End::Error(error)), _) => Some(Break::Error(error)),
            (Some(End::Handover), _) => Some(Break::Handover),
            (Some(End::Garbage(what)), _) => Some(Break::Garbage(what)),
            (None, Some(why)) => Some(Break::Died(why)),
            (None, None) => None,
        };
        if let Some(why) = why {
            let next = self.broke(why);
            return match next {
                _ if taken.pass.is_empty() => next,
                None => Some(self.pass(taken.pass)),
                Some(next) => Some(self.pass_and(taken.pass, next)),
            };
        }
        if !taken.pass.is_empty() {
            return Some(self.pass(taken.pass));
        }
        // The worker works, and has nothing to say: neither must the client take us for dead.
        (now >= self.last_sent + self.settings.limits.comment_interval).then(|| self.comment())
    }

    /// What became of the worker is known; goes on elsewhere, or ends.
    fn broke(&mut self, why: Break) -> Option<Next> {
        let Phase::Flowing(flowing) = std::mem::replace(&mut self.phase, Phase::Ended) else { return Some(Next::End) };
        let own = flowing.in_flight.endpoint().own_engine && self.wanted.asked.own.is_some();
        let error = match &why {
            Break::Error(error) if !own || !events::is_the_workers_fault(error) => {
                self.ledger.failed();
                return Some(Next::Pass(events::event(error)));
            }
            why => self.note_break(&flowing.in_flight, why),
        };
        if own && self.stream.is_complete() {
            return Some(self.last(&[]));
        }
        let again = (own || !self.stream.has_passed())
            && self.deaths < self.settings.limits.attempts_max
            && self.resumes < RESUMES_MAX;
        if again {
            drop(flowing);
            self.ask();
            return None;
        }
        self.ledger.failed();
        Some(match why {
            Break::Error(error) => Next::Pass(events::event(&error)),
            _ => Next::Failed(error),
        })
    }

    fn note_break(&mut self, in_flight: &InFlight, why: &Break) -> ApiError {
        let endpoint = in_flight.endpoint();
        let (kind, text) = match why {
            Break::Died(why) => ("broke_in_answer", (*why).to_owned()),
            Break::Silent(time) => ("silent_in_answer", format!("the worker was silent for {} s", time.as_secs())),
            Break::Handover => ("handover", "the worker handed over".to_owned()),
            Break::Garbage(what) => ("garbage", format!("the worker sent {what}")),
            Break::Error(_) => ("failed_in_answer", "the worker failed".to_owned()),
        };
        let now = std::time::Instant::now();
        let picker = &self.gateway.picker;
        if let Break::Silent(_) = why {
            picker.silent(endpoint, now)
        } else {
            picker.failed(endpoint, now)
        }
        if !matches!(why, Break::Handover) {
            self.deaths += 1;
        }
        self.gateway.metrics.upstream_failure(kind);
        tracing::warn!(
            replica = %endpoint.id, hive = endpoint.hive, correlation_id = self.wanted.correlation_id,
            tokens = self.stream.progress().tokens(), why = text, "a worker's part of a stream ended"
        );
        let message = match self.stream.has_passed() {
            true => format!("{text} in the middle of this answer; what came so far is not all of it"),
            false => format!("worker {} did not answer: {text}", endpoint.id),
        };
        ApiError::new(ErrorCode::UpstreamBroken, message)
    }

    fn patience_is_over(&mut self) -> Option<Next> {
        let Phase::Flowing(flowing) = &self.phase else { return Some(Next::End) };
        let now = Instant::now();
        let patience = self.patience(flowing);
        if now >= flowing.last_heard + patience {
            return self.broke(Break::Silent(patience));
        }
        if now >= self.last_sent + self.settings.limits.comment_interval {
            return Some(self.comment());
        }
        self.set_timer();
        None
    }

    fn patience(&self, flowing: &Flowing) -> Duration {
        let limits = &self.settings.limits;
        match flowing.in_flight.endpoint().own_engine {
            true => limits.stall_timeout,
            // It may be busy with others before it begins.
            false if !self.stream.has_passed() => limits.first_event_timeout,
            false => limits.command_stall_timeout,
        }
    }

    /// Set seldom, not for each event: it looks at what has happened since when it goes off.
    fn set_timer(&mut self) {
        let mut at = self.last_sent + self.settings.limits.comment_interval;
        if let Phase::Flowing(flowing) = &self.phase {
            at = at.min(flowing.last_heard + self.patience(flowing));
        }
        self.timer.as_mut().reset(at);
    }

    fn pass(&mut self, bytes: Bytes) -> Next {
        self.ledger.begun();
        self.last_sent = Instant::now();
        Next::Pass(bytes)
    }

    /// The end of a complete answer.
    fn last(&mut self, before: &[u8]) -> Next {
        self.ledger.begun();
        self.ledger.done();
        Next::Pass(events::done(before, self.resumes))
    }

    fn pass_and(&mut self, bytes: Bytes, next: Next) -> Next {
        let joined = |more: &[u8]| {
            let mut joined = BytesMut::from(&bytes[..]);
            joined.extend_from_slice(more);
            Next::Pass(joined.freeze())
        };
        match next {
            Next::Pass(more) => joined(&more),
            Next::Failed(error) => joined(&self.error_event(&error)),
            Next::End | Next::Other(_) => Next::Pass(bytes),
        }
    }

    fn comment(&mut self) -> Next {
        self.last_sent = Instant::now();
        self.set_timer();
        Next::Pass(match &self.phase {
            Phase::Asking(_) => {
                let model = &self.wanted.asked.model;
                let outlook = dispatch::outlook(&self.gateway.registry.view(), model);
                let waited_s = self.wanted.arrived.elapsed().as_secs();
                Bytes::from(format!(": waiting for a worker of {model} since {waited_s} s: {outlook}\n\n"))
            }
            Phase::Flowing(_) | Phase::Ended => WORKING,
        })
    }

    fn fail(&mut self, error: ApiError) -> Next {
        self.ledger.failed();
        self.phase = Phase::Ended;
        Next::Failed(error)
    }

    /// An error to a client that has been promised a stream.
    pub(super) fn error_event(&self, error: &ApiError) -> Bytes {
        events::error(error, &self.wanted.correlation_id)
    }

    /// An answer that is no stream to a client that has been promised one.
    pub(super) fn refusal_event(&self, answer: &Answer) -> Bytes {
        events::refusal(answer, &self.wanted.correlation_id)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let usage = self.stream.usage();
        self.ledger.used(usage);
    }
}
