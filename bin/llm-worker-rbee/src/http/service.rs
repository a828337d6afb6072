//! Everything a request needs that outlives it, and the gate in front of the engine: who comes in, who waits, who is
//! refused.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use rbee_api::openai::Usage;
use rbee_api::{ApiError, ErrorCode};
use rbee_runtime::shutdown::Shutdown;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::relay::Resumed;
use super::request::{Checked, Source, invalid};
use crate::engine::{ModelInfo, Token, Tokenizer};
use crate::grammar::Grammars;
use crate::job::{Command, Constraint, Event, Job};
use crate::metrics::Metrics;
use crate::template::{ChatTemplate, TemplateError, Turn};

/// What requests share.
pub struct Service {
    /// The model's name in requests.
    pub model_name: String,
    /// What is known of it.
    pub info: ModelInfo,
    /// Its tokenizer.
    pub tokenizer: Arc<dyn Tokenizer>,
    /// Its chat template, where the file has one.
    pub template: Option<ChatTemplate>,
    /// Makes answers of a given form.
    pub grammars: Grammars,
    /// To the engine's thread.
    pub commands: Sender<Command>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Whether we are on our way out.
    pub shutdown: Shutdown,
    /// Sequences at once.
    pub slots: usize,
    /// Whether the numbers are batch-invariant.
    pub deterministic: bool,
    /// Slots and places in the queue.
    pub places: Arc<Semaphore>,
    /// How many of them there are.
    pub places_total: u32,
    /// When the model was loaded, Unix seconds.
    pub created: i64,
}

/// Longest time a refused client is told to wait, seconds.
const RETRY_AFTER_S_MAX: usize = 30;
/// While we go down: the next incarnation will be there then, seconds.
const RETRY_AFTER_SHUTDOWN_S: u32 = 2;
/// Between the seeds of the answers of one request; odd, so that they only meet after all others.
const SEED_STEP: u64 = 0x9e37_79b9_7f4a_7c15;

impl Service {
    /// Refuses requests for other models.
    pub(super) fn check_model(&self, name: &str) -> Result<(), ApiError> {
        if name == self.model_name {
            return Ok(());
        }
        let message = format!("this worker serves `{}`, not `{name}`", self.model_name);
        Err(ApiError::new(ErrorCode::ModelNotFound, message).with_param("model"))
    }

    /// Places for that many answers of one request; first of all, so that a refusal costs nothing.
    pub(super) fn admit(&self, answers: usize) -> Result<Vec<OwnedSemaphorePermit>, ApiError> {
        let count = u32::try_from(answers).ok().filter(|count| *count <= self.places_total);
        let Some(count) = count else {
            let problem =
                format!("and `prompt` ask for {answers} answers at once; there is room for {}", self.places_total);
            return Err(invalid("n", &problem));
        };
        let places = self.places.clone().try_acquire_many_owned(count);
        // Looked at after taking the places: who waits for all places to be free sees either them or the refusal.
        if self.shutdown.is_draining() {
            return Err(ApiError::new(ErrorCode::ShuttingDown, "this worker is on its way down; try again")
                .with_retry_after_s(RETRY_AFTER_SHUTDOWN_S));
        }
        let Ok(mut places) = places else {
            self.metrics.refused.inc();
            let seconds = (self.places_total as usize / self.slots.max(1)).clamp(1, RETRY_AFTER_S_MAX);
            let message =
                format!("{} requests are here already", self.places_total as usize - self.places.available_permits());
            return Err(
                ApiError::new(ErrorCode::QueueFull, message).with_retry_after_s(u32::try_from(seconds).unwrap_or(1))
            );
        };
        let mut each: Vec<_> = (1..count).filter_map(|_| places.split(1)).collect();
        each.push(places);
        Ok(each)
    }

    /// The tokens to go on from, with these tools. Slow for long texts: not for the threads that serve everybody.
    pub(super) fn prompt_tokens(&self, source: Source, tools: &[Value]) -> Result<Vec<Token>, ApiError> {
        let param = if matches!(source, Source::Turns(_)) { "messages" } else { "prompt" };
        let tokens = self.tokens(source, tools, param)?;
        if tokens.len() >= self.info.context_tokens {
            let message = format!(
                "the prompt has {} tokens; the context has {}, and the answer needs at least one of them",
                tokens.len(),
                self.info.context_tokens
            );
            return Err(ApiError::new(ErrorCode::ContextLengthExceeded, message).with_param(param));
        }
        Ok(tokens)
    }

    /// The tokens of a text to be embedded. As slow.
    pub(super) fn input_tokens(&self, source: Source) -> Result<Vec<Token>, ApiError> {
        let tokens = self.tokens(source, &[], "input")?;
        if tokens.len() > self.info.context_tokens {
            let (count, most) = (tokens.len(), self.info.context_tokens);
            let message = format!("an input has {count} tokens; the context has {most}");
            return Err(ApiError::new(ErrorCode::ContextLengthExceeded, message).with_param("input"));
        }
        Ok(tokens)
    }

    fn tokens(&self, source: Source, tools: &[Value], param: &str) -> Result<Vec<Token>, ApiError> {
        let tokens = match source {
            Source::Text(text) => self.tokenizer.tokenize(&text, true),
            Source::Tokens(tokens) => tokens,
            Source::Turns(turns) => self.rendered(&turns, tools)?,
        };
        self.check_tokens(&tokens, param)?;
        if tokens.is_empty() { Err(invalid(param, "is empty")) } else { Ok(tokens) }
    }

    fn check_tokens(&self, tokens: &[Token], param: &str) -> Result<(), ApiError> {
        let vocabulary = self.tokenizer.vocabulary();
        let is_strange = |token: &&Token| usize::try_from(token.0).map_or(true, |id| id >= vocabulary);
        tokens.iter().find(is_strange).map_or(Ok(()), |strange| {
            Err(invalid(param, &format!("has token {}, but the model has {vocabulary} tokens", strange.0)))
        })
    }

    fn rendered(&self, turns: &[Turn], tools: &[Value]) -> Result<Vec<Token>, ApiError> {
        let Some(template) = &self.template else {
            let message = "this model's file has no chat template; use /v1/completions";
            return Err(ApiError::new(ErrorCode::UnsupportedParameter, message).with_param("messages"));
        };
        let text = template.render(turns, tools).map_err(|error| {
            let (TemplateError::Refused { source } | TemplateError::Invalid { source }) = &error;
            ApiError::new(ErrorCode::InvalidParameter, format!("{error}: {source}")).with_param("messages")
        })?;
        // Many templates write the begin token themselves; it must not be there twice.
        let begins = !self.info.bos.is_empty() && text.starts_with(&self.info.bos);
        Ok(self.tokenizer.tokenize(&text, !(self.info.adds_bos && begins)))
    }

    /// Hands one answer to the engine's thread; `answer` counts those of the request. Dropping the receiver ends it.
    pub(super) fn submit(
        &self,
        prompt: Vec<Token>,
        checked: &Checked,
        answer: u32,
        constraint: Option<Box<dyn Constraint>>,
        resumed: &Resumed,
        place: Option<OwnedSemaphorePermit>,
    ) -> Result<mpsc::Receiver<Event>, ApiError> {
        self.check_tokens(&resumed.tokens, "rbee_resume")?;
        let room = self.info.context_tokens.saturating_sub(prompt.len());
        let tokens_max = checked.tokens_max.unwrap_or(room).min(room);
        if resumed.tokens.len() > tokens_max {
            return Err(invalid("rbee_resume", &format!("has more than the {tokens_max} tokens the answer can have")));
        }
        let (job, receiver) = Job::new(prompt, tokens_max);
        let mut sampling = checked.sampling;
        // Answers to one prompt differ; the first is what it is alone.
        sampling.seed = sampling.seed.wrapping_add(u64::from(answer).wrapping_mul(SEED_STEP));
        let job = Job {
            sampling,
            constraint,
            logprobs: checked.logprobs,
            stops: checked.stops.clone(),
            ignore_end: checked.ignore_end,
            resumed: resumed.tokens.clone(),
            resumable: resumed.place.is_told(),
            place,
            ..job
        };
        if let Some(reason) = resumed.finished {
            let usage = Usage::new(job.prompt.len() as u64, job.resumed.len() as u64);
            // The channel is empty, and we hold its other end.
            let _ = job.events.try_send(Event::Done { reason, usage });
            return Ok(receiver);
        }
        self.metrics.queue_depth.inc();
        self.commands.send(Command::Submit(job)).map_err(|_| {
            self.metrics.queue_depth.dec();
            engine_is_gone()
        })?;
        Ok(receiver)
    }

    /// Resolves when no request is here any more. Meant for draining: new ones are refused from then on.
    pub async fn all_answered(&self) {
        // The semaphore is never closed, so this cannot fail; if it did, there would be nothing to wait for.
        let _all = self.places.acquire_many(self.places_total).await;
    }
}

/// The answer ends here, because we do.
pub(super) fn going_down() -> ApiError {
    ApiError::new(ErrorCode::ShuttingDown, "the answer is not complete: the worker goes down")
}

/// The engine's thread has ended without a word.
pub(super) fn engine_is_gone() -> ApiError {
    ApiError::new(ErrorCode::WorkerFailed, "the inference engine has ended; the answer is not complete")
}
