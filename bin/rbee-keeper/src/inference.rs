//! Asks a model by the OpenAI-compatible API and gives its answer on piece by piece.
//!
//! ```text
//!   POST /v1/chat/completions ─▶ text… ─▶ finish_reason ─▶ usage ─▶ [DONE]
//!                                  └─ error event, or an end without finish_reason ─▶ Failure
//! ```

use std::io;
use std::time::Duration;

use eventsource_stream::Eventsource;
use futures_util::StreamExt;
use rbee_api::ErrorBody;
use rbee_api::openai::{ChatChunk, ChatMessage, ChatRequest, FinishReason, ModelList, StreamOptions, Usage};
use rbee_runtime::token::Token;
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::{Failure, code_text, exit_of};

/// One answer, whole.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Answer {
    /// Who answered.
    pub(crate) model: String,
    /// The text.
    pub(crate) text: String,
    /// Why it ended.
    pub(crate) finish_reason: Option<FinishReason>,
    /// Tokens it took, where the server said so.
    pub(crate) usage: Option<Usage>,
}

/// An OpenAI-compatible server.
#[derive(Debug, Clone)]
pub(crate) struct Inference {
    http: reqwest::Client,
    base_url: String,
    token: Option<Token>,
}

impl Inference {
    pub(crate) fn new(base_url: &str, token: Option<Token>) -> Result<Self, Failure> {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .no_proxy()
            .build()
            .map_err(|error| Failure::new("internal", "cannot build the HTTP client").because(&error))?;
        Ok(Self { http, base_url: base_url.trim_end_matches('/').to_owned(), token })
    }

    /// Names of the models served.
    pub(crate) async fn models(&self) -> Result<Vec<String>, Failure> {
        let response = self.send(self.http.get(format!("{}/v1/models", self.base_url))).await?;
        let list: ModelList = response.json().await.map_err(|error| self.broken(&error))?;
        Ok(list.data.into_iter().map(|model| model.id).collect())
    }

    /// Sends the request and hands each piece of text to `piece`.
    pub(crate) async fn chat(
        &self,
        mut request: ChatRequest,
        mut piece: impl FnMut(&str) -> io::Result<()>,
    ) -> Result<Answer, Failure> {
        request.generation.stream = Some(true);
        request.generation.stream_options = Some(StreamOptions { include_usage: Some(true) });
        let url = format!("{}/v1/chat/completions", self.base_url);
        let response = self.send(self.http.post(url).json(&request)).await?;
        let mut events = response.bytes_stream().eventsource();
        let mut answer = Answer { model: request.model, ..Answer::default() };
        while let Some(event) = events.next().await {
            let event = event.map_err(|error| self.broken(&error))?;
            if event.data == "[DONE]" {
                break;
            }
            if let Ok(body) = serde_json::from_str::<ErrorBody>(&event.data) {
                return Err(refusal(body));
            }
            let chunk: ChatChunk = serde_json::from_str(&event.data).map_err(|error| self.broken(&error))?;
            if answer.take(chunk, &mut piece).is_err() {
                // Nobody reads our output any more; leaving ends the request.
                return Ok(answer);
            }
        }
        match answer.finish_reason {
            Some(_) => Ok(answer),
            None => Err(Failure::new("upstream_broken", "the answer ended early, without a reason").exit(Exit::FAILED)),
        }
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, Failure> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token.expose()),
            None => request,
        };
        let response = request.send().await.map_err(|error| {
            Failure::new("unreachable", format!("no answer from {}", self.base_url))
                .because(&error)
                .hint("`rbee-keeper status` tells what runs, `rbee-keeper up` starts it")
                .exit(Exit::UNAVAILABLE)
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        match response.json::<ErrorBody>().await {
            Ok(body) => Err(refusal(body)),
            Err(_) => {
                Err(Failure::new("not_rbee", format!("{} answered {status}, but not as rbee does", self.base_url))
                    .exit(Exit::UNAVAILABLE))
            }
        }
    }

    fn broken(&self, error: &(dyn std::error::Error + 'static)) -> Failure {
        Failure::new("broken_answer", format!("the answer of {} broke off", self.base_url)).because(error)
    }
}

impl Answer {
    fn take(&mut self, chunk: ChatChunk, piece: &mut impl FnMut(&str) -> io::Result<()>) -> io::Result<()> {
        self.model = chunk.model;
        self.usage = chunk.usage.or(self.usage.take());
        for choice in chunk.choices {
            if let Some(text) = choice.delta.content {
                piece(&text)?;
                self.text += &text;
            }
            self.finish_reason = choice.finish_reason.or(self.finish_reason.take());
        }
        Ok(())
    }
}

fn refusal(body: ErrorBody) -> Failure {
    let mut failure = Failure::new(&code_text(body.error.code), body.error.message).exit(exit_of(body.error.code));
    failure.correlation_id = body.error.correlation_id;
    failure
}

/// The messages of one question.
pub(crate) fn messages(system: Option<&str>, prompt: &str) -> Vec<ChatMessage> {
    let system = system.map(|text| ChatMessage::text("system", text));
    system.into_iter().chain([ChatMessage::text("user", prompt)]).collect()
}
