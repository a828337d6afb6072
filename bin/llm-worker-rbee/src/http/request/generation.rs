//! How tokens are chosen and when to stop.

use rbee_api::ApiError;
use rbee_api::openai::Generation;
use serde_json::{Map, Value};

use super::{ANSWERS_MAX, Checked, Wanted, invalid};
use crate::engine::Token;
use crate::sampler::Sampling;
use crate::shaping::Bending;

const STOPS_MAX: usize = 16;
const STOP_BYTES_MAX: usize = 1024;
/// Most tokens whose numbers are shifted.
const BIASES_MAX: usize = 1024;

pub(super) fn check(request: Generation) -> Result<Checked, ApiError> {
    let n = request.n.unwrap_or(1);
    let in_bounds = usize::try_from(n).ok().filter(|n| (1..=ANSWERS_MAX).contains(n));
    let n = in_bounds.ok_or_else(|| invalid("n", &format!("must be from 1 to {ANSWERS_MAX}, not {n}")))?;
    let stream = request.stream.unwrap_or(false);
    if request.stream_options.is_some() && !stream {
        return Err(invalid("stream_options", "is only for `stream: true`"));
    }
    Ok(Checked {
        tokens_max: request.max_tokens.map(|tokens| tokens_max("max_tokens", tokens)).transpose()?,
        sampling: sampling(&request)?,
        bending: bending(&request)?,
        include_usage: request.stream_options.is_some_and(|options| options.include_usage == Some(true)),
        stops: stops(request.stop.map(|stop| stop.into_vec()).unwrap_or_default())?,
        ignore_end: request.ignore_eos.unwrap_or(false),
        stream,
        n,
        logprobs: None,
        toolbox: None,
        wanted: Wanted::Anything,
        resume: request.rbee_resume,
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

fn bending(request: &Generation) -> Result<Bending, ApiError> {
    let bias = request.logit_bias.as_ref().map_or(Ok(Vec::new()), biases)?;
    Ok(Bending {
        bias,
        presence_penalty: in_range("presence_penalty", request.presence_penalty, 0.0, -2.0, 2.0)?,
        frequency_penalty: in_range("frequency_penalty", request.frequency_penalty, 0.0, -2.0, 2.0)?,
    })
}

fn biases(given: &Map<String, Value>) -> Result<Vec<(Token, f32)>, ApiError> {
    if given.len() > BIASES_MAX {
        return Err(invalid("logit_bias", &format!("must have at most {BIASES_MAX} tokens, not {}", given.len())));
    }
    let bias = |(token, value): (&String, &Value)| {
        let token =
            token.parse().map_err(|_| invalid("logit_bias", &format!("has `{token}`, which is no token id")))?;
        let value = value.as_f64().filter(|value| (-100.0..=100.0).contains(value));
        let value = value.ok_or_else(|| invalid("logit_bias", "must have numbers from -100 to 100"))?;
        Ok((Token(token), value as f32))
    };
    // A bias of nothing is none: then nothing needs to be bent.
    let all = given.iter().map(bias).collect::<Result<Vec<_>, _>>()?;
    Ok(all.into_iter().filter(|(_, value)| *value != 0.0).collect())
}

fn in_range(param: &str, value: Option<f64>, default: f64, low: f64, high: f64) -> Result<f32, ApiError> {
    let value = value.unwrap_or(default);
    if (low..=high).contains(&value) {
        return Ok(value as f32);
    }
    Err(invalid(param, &format!("must be from {low} to {high}, not {value}")))
}

pub(super) fn tokens_max(param: &str, tokens: i64) -> Result<usize, ApiError> {
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
