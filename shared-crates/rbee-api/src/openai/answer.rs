//! What a server answers, whole or in chunks.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::request::ChatMessage;

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// The model's end token, or a stop string.
    Stop,
    /// `max_tokens`, or the end of the context.
    Length,
    /// The answer calls tools.
    ToolCalls,
}

/// Tokens a request took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Of the prompt, its template included.
    pub prompt_tokens: u64,
    /// Generated; the end token does not count.
    pub completion_tokens: u64,
    /// Both.
    pub total_tokens: u64,
}

impl Usage {
    /// The sum is made here, so that it is right.
    #[must_use]
    pub const fn new(prompt_tokens: u64, completion_tokens: u64) -> Self {
        Self { prompt_tokens, completion_tokens, total_tokens: prompt_tokens + completion_tokens }
    }
}

/// Answer of `/v1/chat/completions`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatCompletion {
    /// `chatcmpl-…`.
    pub id: String,
    /// `chat.completion`.
    pub object: String,
    /// Unix seconds.
    pub created: i64,
    /// Who answered.
    pub model: String,
    /// One or more.
    pub choices: Vec<ChatChoice>,
    /// Tokens it took.
    pub usage: Usage,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatChoice {
    /// Which of the choices.
    pub index: u32,
    /// What was said.
    pub message: ChatMessage,
    /// Where they were asked for, else `null`.
    pub logprobs: Option<Value>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// One event of a chat stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatChunk {
    /// The same in all events of a stream.
    pub id: String,
    /// `chat.completion.chunk`.
    pub object: String,
    /// Unix seconds.
    pub created: i64,
    /// Who answers.
    pub model: String,
    /// One, or none in the event with the usage.
    pub choices: Vec<ChatChunkChoice>,
    /// In the last event, where it was asked for (`null` in the others then).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// What an event adds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChatChunkChoice {
    /// Which of the choices.
    pub index: u32,
    /// The addition.
    pub delta: Delta,
    /// Where they were asked for, else `null`.
    pub logprobs: Option<Value>,
    /// In the last event with a choice.
    pub finish_reason: Option<FinishReason>,
}

/// What an event adds to the turn.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delta {
    /// In the first event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// More text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// More of the calls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ToolCallDelta>>,
}

/// What an event adds to a call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCallDelta {
    /// Which of the calls.
    pub index: u32,
    /// In a call's first event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `function`; in a call's first event.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Of the function.
    pub function: FunctionDelta,
}

/// What an event adds to a call's function.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionDelta {
    /// In a call's first event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// More of the JSON text of its arguments.
    #[serde(default)]
    pub arguments: String,
}

/// Answer of `/v1/completions`, and each event of its stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Completion {
    /// `cmpl-…`.
    pub id: String,
    /// `text_completion`.
    pub object: String,
    /// Unix seconds.
    pub created: i64,
    /// Who answers.
    pub model: String,
    /// One or more, or none in the event with the usage.
    pub choices: Vec<CompletionChoice>,
    /// Tokens it took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// The text, or more of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CompletionChoice {
    /// Which of the choices.
    pub index: u32,
    /// Text.
    pub text: String,
    /// Where they were asked for, else `null`.
    pub logprobs: Option<Value>,
    /// Why it ended, where it has.
    pub finish_reason: Option<FinishReason>,
}

/// Answer of `/v1/embeddings`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Embeddings {
    /// `list`.
    pub object: String,
    /// One for each input, in order.
    pub data: Vec<Embedding>,
    /// Who answered.
    pub model: String,
    /// Tokens it took.
    pub usage: EmbeddingsUsage,
}

/// One vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Embedding {
    /// `embedding`.
    pub object: String,
    /// Which of the inputs.
    pub index: u32,
    /// The numbers.
    pub embedding: Vector,
}

/// A vector as the client wants it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Vector {
    /// `float`.
    Float(Vec<f32>),
    /// `base64`: of the numbers as little-endian 32-bit floats.
    Base64(String),
}

/// Tokens embeddings took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EmbeddingsUsage {
    /// Of all inputs.
    pub prompt_tokens: u64,
    /// The same.
    pub total_tokens: u64,
}

/// Answer of `/v1/models`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelList {
    /// `list`.
    pub object: String,
    /// What is served.
    pub data: Vec<Model>,
}

impl ModelList {
    /// A list of these.
    #[must_use]
    pub fn new(data: Vec<Model>) -> Self {
        Self { object: "list".to_owned(), data }
    }
}

/// One model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    /// Its name in requests.
    pub id: String,
    /// `model`.
    pub object: String,
    /// Unix seconds.
    pub created: i64,
    /// `rbee`.
    pub owned_by: String,
}

impl Model {
    /// A model of that name.
    #[must_use]
    pub fn new(id: impl Into<String>, created: i64) -> Self {
        Self { id: id.into(), object: "model".to_owned(), created, owned_by: "rbee".to_owned() }
    }
}
