//! Checks requests: what is out of range or cannot be honoured is refused by name, nothing is silently ignored.

mod format;
mod generation;
mod messages;
mod tools;

use rbee_api::openai::{ChatRequest, CompletionRequest, Prompt, Resume};
use rbee_api::{ApiError, ErrorCode};
use serde_json::Value;

pub(super) use format::Wanted;

use crate::engine::Token;
use crate::sampler::Sampling;
use crate::shaping::Bending;
use crate::template::Turn;
use crate::tools::Toolbox;

/// What both kinds of completion say about how to generate, checked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Checked {
    /// `None`: as many as fit.
    pub(super) tokens_max: Option<usize>,
    pub(super) sampling: Sampling,
    pub(super) bending: Bending,
    pub(super) stops: Vec<String>,
    pub(super) ignore_end: bool,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
    /// Answers to each prompt.
    pub(super) n: usize,
    /// How many of the likeliest tokens beside each, where logprobs are wanted.
    pub(super) logprobs: Option<u8>,
    /// Tools that may be called.
    pub(super) toolbox: Option<Toolbox>,
    /// What an answer that calls nothing must look like.
    pub(super) wanted: Wanted,
    /// The answer was begun elsewhere.
    pub(super) resume: Option<Resume>,
}

/// What to go on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Turns(Vec<Turn>),
    Text(String),
    Tokens(Vec<Token>),
}

/// Names a request may have.
pub(super) mod names {
    /// In both kinds of completion.
    const GENERATION: &[&str] = &[
        "model",
        "max_tokens",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "ignore_eos",
        "n",
        "presence_penalty",
        "frequency_penalty",
        "logit_bias",
        "user",
        "rbee_resume",
        "logprobs",
    ];
    const CHAT: &[&str] = &[
        "messages",
        "max_completion_tokens",
        "top_logprobs",
        "tools",
        "tool_choice",
        "functions",
        "function_call",
        "response_format",
        "modalities",
        "audio",
        "parallel_tool_calls",
        "store",
        "metadata",
        "service_tier",
    ];
    const TEXT: &[&str] = &["prompt", "echo", "best_of", "suffix"];

    /// Of `/v1/chat/completions`.
    pub(in crate::http) fn chat() -> Vec<&'static str> {
        [GENERATION, CHAT].concat()
    }

    /// Of `/v1/completions`.
    pub(in crate::http) fn completion() -> Vec<&'static str> {
        [GENERATION, TEXT].concat()
    }
}

/// `max_tokens` of a text completion that names none, as OpenAI has it.
const COMPLETION_TOKENS_DEFAULT: usize = 16;
/// Most answers of one request, as OpenAI has it.
const ANSWERS_MAX: usize = 128;
/// Most likely tokens beside each, as OpenAI has it: in a chat, and in a text completion.
const TOP_MAX: (u8, u8) = (20, 5);

pub(super) fn chat(request: ChatRequest) -> Result<(Vec<Source>, Checked), ApiError> {
    refuse_chat_features(&request)?;
    let mut checked = generation::check(request.generation)?;
    if let Some(tokens) = request.max_completion_tokens {
        checked.tokens_max = Some(generation::tokens_max("max_completion_tokens", tokens)?);
    }
    let top = request.top_logprobs.map(|top| count("top_logprobs", top, TOP_MAX.0)).transpose()?;
    checked.logprobs = match (request.logprobs, top) {
        (Some(true), top) => Some(top.unwrap_or(0)),
        (_, Some(1..)) => return Err(invalid("top_logprobs", "is only for `logprobs: true`")),
        _ => None,
    };
    checked.wanted = format::check(request.response_format)?;
    checked.toolbox = tools::check(request.tools, request.tool_choice, request.parallel_tool_calls)?;
    if checked.ignore_end && (checked.toolbox.is_some() || checked.wanted != Wanted::Anything) {
        return Err(invalid("ignore_eos", "cannot be had with tools or a response_format: those say where the end is"));
    }
    Ok((vec![Source::Turns(messages::check(request.messages)?)], checked))
}

pub(super) fn completion(request: CompletionRequest) -> Result<(Vec<Source>, Checked), ApiError> {
    refuse_if("echo", request.echo == Some(true))?;
    refuse_if("suffix", request.suffix.is_some_and(|suffix| !suffix.is_empty()))?;
    let mut checked = generation::check(request.generation)?;
    // More than are given out would have to be compared.
    refuse_if("best_of", request.best_of.is_some_and(|best| usize::try_from(best) != Ok(checked.n)))?;
    checked.logprobs = request.logprobs.map(|top| count("logprobs", top, TOP_MAX.1)).transpose()?;
    checked.tokens_max.get_or_insert(COMPLETION_TOKENS_DEFAULT);
    let sources = prompts(request.prompt);
    let answers = sources.len() * checked.n;
    if sources.is_empty() {
        return Err(invalid("prompt", "is empty"));
    }
    if answers > ANSWERS_MAX {
        let message = format!("and `n` ask for {answers} answers; the most is {ANSWERS_MAX}");
        return Err(invalid("prompt", &message));
    }
    Ok((sources, checked))
}

fn refuse_chat_features(request: &ChatRequest) -> Result<(), ApiError> {
    let given = |value: &Option<Value>| value.as_ref().is_some_and(|value| *value != Value::Array(Vec::new()));
    let instead = |name: &str, given: bool, other: &str| {
        let refused = || unsupported(name).reworded(&format!("`{name}` is out of date; use `{other}`"));
        if given { Err(refused()) } else { Ok(()) }
    };
    instead("functions", given(&request.functions), "tools")?;
    let called = request.function_call.as_ref().is_some_and(|call| call != "none" && call != "auto");
    instead("function_call", called, "tool_choice")?;
    let other_than_text = |modalities: &Vec<String>| modalities.iter().any(|modality| modality != "text");
    refuse_if("modalities", request.modalities.as_ref().is_some_and(other_than_text))?;
    refuse_if("audio", request.audio.is_some())?;
    refuse_if("store", request.store == Some(true))?;
    let tier = request.service_tier.as_deref();
    refuse_if("service_tier", tier.is_some_and(|tier| tier != "auto" && tier != "default"))
}

fn prompts(prompt: Prompt) -> Vec<Source> {
    let tokens = |ids: Vec<i32>| Source::Tokens(ids.into_iter().map(Token).collect());
    match prompt {
        Prompt::Text(text) => vec![Source::Text(text)],
        Prompt::Tokens(ids) => vec![tokens(ids)],
        Prompt::Texts(texts) => texts.into_iter().map(Source::Text).collect(),
        Prompt::TokenLists(lists) => lists.into_iter().map(tokens).collect(),
    }
}

fn count(param: &str, value: i64, most: u8) -> Result<u8, ApiError> {
    let count = u8::try_from(value).ok().filter(|count| *count <= most);
    count.ok_or_else(|| invalid(param, &format!("must be from 0 to {most}, not {value}")))
}

fn refuse_if(param: &str, given: bool) -> Result<(), ApiError> {
    if given { Err(unsupported(param)) } else { Ok(()) }
}

pub(super) fn unsupported(param: &str) -> ApiError {
    let message = format!("this server cannot honour `{param}`; leave it out");
    ApiError::new(ErrorCode::UnsupportedParameter, message).with_param(param)
}

pub(super) fn invalid(param: &str, problem: &str) -> ApiError {
    ApiError::new(ErrorCode::InvalidParameter, format!("`{param}` {problem}")).with_param(param)
}

/// Other words for the same error.
pub(super) trait Reworded {
    fn reworded(self, message: &str) -> Self;
}

impl Reworded for ApiError {
    fn reworded(mut self, message: &str) -> Self {
        message.clone_into(&mut self.message);
        self
    }
}

#[cfg(test)]
mod tests;
