//! One answer of the mock: the token at position N has id N and the text `wN `, whoever asks and from wherever it goes on.

use std::time::Duration;

use rbee_tests::clock::now_ns;
use serde::Deserialize;
use serde_json::json;

/// Tokens of a request that does not say.
const TOKENS_DEFAULT: usize = 16;

/// What of a request matters here.
#[derive(Debug)]
pub struct Asked {
    pub stream: bool,
    pub tokens: usize,
    /// None: all at once.
    pub token_every: Option<Duration>,
    usage: bool,
    resumable: bool,
    resume: Resume,
}

#[derive(Debug, Default, Deserialize)]
struct Resume {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    created: i64,
    #[serde(default)]
    choices: Vec<ResumedChoice>,
}

#[derive(Debug, Deserialize)]
struct ResumedChoice {
    tokens: Vec<usize>,
    text_bytes: usize,
    finished: Option<String>,
}

impl Asked {
    pub fn parse(body: &[u8], resumable: bool) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Body {
            #[serde(default)]
            stream: bool,
            max_tokens: Option<usize>,
            user: Option<String>,
            #[serde(default)]
            stream_options: StreamOptions,
            #[serde(default)]
            rbee_resume: Resume,
        }
        #[derive(Default, Deserialize)]
        struct StreamOptions {
            #[serde(default)]
            include_usage: bool,
        }
        let body: Body = serde_json::from_slice(body)?;
        let pace = body.user.as_deref().and_then(|user| user.strip_suffix("/s")?.parse::<f64>().ok());
        Ok(Self {
            stream: body.stream,
            tokens: body.max_tokens.unwrap_or(TOKENS_DEFAULT),
            token_every: pace.filter(|pace| *pace > 0.0).map(|pace| Duration::from_secs_f64(1.0 / pace)),
            usage: body.stream_options.include_usage,
            resumable,
            resume: body.rbee_resume,
        })
    }
}

/// Where an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Role,
    Text,
    Usage,
    Done,
    Over,
}

/// An answer on its way.
pub struct Answer<'a> {
    model: &'a str,
    asked: &'a Asked,
    id: String,
    stage: Stage,
    position: usize,
    text_bytes: usize,
    /// Sent before, elsewhere.
    skip_bytes: usize,
}

impl<'a> Answer<'a> {
    pub fn new(model: &'a str, asked: &'a Asked) -> Self {
        let id = asked.resume.id.clone().unwrap_or_else(|| "chatcmpl-mock".to_owned());
        let begun = asked.resume.choices.first();
        let position = begun.map_or(0, |choice| choice.tokens.len());
        let finished = begun.is_some_and(|choice| choice.finished.is_some());
        let stage = match begun {
            Some(_) if finished => Stage::Usage,
            Some(_) => Stage::Text,
            None => Stage::Role,
        };
        let text_bytes = (0..position).map(|position| word(position).len()).sum();
        Self { model, asked, id, stage, position, text_bytes, skip_bytes: begun.map_or(0, |choice| choice.text_bytes) }
    }

    /// The whole answer in one body.
    pub fn whole(&self) -> String {
        let text: String = (0..self.asked.tokens).map(word).collect();
        let mut body = self.part("chat.completion");
        body["choices"] =
            json!([{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}]);
        body["usage"] = self.usage();
        body.to_string()
    }

    /// The next block of the stream, its empty line included. Text is formatted by hand: this runs ten thousand times a
    /// second beside what is measured.
    pub fn next_block(&mut self) -> Option<String> {
        let (id, created, model) = (&self.id, self.asked.resume.created, self.model);
        let choice = |delta: &str, reason: &str| {
            format!(
                r#"data: {{"id":"{id}","object":"chat.completion.chunk","created":{created},"model":"{model}","choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{reason}}}],"t":{}}}"#,
                now_ns()
            )
        };
        match self.stage {
            Stage::Role => {
                self.stage = Stage::Text;
                Some(choice(r#"{"role":"assistant","content":""}"#, "null") + "\n\n")
            }
            Stage::Text if self.position < self.asked.tokens => {
                let text = word(self.position);
                let before = self.text_bytes;
                self.text_bytes += text.len();
                let shown = text.get(self.skip_bytes.saturating_sub(before).min(text.len())..).unwrap_or_default();
                let mark = self.mark(&self.position.to_string());
                let block = format!("{mark}{}\n\n", choice(&format!(r#"{{"content":"{shown}"}}"#), "null"));
                self.position += 1;
                Some(block)
            }
            Stage::Text => {
                self.stage = Stage::Usage;
                Some(format!("{}{}\n\n", self.mark("-"), choice("{}", "\"stop\"")))
            }
            Stage::Usage if self.asked.usage => {
                self.stage = Stage::Done;
                let mut body = self.part("chat.completion.chunk");
                body["choices"] = json!([]);
                body["usage"] = self.usage();
                Some(format!("data: {body}\n\n"))
            }
            Stage::Usage | Stage::Done => {
                self.stage = Stage::Over;
                Some("data: [DONE]\n\n".to_owned())
            }
            Stage::Over => None,
        }
    }

    fn mark(&self, tokens: &str) -> String {
        if self.asked.resumable { format!(": rbee 0 {tokens} {}\n", self.text_bytes) } else { String::new() }
    }

    fn part(&self, object: &str) -> serde_json::Value {
        json!({"id": self.id, "object": object, "created": self.asked.resume.created, "model": self.model})
    }

    fn usage(&self) -> serde_json::Value {
        let tokens = self.asked.tokens;
        json!({"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1})
    }
}

fn word(position: usize) -> String {
    format!("w{position} ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(body: &str) -> (String, usize) {
        let asked = Asked::parse(body.as_bytes(), true).unwrap();
        let mut answer = Answer::new("m", &asked);
        let (mut text, mut roles) = (String::new(), 0);
        while let Some(block) = answer.next_block() {
            let data = block.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
            let Ok(event) = serde_json::from_str::<serde_json::Value>(data) else { continue };
            text += event["choices"][0]["delta"]["content"].as_str().unwrap_or_default();
            roles += usize::from(event["choices"][0]["delta"]["role"].is_string());
        }
        (text, roles)
    }

    #[test]
    fn what_goes_on_elsewhere_fits_what_was_sent() {
        let (whole, roles) = text(r#"{"max_tokens":5,"stream":true}"#);
        assert_eq!((whole.as_str(), roles), ("w0 w1 w2 w3 w4 ", 1));
        // Of the second word one byte was still held back.
        let resumed = r#"{"max_tokens":5,"rbee_resume":{"id":"x","created":1,"choices":[{"index":0,"tokens":[0],"text_bytes":3,"finished":null}]}}"#;
        assert_eq!(text(resumed), ("w1 w2 w3 w4 ".to_owned(), 0));
        let behind = r#"{"max_tokens":2,"rbee_resume":{"id":"x","created":1,"choices":[{"index":0,"tokens":[0],"text_bytes":2,"finished":null}]}}"#;
        assert_eq!(text(behind).0, "w1 ");
    }
}
