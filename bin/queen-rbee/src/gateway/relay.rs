//! An answer on its way to the client, piece by piece.
//!
//! ```text
//!   piece ─▶ passes ─▶ … ─▶ end with [DONE] or own error ─▶ ends
//!                      └──▶ breaks, stalls, ends too early ─▶ events: an error event, then ends, without [DONE]
//!                                                             else: the connection is broken off
//! ```
//!
//! Dropped by the client at any point, it drops the connection to the worker, which ends the work there.

use std::io;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::unfold;
use rbee_api::{ApiError, ErrorCode};

use super::Tracked;
use super::picker::InFlight;
use super::sse::Framer;
use super::upstream::Pieces;
use crate::stopping::Stopping;

/// Everything that lives as long as the answer.
pub(super) struct Relay {
    /// What came already.
    pub(super) first: Option<Bytes>,
    /// What is to come.
    pub(super) rest: Pieces,
    /// The worker's load.
    pub(super) in_flight: InFlight,
    /// Queen waits for it when she drains.
    #[expect(dead_code, reason = "held for its Drop")]
    pub(super) tracked: Tracked,
    /// How long the worker may be silent.
    pub(super) stall_timeout: Duration,
    /// When queen is in a hurry, it ends.
    pub(super) stopping: Stopping,
    /// Counts what breaks.
    pub(super) on_break: Box<dyn Fn(&str) + Send + Sync>,
    /// For the error event.
    pub(super) correlation_id: String,
}

impl Relay {
    /// The body of a stream of events.
    pub(super) fn into_events(self) -> Body {
        let state = Some((self, Framer::default()));
        Body::from_stream(unfold(state, |state| async move {
            let (mut relay, mut framer) = state?;
            loop {
                match relay.next().await {
                    Ok(Some(piece)) => {
                        let pass = framer.push(piece);
                        if !pass.is_empty() {
                            return Some((Ok::<_, io::Error>(pass), Some((relay, framer))));
                        }
                    }
                    Ok(None) => {
                        let rest = framer.rest();
                        if framer.has_ended() {
                            return (!rest.is_empty()).then_some((Ok(rest), None));
                        }
                        return Some((Ok(relay.error_event("the worker ended its answer too early")), None));
                    }
                    // After the end there is nothing left that could break.
                    Err(_) if framer.has_ended() => return None,
                    Err(why) => return Some((Ok(relay.error_event(&why)), None)),
                }
            }
        }))
    }

    /// The body of anything else; where it breaks, so does the client's connection.
    pub(super) fn into_bytes(self) -> Body {
        Body::from_stream(unfold(Some(self), |state| async move {
            let mut relay = state?;
            match relay.next().await {
                Ok(Some(piece)) => Some((Ok(piece), Some(relay))),
                Ok(None) => None,
                Err(why) => {
                    (relay.on_break)(&why);
                    Some((Err(io::Error::other(why)), None))
                }
            }
        }))
    }

    async fn next(&mut self) -> Result<Option<Bytes>, String> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let next = tokio::time::timeout(self.stall_timeout, self.rest.next());
        tokio::select! {
            biased;
            next = next => match next {
                Ok(Some(Ok(piece))) => Ok(Some(piece)),
                Ok(Some(Err(_))) => Err("the connection to the worker broke".to_owned()),
                Ok(None) => Ok(None),
                Err(_) => Err(format!("the worker was silent for {} s", self.stall_timeout.as_secs())),
            },
            () = self.stopping.immediate() => Err("queen was told to stop at once".to_owned()),
        }
    }

    fn error_event(&self, why: &str) -> Bytes {
        (self.on_break)(why);
        let endpoint = self.in_flight.endpoint();
        tracing::warn!(
            replica = %endpoint.id, hive = endpoint.hive, correlation_id = self.correlation_id, why, "a stream broke"
        );
        let message = format!("{why} in the middle of this answer; what came so far is not all of it");
        let body = ApiError::new(ErrorCode::UpstreamBroken, message).to_body(Some(&self.correlation_id));
        let json =
            serde_json::to_string(&body).unwrap_or_else(|_| r#"{"error":{"code":"upstream_broken"}}"#.to_owned());
        Bytes::from(format!("data: {json}\n\n"))
    }
}
