//! Continuous batching: one loop on the engine's thread; requests join and leave between any two batches.
//!
//! ```text
//!            Submit                 slot free              all prompt read        end, stop, limit
//!   client ─────────▶ queue (FIFO) ──────────▶ reads prompt ─────────────▶ generates ─────────────▶ slot cleared
//!                        │                          │                          │                       ▲
//!                        └── client gone: dropped   └──── client gone, engine failed, Abort ───────────┘
//! ```
//!
//! A slot does not know which of the two it does: it has tokens that are not in the model yet. When the last of them is in,
//! a new one is chosen. So an answer is taken up elsewhere by a prompt that ends with the tokens already given.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

use rbee_api::openai::{FinishReason, Usage};
use rbee_api::{ApiError, ErrorCode};

use crate::engine::{BatchToken, Engine, EngineError, SlotId, Token, Tokenizer};
use crate::job::{Command, Event, Job};
use crate::metrics::Metrics;
use crate::sampler;
use crate::scheduler::{self, Limits, Share};
use crate::text::TextStream;

/// A job that has a slot.
struct Running {
    job: Job,
    /// Prompt and answer.
    tokens: Vec<Token>,
    /// How many of them are in the model.
    fed: usize,
    text: TextStream,
    generated: usize,
}

/// Owns the engine and all jobs.
pub struct Batcher<E> {
    engine: E,
    tokenizer: Arc<dyn Tokenizer>,
    metrics: Arc<Metrics>,
    limits: Limits,
    slots: Vec<Option<Running>>,
    queue: VecDeque<Job>,
    batch: Vec<BatchToken>,
}

impl<E: Engine> Batcher<E> {
    /// A batcher with all slots free.
    pub fn new(engine: E, tokenizer: Arc<dyn Tokenizer>, metrics: Arc<Metrics>) -> Self {
        let limits = Limits::for_batch(engine.batch_tokens_max());
        let slots = (0..engine.slots()).map(|_| None).collect();
        Self { engine, tokenizer, metrics, limits, slots, queue: VecDeque::new(), batch: Vec::new() }
    }

    /// Works until the other end of `commands` is gone and all jobs are done. Sleeps while there is nothing to do.
    pub fn run(mut self, commands: &Receiver<Command>) {
        loop {
            if self.is_idle() {
                let Ok(command) = commands.recv() else { return };
                self.handle(command);
            }
            while let Ok(command) = commands.try_recv() {
                self.handle(command);
            }
            self.step();
        }
    }

    /// Whether no job is here.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.slots.iter().all(Option::is_none)
    }

    /// Takes a command.
    pub fn handle(&mut self, command: Command) {
        match command {
            Command::Submit(job) => self.queue.push_back(job),
            Command::Abort(error) => {
                for job in std::mem::take(&mut self.queue) {
                    self.metrics.queue_depth.dec();
                    fail(&job, error.clone());
                }
                for slot in 0..self.slots.len() {
                    self.fail_slot(SlotId(slot), error.clone());
                }
            }
        }
    }

    /// One round: drops who went away, lets in who waits, runs one batch, hands out its tokens.
    pub fn step(&mut self) {
        self.drop_abandoned();
        self.admit();
        let shares = scheduler::plan(&self.remaining(), self.limits);
        if shares.is_empty() {
            return;
        }
        self.fill_batch(&shares);
        if let Err(error) = self.engine.decode(&self.batch) {
            self.batch_failed(&shares, &error);
            return;
        }
        self.metrics.engine_works();
        self.take_results(&shares);
    }

    fn drop_abandoned(&mut self) {
        let waiting = self.queue.len();
        self.queue.retain(|job| !job.is_abandoned());
        let gone = waiting - self.queue.len();
        self.metrics.queue_depth.dec_by(i64::try_from(gone).unwrap_or(i64::MAX));
        self.metrics.abandoned.inc_by(gone as u64);
        for slot in 0..self.slots.len() {
            if self.slots[slot].as_ref().is_some_and(|running| running.job.is_abandoned()) {
                tracing::debug!(slot, "the client went away");
                self.metrics.abandoned.inc();
                self.free(SlotId(slot));
            }
        }
    }

    fn admit(&mut self) {
        while let Some(free) = self.slots.iter().position(Option::is_none) {
            let Some(job) = self.queue.pop_front() else { return };
            self.metrics.queue_depth.dec();
            self.metrics.slots_busy.inc();
            self.metrics.waited(job.submitted.elapsed());
            let (tokens, text) = (job.prompt.clone(), TextStream::new(job.stops.clone()));
            self.slots[free] = Some(Running { job, tokens, fed: 0, text, generated: 0 });
        }
    }

    fn remaining(&self) -> Vec<usize> {
        self.slots.iter().map(|slot| slot.as_ref().map_or(0, |running| running.tokens.len() - running.fed)).collect()
    }

    fn fill_batch(&mut self, shares: &[Share]) {
        self.batch.clear();
        for share in shares {
            let Some(running) = &self.slots[share.slot.0] else { continue };
            let end = running.fed + share.tokens;
            for (position, token) in running.tokens.iter().enumerate().take(end).skip(running.fed) {
                let wants_logits = position + 1 == running.tokens.len();
                self.batch.push(BatchToken { slot: share.slot, token: *token, position, wants_logits });
            }
        }
    }

    fn take_results(&mut self, shares: &[Share]) {
        let mut end_of_share = 0;
        for share in shares {
            end_of_share += share.tokens;
            let Some(running) = &mut self.slots[share.slot.0] else { continue };
            running.fed += share.tokens;
            if running.fed < running.tokens.len() {
                continue;
            }
            let position = running.tokens.len();
            let logits = self.engine.logits(end_of_share - 1);
            let chosen = logits.map(|logits| sampler::sample(logits, &running.job.sampling, position));
            match chosen {
                Ok(Some(token)) => self.take_token(share.slot, token),
                Ok(None) => self.slot_failed(share.slot, &EngineError::NoNumbers { slot: share.slot }),
                Err(error) => self.slot_failed(share.slot, &error),
            }
        }
    }

    fn take_token(&mut self, slot: SlotId, token: Token) {
        let Some(running) = &mut self.slots[slot.0] else { return };
        if running.generated == 0 {
            self.metrics.prompt_tokens.inc_by(running.job.prompt.len() as u64);
            self.metrics.first_token(running.job.submitted.elapsed());
        }
        if self.tokenizer.is_end(token) && !running.job.ignore_end {
            self.finish(slot, FinishReason::Stop);
            return;
        }
        self.metrics.completion_tokens.inc();
        running.generated += 1;
        running.tokens.push(token);
        let mut bytes = Vec::new();
        self.tokenizer.append_piece(token, &mut bytes);
        let text = running.text.push(&bytes);
        send_text(&running.job, text);
        if running.text.stopped() {
            self.finish(slot, FinishReason::Stop);
        } else if running.generated == running.job.tokens_max {
            self.finish(slot, FinishReason::Length);
        }
    }

    fn finish(&mut self, slot: SlotId, reason: FinishReason) {
        let Some(running) = &mut self.slots[slot.0] else { return };
        let rest = running.text.finish();
        // The rest may have completed a stop string.
        let reason = if running.text.stopped() { FinishReason::Stop } else { reason };
        send_text(&running.job, rest);
        let usage = Usage::new(running.job.prompt.len() as u64, running.generated as u64);
        send(&running.job, Event::Done { reason, usage });
        self.metrics.finished(running.job.submitted.elapsed());
        self.free(slot);
    }

    /// A failed batch says nothing about which slot was at fault: all in it lose what the engine knew.
    fn batch_failed(&mut self, shares: &[Share], error: &EngineError) {
        self.metrics.engine_failed();
        for share in shares {
            self.slot_failed(share.slot, error);
        }
    }

    fn slot_failed(&mut self, slot: SlotId, error: &EngineError) {
        tracing::error!(%slot, error = error as &dyn std::error::Error, "an answer failed");
        self.metrics.errors.inc();
        self.fail_slot(slot, ApiError::new(ErrorCode::WorkerFailed, format!("the answer broke off: {error}")));
    }

    fn fail_slot(&mut self, slot: SlotId, error: ApiError) {
        if let Some(running) = &self.slots[slot.0] {
            fail(&running.job, error);
            self.free(slot);
        }
    }

    fn free(&mut self, slot: SlotId) {
        // Before the job's place is given back: who is let in next must find the slot clean.
        if let Err(error) = self.engine.clear(slot) {
            tracing::error!(%slot, error = &error as &dyn std::error::Error, "a slot could not be cleared");
            self.metrics.engine_failed();
            self.metrics.errors.inc();
        }
        if self.slots[slot.0].take().is_some() {
            self.metrics.slots_busy.dec();
            self.metrics.touched();
        }
    }
}

fn send_text(job: &Job, text: String) {
    if !text.is_empty() {
        send(job, Event::Text(text));
    }
}

/// The channel has room for all events of a job; the only failure is that nobody listens, which the next round sees.
fn send(job: &Job, event: Event) {
    if let Err(tokio::sync::mpsc::error::TrySendError::Full(_)) = job.events.try_send(event) {
        tracing::error!("a job had more events than tokens");
    }
}

fn fail(job: &Job, error: ApiError) {
    send(job, Event::Failed(error));
}

#[cfg(test)]
mod tests;
