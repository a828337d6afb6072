//! Continuous batching: one loop on the engine's thread; requests join and leave between any two batches.
//!
//! ```text
//!            Submit                 slot free              all prompt read        end, stop, limit
//!   client ─────────▶ queue (FIFO) ──────────▶ reads prompt ─────────────▶ generates ─────────────▶ slot free, and warm
//!                        │                          │                          │                       ▲
//!                        └── client gone: dropped   └───────── client gone, Abort (engine failed: cold) ┘
//! ```
//!
//! A slot does not know which of the two it does: it has tokens that are not in the model yet. When the last of them is in,
//! a new one is chosen. So an answer is taken up from elsewhere by reading the tokens already given after the prompt.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use rbee_api::openai::FinishReason;
use rbee_api::{ApiError, ErrorCode};

use crate::engine::{BatchToken, Engine, EngineError, SlotId, Tokenizer};
use crate::job::{Command, Event, Job};
use crate::kv::Store;
use crate::metrics::Metrics;
use crate::scheduler::{self, Limits, Share};

mod embedding;
mod prefix;
mod running;
mod warm;

use embedding::Embeddings;
use running::{Choice, Running};
use warm::Warm;

/// A job that has no slot yet.
struct Waiting {
    job: Job,
    /// When its client heard of it last.
    told: Instant,
}

/// Owns the engine and all jobs.
pub struct Batcher<E> {
    engine: E,
    tokenizer: Arc<dyn Tokenizer>,
    metrics: Arc<Metrics>,
    limits: Limits,
    slots: Vec<Option<Running>>,
    queue: VecDeque<Waiting>,
    embeddings: Embeddings,
    warm: Warm,
    batch: Vec<BatchToken>,
}

impl<E: Engine> Batcher<E> {
    /// A batcher with all slots free.
    pub fn new(engine: E, tokenizer: Arc<dyn Tokenizer>, metrics: Arc<Metrics>) -> Self {
        let limits = Limits::for_batch(engine.batch_tokens_max());
        let slots = (0..engine.slots()).map(|_| None).collect();
        let warm = Warm::new(engine.slots());
        let (queue, embeddings, batch) = (VecDeque::new(), Embeddings::default(), Vec::new());
        Self { engine, tokenizer, metrics, limits, slots, queue, embeddings, warm, batch }
    }

    /// What is known of texts is looked for there too, and written there by [`Command::Save`].
    #[must_use]
    pub fn with_store(mut self, store: Store) -> Self {
        self.metrics.prefixes_dropped.inc_by(store.dropped());
        self.warm.set_store(store);
        self
    }

    /// What it works with.
    pub fn engine(&self) -> &E {
        &self.engine
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
        self.queue.is_empty() && self.embeddings.is_empty() && self.slots.iter().all(Option::is_none)
    }

    /// Takes a command.
    pub fn handle(&mut self, command: Command) {
        match command {
            Command::Submit(job) => self.queue.push_back(Waiting { job, told: Instant::now() }),
            Command::Embed(job) => self.embeddings.push(job),
            Command::Abort(error) => self.abort(&error),
            Command::Save { until, done } => {
                self.warm.save(&self.engine, until, &self.metrics);
                // Fails only when nobody waits for it any more.
                let _ = done.send(());
            }
        }
    }

    fn abort(&mut self, error: &ApiError) {
        for waiting in std::mem::take(&mut self.queue) {
            self.metrics.queue_depth.dec();
            break_off(&waiting.job, error);
        }
        for slot in 0..self.slots.len() {
            if let Some(running) = &self.slots[slot] {
                break_off(&running.job, error);
                self.free(SlotId(slot));
            }
        }
        self.embeddings.fail_all(error);
    }

    /// One round: drops who went away, lets in who waits, runs one batch, hands out its tokens.
    pub fn step(&mut self) {
        self.drop_abandoned();
        self.admit();
        self.embed();
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
        self.show_progress();
    }

    fn drop_abandoned(&mut self) {
        let waiting = self.queue.len();
        self.queue.retain(|waiting| !waiting.job.is_abandoned());
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
        while self.slots.iter().any(Option::is_none) {
            let Some(Waiting { job, .. }) = self.queue.pop_front() else { return };
            self.metrics.queue_depth.dec();
            self.metrics.waited(job.submitted.elapsed());
            let mut running = Running::new(job, &*self.tokenizer);
            // One that was complete elsewhere, but for the word that it is.
            if let Some(reason) = running.end() {
                running.finish(reason);
                self.metrics.finished(running.job.submitted.elapsed());
                continue;
            }
            let seat = self.warm.seat(&running.tokens, &self.slots, &mut self.engine, &self.metrics);
            let Some((slot, known)) = seat else { return };
            running.begin_at(known);
            self.metrics.slots_busy.inc();
            self.slots[slot.0] = Some(running);
        }
    }

    fn embed(&mut self) {
        match self.embeddings.step(&mut self.engine) {
            Ok(tokens) => _ = self.metrics.prompt_tokens.inc_by(tokens as u64),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "an embedding failed");
                self.metrics.errors.inc();
            }
        }
    }

    fn remaining(&self) -> Vec<usize> {
        self.slots.iter().map(|slot| slot.as_ref().map_or(0, Running::remaining)).collect()
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
            if running.remaining() == 0 {
                self.take_result(share.slot, end_of_share - 1);
            }
        }
    }

    /// Chooses the slot's next token by the numbers at `index` of the batch.
    fn take_result(&mut self, slot: SlotId, index: usize) {
        let Some(running) = &mut self.slots[slot.0] else { return };
        let logits = match self.engine.logits(index) {
            Ok(logits) => logits,
            Err(error) => return self.slot_failed(slot, &error),
        };
        if running.is_new() {
            self.metrics.prompt_read(running.job.prompt.len(), running.known());
            self.metrics.first_token(running.job.submitted.elapsed());
        }
        let token = match running.choose(logits) {
            Choice::Token(token) => token,
            Choice::Nothing => match running.job.constraint.as_ref().and_then(|constraint| constraint.failed()) {
                Some(reason) => {
                    let message = format!("the answer broke off: its form cannot be kept to: {reason}");
                    running::send(&running.job, Event::Failed(ApiError::new(ErrorCode::InvalidParameter, message)));
                    return self.free(slot);
                }
                None => return self.finish(slot, FinishReason::Stop),
            },
            Choice::Broken => return self.slot_failed(slot, &EngineError::NoNumbers { slot }),
        };
        if self.tokenizer.is_end(token) && !running.job.ignore_end {
            return self.finish(slot, FinishReason::Stop);
        }
        self.metrics.completion_tokens.inc();
        running.take(token, logits, &*self.tokenizer);
        if let Some(reason) = running.end() {
            self.finish(slot, reason);
        }
    }

    /// After a batch that went well, so that an engine that hangs is silent.
    fn show_progress(&mut self) {
        let now = Instant::now();
        self.slots.iter_mut().flatten().for_each(|running| running.show_progress(now));
        self.queue.iter_mut().for_each(|waiting| running::show_progress(&waiting.job, &mut waiting.told, now));
    }

    fn finish(&mut self, slot: SlotId, reason: FinishReason) {
        let Some(running) = &mut self.slots[slot.0] else { return };
        running.finish(reason);
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
        let Some(running) = &self.slots[slot.0] else { return };
        let error = ApiError::new(ErrorCode::WorkerFailed, format!("the answer broke off: {error}"));
        running::send(&running.job, Event::Failed(error));
        self.free(slot);
        self.warm.forget(slot, &mut self.engine, &self.metrics);
    }

    /// What the slot knows stays in it.
    fn free(&mut self, slot: SlotId) {
        if let Some(running) = self.slots[slot.0].take() {
            self.warm.keep(slot, running.into_known());
            self.metrics.slots_busy.dec();
            self.metrics.touched();
        }
    }
}

/// The worker goes down: somebody else goes on with it, or it ends here.
fn break_off(job: &Job, error: &ApiError) {
    let event = if job.resumable { Event::Handover } else { Event::Failed(error.clone()) };
    running::send(job, event);
}

#[cfg(test)]
mod tests;
