//! A client's request: its body whole and bounded, and as much of its meaning as routing and resuming need.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use rbee_api::{ApiError, ErrorCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::prefix::Beginnings;
use super::resume::Progress;
use super::stream::Terms;

/// How long and how much of a body that is too large is read and thrown away: a client that still writes does not
/// see our answer.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(5);
const DISCARD_BYTES_MAX: usize = 64 * 1024 * 1024;
/// No body may come slower than this, once its time is over.
const BODY_BYTES_PER_S_MIN: usize = 64 * 1024;

/// What must be known of a request to route it, to have our own engine answer it in a way that can be gone on with,
/// and to count what it took.
#[derive(Debug)]
pub(super) struct Asked {
    /// The model's name.
    pub(super) model: String,
    /// Whether the answer shall be a stream of events.
    pub(super) stream: bool,
    /// What the stream is expected to be.
    pub(super) terms: Terms,
    /// The beginnings of its conversation.
    pub(super) beginnings: Beginnings,
    /// For our own engine; absent where an answer cannot be gone on with.
    pub(super) own: Option<OwnBody>,
}

/// A body for our own engine: the client's, with a few fields more.
#[derive(Debug)]
pub(super) struct OwnBody {
    id: String,
    created: i64,
    /// More fields, each with a comma behind it.
    fields: String,
    /// All behind the opening brace of the client's body.
    rest: Bytes,
}

impl OwnBody {
    /// What to send to a worker that shall go on from `progress`.
    pub(super) fn at(&self, progress: &Progress) -> Bytes {
        let choices = progress.to_json();
        let mut body = BytesMut::with_capacity(128 + choices.len() + self.fields.len() + self.rest.len());
        let head = format!(
            "{{\"rbee_resume\":{{\"id\":\"{}\",\"created\":{},\"choices\":{choices}}},{}",
            self.id, self.created, self.fields
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(&self.rest);
        body.freeze()
    }
}

/// Which path was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Path {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Completions,
    /// `/v1/embeddings`
    Embeddings,
}

impl Path {
    /// As it is written.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "/v1/chat/completions",
            Self::Completions => "/v1/completions",
            Self::Embeddings => "/v1/embeddings",
        }
    }

    /// How the ids of its answers begin; `None` where they have none.
    const fn id_prefix(self) -> Option<&'static str> {
        match self {
            Self::Chat => Some("chatcmpl-"),
            Self::Completions => Some("cmpl-"),
            Self::Embeddings => None,
        }
    }
}

/// Reads the body, `bytes_max` at most. It may take `patience`, and a second more for each 64 KiB that have come.
pub(super) async fn read_body(
    headers: &HeaderMap,
    body: Body,
    bytes_max: usize,
    patience: Duration,
) -> Result<Bytes, ApiError> {
    let declared = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let mut pieces = body.into_data_stream();
    let (mut first, mut whole) = (Bytes::new(), BytesMut::new());
    let mut length = 0;
    let mut too_large = declared.is_some_and(|length| length > bytes_max);
    let began = Instant::now();
    let mut deadline = std::pin::pin!(tokio::time::sleep(patience));
    while !too_large {
        let piece = tokio::select! {
            biased;
            piece = pieces.next() => piece,
            () = &mut deadline => {
                let grown = began + patience + Duration::from_secs((length / BODY_BYTES_PER_S_MIN) as u64);
                if grown > Instant::now() {
                    deadline.as_mut().reset(grown);
                    continue;
                }
                let message = format!("the body did not come within {} s", began.elapsed().as_secs());
                return Err(ApiError::new(ErrorCode::InvalidRequest, message));
            }
        };
        let Some(piece) = piece else { break };
        let piece =
            piece.map_err(|error| ApiError::new(ErrorCode::InvalidRequest, format!("the body broke off: {error}")))?;
        length += piece.len();
        too_large = length > bytes_max;
        if length == piece.len() {
            // Nearly always all of it.
            first = piece;
        } else if !too_large {
            if whole.is_empty() {
                // What is only announced takes no memory yet.
                whole.extend_from_slice(&std::mem::take(&mut first));
            }
            whole.extend_from_slice(&piece);
        }
    }
    if too_large {
        let discard = async {
            let mut discarded = 0;
            while let Some(Ok(piece)) = pieces.next().await
                && discarded < DISCARD_BYTES_MAX
            {
                discarded += piece.len();
            }
        };
        // Out of courtesy only: whether it was read to its end does not change the answer.
        let _ = tokio::time::timeout(DISCARD_TIME_MAX, discard).await;
        let message = format!("the body is larger than {bytes_max} bytes");
        return Err(ApiError::new(ErrorCode::BodyTooLarge, message));
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

#[derive(Deserialize)]
struct Peek<'a> {
    #[serde(borrow, default)]
    model: Option<Cow<'a, str>>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(borrow, default, deserialize_with = "given")]
    seed: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    stream_options: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "given")]
    rbee_resume: Option<&'a RawValue>,
    #[serde(borrow, default)]
    n: Option<&'a RawValue>,
    #[serde(borrow, default)]
    messages: Option<&'a RawValue>,
    #[serde(borrow, default)]
    prompt: Option<&'a RawValue>,
}

/// There, even if it is `null`.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Finds what routing needs; everything else must be JSON and is the worker's concern. `count`: usage is counted.
pub(super) fn peek(path: Path, body: &Bytes, count: bool) -> Result<Asked, ApiError> {
    let peek: Peek<'_> = serde_json::from_slice(body).map_err(|error| {
        let what = if error.is_data() { "the body is not a request" } else { "the body is not JSON" };
        ApiError::new(ErrorCode::InvalidRequest, format!("{what}: {error}"))
    })?;
    if peek.rbee_resume.is_some() {
        let error = ApiError::new(ErrorCode::InvalidParameter, "`rbee_resume` is between queen and her workers");
        return Err(error.with_param("rbee_resume"));
    }
    let own = own_body(path, body, &peek, count)?;
    let model = peek
        .model
        .filter(|model| !model.is_empty())
        .ok_or_else(|| ApiError::new(ErrorCode::InvalidRequest, "the request names no `model`").with_param("model"))?;
    let beginnings = match (peek.messages, peek.prompt) {
        (Some(messages), _) => Beginnings::of_messages(&model, messages),
        (None, Some(prompt)) => Beginnings::of_prompt(&model, prompt),
        (None, None) => Beginnings::default(),
    };
    let choices = peek.n.and_then(|n| n.get().parse().ok()).unwrap_or(1);
    let terms = Terms { choices, usage_wanted: wants_usage(peek.stream_options), usage_counted: count };
    Ok(Asked { model: model.into_owned(), stream: peek.stream.unwrap_or(false), terms, beginnings, own })
}

fn wants_usage(options: Option<&RawValue>) -> bool {
    #[derive(Deserialize)]
    struct Options {
        include_usage: Option<bool>,
    }
    // `null` and nonsense are no wish; nonsense is refused by the worker.
    options
        .and_then(|options| serde_json::from_str::<Option<Options>>(options.get()).ok()?)
        .is_some_and(|options| options.include_usage == Some(true))
}

fn own_body(path: Path, body: &Bytes, peek: &Peek<'_>, count: bool) -> Result<Option<OwnBody>, ApiError> {
    let Some(prefix) = path.id_prefix() else { return Ok(None) };
    let (random, low) = uuid::Uuid::new_v4().as_u64_pair();
    let mut fields = String::new();
    let seed_missing = peek.seed.is_none_or(|seed| seed.get() == "null");
    if seed_missing {
        // Within what every JSON library reads without loss.
        fields = format!("\"seed\":{},", low >> 12);
    }
    let ask_usage = count && peek.stream == Some(true) && !wants_usage(peek.stream_options);
    if ask_usage {
        fields.push_str("\"stream_options\":{\"include_usage\":true},");
    }
    let rewritten = (seed_missing && peek.seed.is_some()) || (ask_usage && peek.stream_options.is_some());
    let body = if rewritten { without(body, seed_missing, ask_usage)? } else { body.clone() };
    let Some(brace) = body.iter().position(|byte| *byte == b'{') else { return Ok(None) };
    let id = format!("{prefix}{random:016x}{low:016x}");
    let created = jiff::Timestamp::now().as_second();
    Ok(Some(OwnBody { id, created, fields, rest: body.slice(brace + 1..) }))
}

/// The body without fields that ours replace: a field that stands there twice is an error. Seldom needed.
fn without(body: &Bytes, seed: bool, stream_options: bool) -> Result<Bytes, ApiError> {
    let broken = |error: serde_json::Error| ApiError::new(ErrorCode::InvalidRequest, error.to_string());
    let mut fields: BTreeMap<String, &RawValue> = serde_json::from_slice(body).map_err(broken)?;
    if seed {
        fields.remove("seed");
    }
    if stream_options {
        fields.remove("stream_options");
    }
    serde_json::to_vec(&fields).map(Bytes::from).map_err(broken)
}

#[cfg(test)]
mod tests;
