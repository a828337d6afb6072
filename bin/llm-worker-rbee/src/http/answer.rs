//! One answer in OpenAI's form, chat or text, as a whole or in pieces.

use rbee_api::openai::{
    ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatMessage, Completion, CompletionChoice, Content, Delta,
    FinishReason, Usage,
};
use serde::Serialize;
use serde_json::Value;

use super::choice::{Part, Told};

/// Which of the two forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
}

/// What all parts of an answer say.
#[derive(Debug, Clone)]
pub struct Answer {
    kind: Kind,
    id: String,
    model: String,
    created: i64,
    /// Whether the usage comes at the end; all events before it say that it is not there yet.
    with_usage: bool,
}

/// The JSON of one part.
pub type Json = Result<String, serde_json::Error>;

/// An event of a stream that ends with the usage.
#[derive(Serialize)]
struct BeforeUsage<T> {
    #[serde(flatten)]
    event: T,
    usage: Option<Usage>,
}

impl Answer {
    /// An answer with a new id. `with_usage`: its stream ends with the usage.
    #[must_use]
    pub fn new(kind: Kind, model: &str, with_usage: bool) -> Self {
        let prefix = match kind {
            Kind::Chat => "chatcmpl",
            Kind::Text => "cmpl",
        };
        let id = format!("{prefix}-{}", uuid::Uuid::new_v4().simple());
        Self { kind, id, model: model.to_owned(), created: jiff::Timestamp::now().as_second(), with_usage }
    }

    /// The same answer under the name it was begun with elsewhere.
    #[must_use]
    pub fn known_as(self, id: &str, created: i64) -> Self {
        Self { id: id.to_owned(), created, ..self }
    }

    /// Which form.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// What tells this answer's calls from others'; the same wherever the answer is gone on with.
    #[must_use]
    pub fn call_prefix(&self) -> String {
        let own: String = self.id.chars().filter(char::is_ascii_alphanumeric).collect();
        format!("call_{}", &own[own.len().saturating_sub(20)..])
    }

    /// The event before any text of a choice, where the form has one.
    ///
    /// # Errors
    /// As serialization; so all of these.
    pub fn opening(&self, index: u32) -> Option<Json> {
        let delta = Delta { role: Some("assistant".to_owned()), content: Some(String::new()), tool_calls: None };
        (self.kind == Kind::Chat).then(|| self.chat_event(index, delta, None, None))
    }

    /// An event with more of a choice, or the one that says why it ended.
    ///
    /// # Errors
    /// As serialization.
    pub fn event(&self, index: u32, told: Told, finish_reason: Option<FinishReason>) -> Json {
        let Told { part: Part { content, calls }, logprobs } = told;
        match self.kind {
            Kind::Chat => {
                let content = (!content.is_empty()).then_some(content);
                let delta = Delta { role: None, content, tool_calls: (!calls.is_empty()).then_some(calls) };
                self.chat_event(index, delta, logprobs, finish_reason)
            }
            Kind::Text => {
                let choice = CompletionChoice { index, text: content, logprobs, finish_reason };
                self.before_usage(Completion { choices: vec![choice], ..self.text() })
            }
        }
    }

    /// The event with the usage, and no choice.
    ///
    /// # Errors
    /// As serialization.
    pub fn usage(&self, usage: Usage) -> Json {
        match self.kind {
            Kind::Chat => json(&ChatChunk { usage: Some(usage), ..self.chunk() }),
            Kind::Text => json(&Completion { usage: Some(usage), ..self.text() }),
        }
    }

    /// The whole answer.
    ///
    /// # Errors
    /// As serialization.
    pub fn whole(&self, choices: Vec<(u32, Told, FinishReason)>, usage: Usage) -> Json {
        match self.kind {
            Kind::Chat => json(&ChatCompletion {
                id: self.id.clone(),
                object: "chat.completion".to_owned(),
                created: self.created,
                model: self.model.clone(),
                choices: choices.into_iter().map(chat_choice).collect::<Result<_, _>>()?,
                usage,
            }),
            Kind::Text => {
                let choice = |(index, told, reason): (u32, Told, FinishReason)| CompletionChoice {
                    index,
                    text: told.part.content,
                    logprobs: told.logprobs,
                    finish_reason: Some(reason),
                };
                let choices = choices.into_iter().map(choice).collect();
                json(&Completion { choices, usage: Some(usage), ..self.text() })
            }
        }
    }

    fn chunk(&self) -> ChatChunk {
        ChatChunk {
            id: self.id.clone(),
            object: "chat.completion.chunk".to_owned(),
            created: self.created,
            model: self.model.clone(),
            choices: Vec::new(),
            usage: None,
        }
    }

    fn chat_event(&self, index: u32, delta: Delta, logprobs: Option<Value>, reason: Option<FinishReason>) -> Json {
        let choice = ChatChunkChoice { index, delta, logprobs, finish_reason: reason };
        self.before_usage(ChatChunk { choices: vec![choice], ..self.chunk() })
    }

    fn before_usage<T: Serialize>(&self, event: T) -> Json {
        if self.with_usage { json(&BeforeUsage { event, usage: None }) } else { json(&event) }
    }

    fn text(&self) -> Completion {
        Completion {
            id: self.id.clone(),
            object: "text_completion".to_owned(),
            created: self.created,
            model: self.model.clone(),
            choices: Vec::new(),
            usage: None,
        }
    }
}

fn chat_choice((index, told, finish_reason): (u32, Told, FinishReason)) -> Result<ChatChoice, serde_json::Error> {
    let Told { part: Part { content, calls }, logprobs } = told;
    let mut message = ChatMessage::text("assistant", content);
    if !calls.is_empty() {
        if message.content == Some(Content::Text(String::new())) {
            message.content = None;
        }
        let mut calls = serde_json::to_value(calls)?;
        for call in calls.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
            // Only pieces are numbered.
            call.remove("index");
        }
        message.tool_calls = Some(calls);
    }
    Ok(ChatChoice { index, message, logprobs, finish_reason })
}

fn json(value: &impl Serialize) -> Json {
    serde_json::to_string(value)
}
