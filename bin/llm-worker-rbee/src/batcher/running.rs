//! One answer while it is made: its tokens, its text, and what of both has been told.
//!
//! ```text
//!   prompt + resumed tokens ──▶ fed to the model ──▶ next token ─┬─▶ fed again
//!            │                                                   └─▶ text ─▶ piece
//!            └─ text of the resumed ones comes first again
//! ```

use std::time::{Duration, Instant};

use rbee_api::openai::{FinishReason, Usage};

use crate::engine::{Token, Tokenizer};
use crate::job::{Event, Job, Piece};
use crate::logprobs;
use crate::sampler;
use crate::text::TextStream;

/// Silence after which a resumable job is told that the engine works.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// A job that has a slot.
pub(super) struct Running {
    pub(super) job: Job,
    /// Prompt and answer.
    pub(super) tokens: Vec<Token>,
    /// How many of them are in the model.
    pub(super) fed: usize,
    /// How many of them it knew from the start.
    known: usize,
    text: TextStream,
    /// Tokens whose text is held back.
    untold: Piece,
    told: Instant,
}

/// What the numbers after the last token led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Token(Token),
    /// Nothing may follow.
    Nothing,
    /// All numbers are unusable.
    Broken,
}

impl Running {
    /// Takes the job up where it stands: a resumed one shows its tokens to the constraint and says its text again.
    pub(super) fn new(mut job: Job, tokenizer: &dyn Tokenizer) -> Self {
        let mut text = TextStream::new(std::mem::take(&mut job.stops));
        let mut again = Piece::default();
        for token in &job.resumed {
            if let Some(constraint) = &mut job.constraint {
                constraint.accept(*token);
            }
            again.text.push_str(&text.push(&bytes_of(*token, tokenizer)));
        }
        let tokens = [&job.prompt[..], &job.resumed[..]].concat();
        let running = Self { job, tokens, fed: 0, known: 0, text, untold: Piece::default(), told: Instant::now() };
        if !again.text.is_empty() {
            running.send(Event::Piece(again));
        }
        running
    }

    /// The first `known` tokens are in the model already.
    pub(super) fn begin_at(&mut self, known: usize) {
        (self.fed, self.known) = (known, known);
    }

    /// How many tokens were in the model already.
    pub(super) fn known(&self) -> usize {
        self.known
    }

    /// What the slot has when the answer has ended.
    pub(super) fn into_known(mut self) -> Vec<Token> {
        self.tokens.truncate(self.fed);
        self.tokens
    }

    /// Tokens of the answer so far.
    pub(super) fn generated(&self) -> usize {
        self.tokens.len() - self.job.prompt.len()
    }

    /// Tokens that are not in the model yet.
    pub(super) fn remaining(&self) -> usize {
        self.tokens.len() - self.fed
    }

    /// Whether no token has come from this engine yet.
    pub(super) fn is_new(&self) -> bool {
        self.generated() == self.job.resumed.len()
    }

    /// Why the answer is complete as it stands, if it is.
    pub(super) fn end(&self) -> Option<FinishReason> {
        if self.text.stopped() {
            Some(FinishReason::Stop)
        } else if self.generated() >= self.job.tokens_max {
            Some(FinishReason::Length)
        } else {
            None
        }
    }

    /// The next token by the model's numbers.
    pub(super) fn choose(&mut self, logits: &[f32]) -> Choice {
        let position = self.tokens.len();
        let Some(mut token) = sampler::sample(logits, &self.job.sampling, position) else { return Choice::Broken };
        let Some(constraint) = &mut self.job.constraint else { return Choice::Token(token) };
        if !constraint.allows(token) {
            let mut allowed = logits.to_vec();
            constraint.mask(&mut allowed);
            if !allowed.iter().any(|logit| *logit > f32::NEG_INFINITY) {
                return Choice::Nothing;
            }
            let Some(other) = sampler::sample(&allowed, &self.job.sampling, position) else { return Choice::Broken };
            token = other;
        }
        Choice::Token(token)
    }

    /// Adds a token to the answer; `logits` are the numbers it was chosen by.
    pub(super) fn take(&mut self, token: Token, logits: &[f32], tokenizer: &dyn Tokenizer) {
        if let Some(constraint) = &mut self.job.constraint {
            constraint.accept(token);
        }
        if let Some(top) = self.job.logprobs {
            self.untold.logprobs.push(logprobs::of(logits, token, top.into()));
        }
        self.tokens.push(token);
        self.untold.tokens.push(token);
        self.untold.text = self.text.push(&bytes_of(token, tokenizer));
        if !self.untold.text.is_empty() {
            self.tell();
        }
    }

    /// Says the rest and that it is complete.
    pub(super) fn finish(&mut self, reason: FinishReason) {
        self.untold.text = self.text.finish();
        // The rest may have completed a stop string.
        let reason = if self.text.stopped() { FinishReason::Stop } else { reason };
        if self.untold != Piece::default() {
            self.tell();
        }
        let usage = Usage::new(self.job.prompt.len() as u64, self.generated() as u64);
        self.send(Event::Done { reason, usage });
    }

    /// Says that the engine works, where nothing was said for a while.
    pub(super) fn show_progress(&mut self, now: Instant) {
        show_progress(&self.job, &mut self.told, now);
    }

    #[cfg(test)]
    pub(super) fn pretend_silence(&mut self, time: Duration) {
        self.told -= time;
    }

    fn tell(&mut self) {
        let piece = std::mem::take(&mut self.untold);
        self.send(Event::Piece(piece));
        self.told = Instant::now();
    }

    fn send(&self, event: Event) {
        send(&self.job, event);
    }
}

fn bytes_of(token: Token, tokenizer: &dyn Tokenizer) -> Vec<u8> {
    let mut bytes = Vec::new();
    tokenizer.append_piece(token, &mut bytes);
    bytes
}

/// Says that the engine works, where a resumable job has heard nothing since `told` for a while and has read all there
/// was: more than one such sign is never in its channel.
pub(super) fn show_progress(job: &Job, told: &mut Instant, now: Instant) {
    let all_read = job.events.capacity() == job.events.max_capacity();
    if job.resumable && all_read && now.duration_since(*told) >= PROGRESS_EVERY {
        send(job, Event::Progress);
        *told = now;
    }
}

/// The channel has room for all events of a job; the only failure is that nobody listens, which the next round sees.
pub(super) fn send(job: &Job, event: Event) {
    if let Err(tokio::sync::mpsc::error::TrySendError::Full(_)) = job.events.try_send(event) {
        tracing::error!("a job had more events than tokens");
    }
}
