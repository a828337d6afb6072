//! Checks requests: what is out of range or not there yet is refused by name, nothing is silently ignored.

use rbee_api::openai::{ChatMessage, ChatRequest, CompletionRequest, Content, Generation, Prompt, Resume};
use rbee_api::{ApiError, ErrorCode};
use serde_json::Value;

use crate::engine::Token;
use crate::sampler::Sampling;
use crate::template::Turn;

/// What both kinds of completion say about how to generate, checked.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Checked {
    /// `None`: as many as fit.
    pub(super) tokens_max: Option<usize>,
    pub(super) sampling: Sampling,
    pub(super) stops: Vec<String>,
    pub(super) ignore_end: bool,
    pub(super) stream: bool,
    pub(super) include_usage: bool,
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

/// `max_tokens` of a text completion that names none, as OpenAI has it.
const COMPLETION_TOKENS_DEFAULT: usize = 16;
const STOPS_MAX: usize = 16;
const STOP_BYTES_MAX: usize = 1024;

pub(super) fn chat(request: ChatRequest) -> Result<(Source, Checked), ApiError> {
    refuse_chat_features(&request)?;
    let mut checked = generation(request.generation)?;
    if let Some(tokens) = request.max_completion_tokens {
        checked.tokens_max = Some(tokens_max("max_completion_tokens", tokens)?);
    }
    if request.messages.is_empty() {
        return Err(invalid("messages", "must have at least one message"));
    }
    let turns = request.messages.into_iter().enumerate().map(|(index, message)| turn(index, message));
    Ok((Source::Turns(turns.collect::<Result<_, _>>()?), checked))
}

pub(super) fn completion(request: CompletionRequest) -> Result<(Source, Checked), ApiError> {
    refuse_if("echo", request.echo == Some(true))?;
    refuse_if("best_of", request.best_of.is_some_and(|n| n != 1))?;
    refuse_if("logprobs", request.logprobs.is_some())?;
    refuse_if("suffix", request.suffix.is_some_and(|suffix| !suffix.is_empty()))?;
    let mut checked = generation(request.generation)?;
    checked.tokens_max.get_or_insert(COMPLETION_TOKENS_DEFAULT);
    Ok((prompt(request.prompt)?, checked))
}

fn refuse_chat_features(request: &ChatRequest) -> Result<(), ApiError> {
    let given = |value: &Option<Value>| value.as_ref().is_some_and(|value| *value != Value::Array(Vec::new()));
    refuse_if("logprobs", request.logprobs == Some(true))?;
    refuse_if("top_logprobs", request.top_logprobs.is_some_and(|n| n != 0))?;
    refuse_if("tools", given(&request.tools))?;
    refuse_if("tool_choice", request.tool_choice.as_ref().is_some_and(|choice| choice != "none" && choice != "auto"))?;
    refuse_if("functions", given(&request.functions))?;
    refuse_if("function_call", request.function_call.as_ref().is_some_and(|call| call != "none" && call != "auto"))?;
    refuse_if("response_format", request.response_format.as_ref().is_some_and(|format| format["type"] != "text"))?;
    let other_than_text = |modalities: &Vec<String>| modalities.iter().any(|modality| modality != "text");
    refuse_if("modalities", request.modalities.as_ref().is_some_and(other_than_text))?;
    refuse_if("audio", request.audio.is_some())
}

fn generation(request: Generation) -> Result<Checked, ApiError> {
    refuse_if("n", request.n.is_some_and(|n| n > 1))?;
    if request.n.is_some_and(|n| n < 1) {
        return Err(invalid("n", "must be 1"));
    }
    refuse_if("presence_penalty", request.presence_penalty.is_some_and(|penalty| penalty != 0.0))?;
    refuse_if("frequency_penalty", request.frequency_penalty.is_some_and(|penalty| penalty != 0.0))?;
    refuse_if("logit_bias", request.logit_bias.as_ref().is_some_and(|bias| !bias.is_empty()))?;
    let stream = request.stream.unwrap_or(false);
    if request.stream_options.is_some() && !stream {
        return Err(invalid("stream_options", "is only for `stream: true`"));
    }
    Ok(Checked {
        tokens_max: request.max_tokens.map(|tokens| tokens_max("max_tokens", tokens)).transpose()?,
        sampling: sampling(&request)?,
        include_usage: request.stream_options.is_some_and(|options| options.include_usage == Some(true)),
        stops: stops(request.stop.map(|stop| stop.into_vec()).unwrap_or_default())?,
        ignore_end: request.ignore_eos.unwrap_or(false),
        resume: request.rbee_resume,
        stream,
    })
}

fn sampling(request: &Generation) -> Result<Sampling, ApiError> {
    let top_k = request.top_k.unwrap_or(0);
    // -1 is how others write "all".
    let top_k = if top_k == -1 { 0 } else { top_k };
    Ok(Sampling {
        temperature: in_range("temperature", request.temperature, 1.0, 0.0, 2.0)?,
        top_k: usize::try_from(top_k).map_err(|_| invalid("top_k", "must be 0 (all) or more"))?,
        top_p: in_range("top_p", request.top_p, 1.0, 0.0, 1.0)?,
        min_p: in_range("min_p", request.min_p, 0.0, 0.0, 1.0)?,
        // Any number is a seed; without one, each request has its own.
        seed: request.seed.map_or_else(|| uuid::Uuid::new_v4().as_u64_pair().0, |seed| seed as u64),
    })
}

fn in_range(param: &str, value: Option<f64>, default: f64, low: f64, high: f64) -> Result<f32, ApiError> {
    let value = value.unwrap_or(default);
    if (low..=high).contains(&value) {
        return Ok(value as f32);
    }
    Err(invalid(param, &format!("must be from {low} to {high}, not {value}")))
}

fn tokens_max(param: &str, tokens: i64) -> Result<usize, ApiError> {
    usize::try_from(tokens)
        .ok()
        .filter(|tokens| *tokens > 0)
        .ok_or_else(|| invalid(param, &format!("must be at least 1, not {tokens}")))
}

fn stops(stops: Vec<String>) -> Result<Vec<String>, ApiError> {
    if stops.len() > STOPS_MAX {
        return Err(invalid("stop", &format!("must have at most {STOPS_MAX} strings, not {}", stops.len())));
    }
    if stops.iter().any(|stop| stop.is_empty() || stop.len() > STOP_BYTES_MAX) {
        return Err(invalid("stop", &format!("must have strings of 1 to {STOP_BYTES_MAX} bytes")));
    }
    Ok(stops)
}

fn turn(index: usize, message: ChatMessage) -> Result<Turn, ApiError> {
    let of = |field: &str| format!("messages[{index}].{field}");
    if message.tool_calls.is_some() || message.tool_call_id.is_some() {
        return Err(unsupported(&of("tool_calls")));
    }
    let role = match message.role.as_str() {
        "developer" => "system".to_owned(),
        "system" | "user" | "assistant" => message.role,
        "tool" | "function" => return Err(unsupported(&of("role"))),
        other => return Err(invalid(&of("role"), &format!("`{other}` is none of system, developer, user, assistant"))),
    };
    let content = match message.content {
        Some(Content::Text(text)) => text,
        Some(Content::Parts(parts)) => {
            let texts = parts.into_iter().map(|part| match (part.kind.as_str(), part.text) {
                ("text", Some(text)) => Ok(text),
                ("text", None) => Err(invalid(&of("content"), "has a text part without text")),
                _ => Err(unsupported(&of("content"))),
            });
            texts.collect::<Result<Vec<_>, _>>()?.join("\n")
        }
        None => return Err(invalid(&of("content"), "is missing")),
    };
    Ok(Turn { role, content, ..Turn::default() })
}

fn prompt(prompt: Prompt) -> Result<Source, ApiError> {
    let several = || Err(unsupported("prompt").reworded("several prompts in one request are not supported: send one"));
    let tokens = |ids: Vec<i32>| Ok(Source::Tokens(ids.into_iter().map(Token).collect()));
    match prompt {
        Prompt::Text(text) => Ok(Source::Text(text)),
        Prompt::Tokens(ids) => tokens(ids),
        Prompt::Texts(texts) => match <[String; 1]>::try_from(texts) {
            Ok([text]) => Ok(Source::Text(text)),
            Err(_) => several(),
        },
        Prompt::TokenLists(lists) => match <[Vec<i32>; 1]>::try_from(lists) {
            Ok([ids]) => tokens(ids),
            Err(_) => several(),
        },
    }
}

fn refuse_if(param: &str, given: bool) -> Result<(), ApiError> {
    if given { Err(unsupported(param)) } else { Ok(()) }
}

fn unsupported(param: &str) -> ApiError {
    let message = format!("this server cannot honour `{param}` yet; leave it out");
    ApiError::new(ErrorCode::UnsupportedParameter, message).with_param(param)
}

pub(super) fn invalid(param: &str, problem: &str) -> ApiError {
    ApiError::new(ErrorCode::InvalidParameter, format!("`{param}` {problem}")).with_param(param)
}

trait Reworded {
    fn reworded(self, message: &str) -> Self;
}

impl Reworded for ApiError {
    fn reworded(mut self, message: &str) -> Self {
        message.clone_into(&mut self.message);
        self
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn chat_with(field: &str, value: Value) -> Result<(Source, Checked), ApiError> {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        body[field] = value;
        chat(serde_json::from_value(body).unwrap())
    }

    fn completion_with(field: &str, value: Value) -> Result<(Source, Checked), ApiError> {
        let mut body = json!({"model": "m", "prompt": "hi"});
        body[field] = value;
        completion(serde_json::from_value(body).unwrap())
    }

    #[test]
    fn what_is_not_there_yet_is_refused_by_name() {
        let table = [
            ("n", json!(2)),
            ("logprobs", json!(true)),
            ("top_logprobs", json!(3)),
            ("tools", json!([{"type": "function"}])),
            ("tool_choice", json!("required")),
            ("response_format", json!({"type": "json_object"})),
            ("presence_penalty", json!(0.5)),
            ("frequency_penalty", json!(-1)),
            ("logit_bias", json!({"5": 1})),
            ("modalities", json!(["audio"])),
        ];
        for (field, value) in table {
            let error = chat_with(field, value).unwrap_err();
            assert_eq!((error.code, error.param.as_deref()), (ErrorCode::UnsupportedParameter, Some(field)));
        }
        let table =
            [("echo", json!(true)), ("best_of", json!(3)), ("logprobs", json!(0)), ("prompt", json!(["a", "b"]))];
        for (field, value) in table {
            let error = completion_with(field, value).unwrap_err();
            assert_eq!((error.code, error.param.as_deref()), (ErrorCode::UnsupportedParameter, Some(field)));
        }
    }

    #[test]
    fn the_same_switched_off_is_taken() {
        let table = [
            ("n", json!(1)),
            ("logprobs", json!(false)),
            ("tools", json!([])),
            ("tool_choice", json!("none")),
            ("response_format", json!({"type": "text"})),
            ("presence_penalty", json!(0)),
            ("logit_bias", json!({})),
            ("modalities", json!(["text"])),
        ];
        for (field, value) in table {
            assert!(chat_with(field, value).is_ok(), "{field}");
        }
    }

    #[test]
    fn values_out_of_range_are_named() {
        let table = [
            ("max_tokens", json!(-1)),
            ("max_tokens", json!(0)),
            ("max_completion_tokens", json!(-5)),
            ("temperature", json!(-0.1)),
            ("temperature", json!(2.1)),
            ("top_p", json!(1.5)),
            ("min_p", json!(-1)),
            ("top_k", json!(-2)),
            ("stop", json!([""])),
            ("stop", json!(vec!["x"; 17])),
            ("n", json!(0)),
            ("stream_options", json!({"include_usage": true})),
            ("messages", json!([])),
        ];
        for (field, value) in table {
            let error = chat_with(field, value.clone()).unwrap_err();
            assert_eq!((error.code, error.param.as_deref()), (ErrorCode::InvalidParameter, Some(field)), "{value}");
        }
    }

    #[test]
    fn turns_and_prompts_come_in_several_forms() {
        let parts =
            json!([{"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]);
        let (source, _) = chat_with("messages", parts).unwrap();
        assert_eq!(source, Source::Turns(vec![Turn::new("system", "a\nb")]));
        let image = json!([{"role": "user", "content": [{"type": "image_url"}]}]);
        assert_eq!(chat_with("messages", image).unwrap_err().code, ErrorCode::UnsupportedParameter);
        let strange = json!([{"role": "oracle", "content": "x"}]);
        assert_eq!(chat_with("messages", strange).unwrap_err().param.as_deref(), Some("messages[0].role"));
        assert_eq!(completion_with("prompt", json!(["x"])).unwrap().0, Source::Text("x".into()));
        assert_eq!(completion_with("prompt", json!([5, 6])).unwrap().0, Source::Tokens(vec![Token(5), Token(6)]));
    }

    #[test]
    fn seeds_are_kept_and_otherwise_differ() {
        let seed = |result: Result<(Source, Checked), ApiError>| result.unwrap().1.sampling.seed;
        assert_eq!(seed(chat_with("seed", json!(7))), 7);
        assert_ne!(seed(chat_with("n", json!(1))), seed(chat_with("n", json!(1))));
    }
}
