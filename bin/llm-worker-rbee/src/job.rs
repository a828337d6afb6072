//! What the HTTP side asks of the engine thread, and what comes back.

use std::fmt;
use std::time::Instant;

use rbee_api::ApiError;
use rbee_api::openai::{FinishReason, Usage};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::engine::Token;
use crate::logprobs::Logprobs;
use crate::sampler::Sampling;

/// One answer to be made: one choice of one request.
#[derive(Debug)]
pub struct Job {
    /// What it goes on from; at least one token, fewer than the context.
    pub prompt: Vec<Token>,
    /// The beginning of the answer, made elsewhere. It counts as generated, and its text comes first again.
    pub resumed: Vec<Token>,
    /// Most tokens to generate, those resumed included; at least one.
    pub tokens_max: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// What may be chosen at all. It has seen none of `resumed`: the engine's thread shows it those.
    pub constraint: Option<Box<dyn Constraint>>,
    /// Logprobs are wanted for each token, with this many of the likeliest beside it.
    pub logprobs: Option<u8>,
    /// Texts to end before.
    pub stops: Vec<String>,
    /// Goes on after the model's end token.
    pub ignore_end: bool,
    /// Somebody goes on elsewhere when this breaks off: wants [`Event::Progress`], understands [`Event::Handover`].
    pub resumable: bool,
    /// Where events go. When the other end is gone, so is the job.
    pub events: mpsc::Sender<Event>,
    /// Its place among the requests admitted; given back when the job ends, however it does.
    pub place: Option<OwnedSemaphorePermit>,
    /// When it was handed over.
    pub submitted: Instant,
}

impl Job {
    /// A greedy answer with nothing special, and where its events arrive.
    #[must_use]
    pub fn new(prompt: Vec<Token>, tokens_max: usize) -> (Self, mpsc::Receiver<Event>) {
        let (events, receiver) = Self::channel(tokens_max);
        let job = Self {
            prompt,
            resumed: Vec::new(),
            tokens_max,
            sampling: Sampling::greedy(),
            constraint: None,
            logprobs: None,
            stops: Vec::new(),
            ignore_end: false,
            resumable: false,
            events,
            place: None,
            submitted: Instant::now(),
        };
        (job, receiver)
    }

    /// The channel for a job's events. It has room for every event the job can have, so the engine never waits for a
    /// slow reader; `tokens_max` bounds it.
    #[must_use]
    pub fn channel(tokens_max: usize) -> (mpsc::Sender<Event>, mpsc::Receiver<Event>) {
        // One a token, the text resumed, the flushed rest, a sign of progress (only ever sent when nothing else is in
        // the channel), and the end.
        mpsc::channel(tokens_max.saturating_add(4))
    }

    /// Whether nobody waits for it any more.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }
}

/// Restricts what may come next, such as a grammar. Called on the engine's thread, once a token, so it must be quick.
pub trait Constraint: Send {
    /// Whether `token` may come next. Asked first: where the model's choice is fine no mask is needed.
    fn allows(&mut self, token: Token) -> bool;

    /// Sets the numbers of all tokens that may not come next to minus infinity. The model's end tokens are among them
    /// until the text may end.
    fn mask(&mut self, logits: &mut [f32]);

    /// `token` has come. Called for each token of the answer in turn, those resumed included, the end token not.
    fn accept(&mut self, token: Token);

    /// Why nothing may come next, where that is not the answer's end but a failure.
    fn failed(&self) -> Option<&str> {
        None
    }
}

impl fmt::Debug for dyn Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Constraint")
    }
}

/// More of an answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Piece {
    /// Tokens since the piece before, also those whose text is held back. None in the piece that repeats the text of
    /// [`Job::resumed`].
    pub tokens: Vec<Token>,
    /// Text that is certain now. Empty only in a last piece that has tokens.
    pub text: String,
    /// One for each of `tokens`, where the job wants them.
    pub logprobs: Vec<Logprobs>,
}

/// What happens to a job, in order; `Done`, `Handover` or `Failed` is the last.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// More of it.
    Piece(Piece),
    /// The engine works, but there is no more text yet. Only for resumable jobs.
    Progress,
    /// No more of it comes from here: it is to be gone on with elsewhere. Only for resumable jobs.
    Handover,
    /// The answer is complete.
    Done {
        /// Why it ended.
        reason: FinishReason,
        /// Tokens it took, those resumed included.
        usage: Usage,
    },
    /// The answer breaks off here.
    Failed(ApiError),
}

/// Vectors to be made of texts.
#[derive(Debug)]
pub struct EmbedJob {
    /// The texts; each has at least one token and at most the context.
    pub inputs: Vec<Vec<Token>>,
    /// One vector of length one for each text, in order. When the other end is gone, so is the job.
    pub reply: oneshot::Sender<Result<Vec<Vec<f32>>, ApiError>>,
    /// Its place among the requests admitted; given back when the job ends, however it does.
    pub place: Option<OwnedSemaphorePermit>,
}

/// For the engine thread.
#[derive(Debug)]
pub enum Command {
    /// Makes an answer.
    Submit(Job),
    /// Makes vectors.
    Embed(EmbedJob),
    /// Writes what the slots know to disk, where there is a place for it.
    Save {
        /// What is not begun by then stays undone.
        until: Instant,
        /// Hears that it is done.
        done: oneshot::Sender<()>,
    },
    /// Ends all jobs now: those that are resumable by [`Event::Handover`], the others with this error.
    Abort(ApiError),
}
