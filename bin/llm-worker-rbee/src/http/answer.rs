//! One answer in OpenAI's form, chat or text, as a whole or in pieces.

use rbee_api::openai::{
    ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatMessage, Completion, CompletionChoice, Delta,
    FinishReason, Usage,
};
use serde::Serialize;

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
}

/// The JSON of one part.
pub type Json = Result<String, serde_json::Error>;

impl Answer {
    /// An answer with a new id.
    #[must_use]
    pub fn new(kind: Kind, model: &str) -> Self {
        let prefix = match kind {
            Kind::Chat => "chatcmpl",
            Kind::Text => "cmpl",
        };
        let id = format!("{prefix}-{}", uuid::Uuid::new_v4().simple());
        Self { kind, id, model: model.to_owned(), created: jiff::Timestamp::now().as_second() }
    }

    /// The same answer under the name it was begun with elsewhere.
    #[must_use]
    pub fn known_as(self, id: &str, created: i64) -> Self {
        Self { id: id.to_owned(), created, ..self }
    }

    /// The event before any text, where the form has one.
    ///
    /// # Errors
    /// As serialization; so all of these.
    pub fn opening(&self) -> Option<Json> {
        let delta = Delta { role: Some("assistant".to_owned()), content: Some(String::new()), tool_calls: None };
        (self.kind == Kind::Chat).then(|| self.chat_chunk(delta, None))
    }

    /// An event with more text.
    ///
    /// # Errors
    /// As serialization.
    pub fn piece(&self, text: String) -> Json {
        match self.kind {
            Kind::Chat => self.chat_chunk(Delta { role: None, content: Some(text), tool_calls: None }, None),
            Kind::Text => json(&self.text(text, None)),
        }
    }

    /// The event that says why it ended.
    ///
    /// # Errors
    /// As serialization.
    pub fn closing(&self, reason: FinishReason) -> Json {
        match self.kind {
            Kind::Chat => self.chat_chunk(Delta::default(), Some(reason)),
            Kind::Text => json(&self.text(String::new(), Some(reason))),
        }
    }

    /// The event with the usage, and no choice.
    ///
    /// # Errors
    /// As serialization.
    pub fn usage(&self, usage: Usage) -> Json {
        match self.kind {
            Kind::Chat => json(&ChatChunk { choices: Vec::new(), usage: Some(usage), ..self.chunk() }),
            Kind::Text => {
                let body = self.text(String::new(), None);
                json(&Completion { choices: Vec::new(), usage: Some(usage), ..body })
            }
        }
    }

    /// The whole answer.
    ///
    /// # Errors
    /// As serialization.
    pub fn whole(&self, text: String, reason: FinishReason, usage: Usage) -> Json {
        match self.kind {
            Kind::Chat => {
                let message = ChatMessage::text("assistant", text);
                let choice = ChatChoice { index: 0, message, logprobs: None, finish_reason: reason };
                json(&ChatCompletion {
                    id: self.id.clone(),
                    object: "chat.completion".to_owned(),
                    created: self.created,
                    model: self.model.clone(),
                    choices: vec![choice],
                    usage,
                })
            }
            Kind::Text => json(&Completion { usage: Some(usage), ..self.text(text, Some(reason)) }),
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

    fn chat_chunk(&self, delta: Delta, finish_reason: Option<FinishReason>) -> Json {
        let choice = ChatChunkChoice { index: 0, delta, logprobs: None, finish_reason };
        json(&ChatChunk { choices: vec![choice], ..self.chunk() })
    }

    fn text(&self, text: String, finish_reason: Option<FinishReason>) -> Completion {
        Completion {
            id: self.id.clone(),
            object: "text_completion".to_owned(),
            created: self.created,
            model: self.model.clone(),
            choices: vec![CompletionChoice { index: 0, text, logprobs: None, finish_reason }],
            usage: None,
        }
    }
}

fn json(value: &impl Serialize) -> Json {
    serde_json::to_string(value)
}
