//! What the HTTP side asks of the engine thread, and what comes back.

use std::time::Instant;

use rbee_api::ApiError;
use rbee_api::openai::{FinishReason, Usage};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use crate::engine::Token;
use crate::sampler::Sampling;

/// One answer to be made.
#[derive(Debug)]
pub struct Job {
    /// What it goes on from; at least one token, fewer than the context.
    pub prompt: Vec<Token>,
    /// Most tokens to generate; at least one.
    pub tokens_max: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Texts to end before.
    pub stops: Vec<String>,
    /// Goes on after the model's end token.
    pub ignore_end: bool,
    /// Where events go. When the other end is gone, so is the job.
    pub events: mpsc::Sender<Event>,
    /// Its place among the requests admitted; given back when the job ends, however it does.
    pub place: Option<OwnedSemaphorePermit>,
    /// When it was handed over.
    pub submitted: Instant,
}

impl Job {
    /// The channel for a job's events. It has room for every event the job can have, so the engine never waits for a
    /// slow reader; `tokens_max` bounds it.
    #[must_use]
    pub fn channel(tokens_max: usize) -> (mpsc::Sender<Event>, mpsc::Receiver<Event>) {
        // One a token, the flushed rest, and the end.
        mpsc::channel(tokens_max.saturating_add(2))
    }

    /// Whether nobody waits for it any more.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }
}

/// What happens to a job, in order; `Done` or `Failed` is the last.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// More text; never empty.
    Text(String),
    /// The answer is complete.
    Done {
        /// Why it ended.
        reason: FinishReason,
        /// Tokens it took.
        usage: Usage,
    },
    /// The answer breaks off here.
    Failed(ApiError),
}

/// For the engine thread.
#[derive(Debug)]
pub enum Command {
    /// Makes an answer.
    Submit(Job),
    /// Ends all jobs now, with this error.
    Abort(ApiError),
}
