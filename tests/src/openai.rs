//! A plain client of the OpenAI paths. Blocking: a test that wants many streams starts threads.

use std::io::{BufRead, BufReader, Read};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// No answer takes longer.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Talks to one server about one model.
#[derive(Debug, Clone)]
pub struct Client {
    base: String,
    model: String,
    token: Option<String>,
    agent: ureq::Agent,
}

/// A status and a body.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body: JSON, or null where it is none.
    pub body: Value,
    /// The response's correlation id.
    pub correlation_id: Option<String>,
}

/// One streamed answer, read to its end.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Streamed {
    /// The text.
    pub text: String,
    /// Events that carried text.
    pub pieces: usize,
    /// Why it ended, if it said so.
    pub finish_reason: Option<String>,
    /// `[DONE]` came.
    pub done: bool,
    /// The error event, if one came.
    pub error: Option<Value>,
    /// Time to the first piece.
    pub first: Option<Duration>,
    /// Time to the end.
    pub total: Duration,
}

impl Streamed {
    /// Whether it ended as an answer does.
    pub fn is_complete(&self) -> bool {
        self.done && self.error.is_none() && self.finish_reason.is_some() && !self.text.is_empty()
    }
}

impl Client {
    /// A client of `http://HOST:PORT`.
    pub fn new(base: &str, model: &str) -> Self {
        let config =
            ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(TIMEOUT)).proxy(None).build();
        Self { base: base.to_owned(), model: model.to_owned(), token: None, agent: config.new_agent() }
    }

    /// The same client with a bearer token.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// The body of a greedy chat request.
    pub fn chat_body(&self, prompt: &str, max_tokens: i64) -> Value {
        json!({"model": self.model, "messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens,
            "temperature": 0})
    }

    /// POSTs bytes.
    ///
    /// # Panics
    /// When there is no HTTP answer.
    pub fn post(&self, path: &str, body: &[u8]) -> Answer {
        let mut request = self.agent.post(format!("{}{path}", self.base)).content_type("application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        read(request.send(body).unwrap())
    }

    /// POSTs JSON.
    pub fn post_json(&self, path: &str, body: &Value) -> Answer {
        self.post(path, body.to_string().as_bytes())
    }

    /// GETs.
    ///
    /// # Panics
    /// When there is no HTTP answer.
    pub fn get(&self, path: &str) -> Answer {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        read(request.call().unwrap())
    }

    /// A chat answer without streaming: its text, or what went wrong.
    ///
    /// # Errors
    /// The status and body of anything but a 200 with text; the transport's own words.
    pub fn chat(&self, prompt: &str, max_tokens: i64) -> Result<String, String> {
        let url = format!("{}/v1/chat/completions", self.base);
        let mut request = self.agent.post(url).content_type("application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response =
            request.send(self.chat_body(prompt, max_tokens).to_string()).map_err(|error| error.to_string())?;
        let answer = read(response);
        match answer.body["choices"][0]["message"]["content"].as_str() {
            Some(text) if answer.status == 200 => Ok(text.to_owned()),
            _ => Err(format!("{}: {}", answer.status, answer.body)),
        }
    }

    /// A streamed chat answer.
    ///
    /// # Errors
    /// The status and body of anything but a 200; the transport's own words when the stream breaks.
    pub fn stream(&self, prompt: &str, max_tokens: i64) -> Result<Streamed, String> {
        let mut body = self.chat_body(prompt, max_tokens);
        body["stream"] = json!(true);
        let started = Instant::now();
        let url = format!("{}/v1/chat/completions", self.base);
        let mut request = self.agent.post(url).content_type("application/json");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let response = request.send(body.to_string()).map_err(|error| error.to_string())?;
        if response.status() != 200 {
            let answer = read(response);
            return Err(format!("{}: {}", answer.status, answer.body));
        }
        let mut streamed = Streamed::default();
        for line in BufReader::new(response.into_body().into_reader()).lines() {
            let line = line.map_err(|error| format!("the stream broke after {:?}: {error}", streamed.text))?;
            let Some(data) = line.strip_prefix("data: ") else { continue };
            if data == "[DONE]" {
                streamed.done = true;
                continue;
            }
            let event: Value = serde_json::from_str(data).map_err(|error| format!("{error} in event {data}"))?;
            if !event["error"].is_null() {
                streamed.error = Some(event["error"].clone());
            }
            let choice = &event["choices"][0];
            if let Some(text) = choice["delta"]["content"].as_str().filter(|text| !text.is_empty()) {
                streamed.first.get_or_insert_with(|| started.elapsed());
                streamed.pieces += 1;
                streamed.text += text;
            }
            if let Some(reason) = choice["finish_reason"].as_str() {
                streamed.finish_reason = Some(reason.to_owned());
            }
        }
        streamed.total = started.elapsed();
        Ok(streamed)
    }
}

fn read(response: ureq::http::Response<ureq::Body>) -> Answer {
    let status = response.status().as_u16();
    let correlation_id = response.headers().get("x-correlation-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
    let mut text = Vec::new();
    // A body that broke off is no JSON: the caller sees null.
    let _ = response.into_body().into_reader().read_to_end(&mut text);
    Answer { status, body: serde_json::from_slice(&text).unwrap_or(Value::Null), correlation_id }
}
