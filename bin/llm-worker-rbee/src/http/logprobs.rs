//! Logprobs in OpenAI's two forms.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::answer::Kind;
use crate::engine::{Token, Tokenizer};
use crate::logprobs::Logprobs;

/// JSON knows no infinity; this is OpenAI's.
const LOWEST: f32 = -9999.0;

/// Writes those of one choice.
pub(super) struct Writer {
    kind: Kind,
    tokenizer: Arc<dyn Tokenizer>,
    /// Characters of the tokens before.
    offset: usize,
}

impl Writer {
    pub(super) fn new(kind: Kind, tokenizer: Arc<dyn Tokenizer>) -> Self {
        Self { kind, tokenizer, offset: 0 }
    }

    /// Those of a piece; `None` where it has none.
    pub(super) fn write(&mut self, logprobs: &[Logprobs]) -> Option<Value> {
        if logprobs.is_empty() {
            return None;
        }
        Some(match self.kind {
            Kind::Chat => {
                let content: Vec<Value> = logprobs.iter().map(|of_one| self.chat(of_one)).collect();
                json!({"content": content, "refusal": null})
            }
            Kind::Text => self.text(logprobs),
        })
    }

    fn chat(&self, logprobs: &Logprobs) -> Value {
        let mut written = self.entry(logprobs.token, logprobs.logprob);
        written["top_logprobs"] = logprobs.top.iter().map(|(token, logprob)| self.entry(*token, *logprob)).collect();
        written
    }

    fn entry(&self, token: Token, logprob: f32) -> Value {
        let bytes = self.bytes(token);
        json!({"token": String::from_utf8_lossy(&bytes), "logprob": logprob.max(LOWEST), "bytes": bytes})
    }

    fn text(&mut self, logprobs: &[Logprobs]) -> Value {
        let (mut tokens, mut offsets) = (Vec::new(), Vec::new());
        for of_one in logprobs {
            let token = self.name(of_one.token);
            offsets.push(self.offset);
            self.offset += token.chars().count();
            tokens.push(token);
        }
        let chosen: Vec<f32> = logprobs.iter().map(|of_one| of_one.logprob.max(LOWEST)).collect();
        let top: Vec<Map<String, Value>> = logprobs.iter().map(|of_one| self.top(of_one)).collect();
        json!({"tokens": tokens, "token_logprobs": chosen, "top_logprobs": top, "text_offset": offsets})
    }

    /// The likeliest, and the chosen one beside them.
    fn top(&self, logprobs: &Logprobs) -> Map<String, Value> {
        let chosen = (logprobs.token, logprobs.logprob);
        let all = logprobs.top.iter().chain([&chosen]);
        all.map(|(token, logprob)| (self.name(*token), json!(logprob.max(LOWEST)))).collect()
    }

    fn name(&self, token: Token) -> String {
        String::from_utf8_lossy(&self.bytes(token)).into_owned()
    }

    fn bytes(&self, token: Token) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.tokenizer.append_piece(token, &mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::toy::ToyTokenizer;

    fn some() -> [Logprobs; 2] {
        let of = |token: i32, top| Logprobs { token: Token(token), logprob: -0.5, top };
        [of(0, vec![(Token(1), -0.25), (Token(0), -0.5)]), of(2, vec![(Token(1), f32::NEG_INFINITY)])]
    }

    /// OAI-10.
    #[test]
    fn a_chat_has_one_entry_a_token() {
        let written = Writer::new(Kind::Chat, Arc::new(ToyTokenizer)).write(&some()).unwrap();
        assert_eq!(
            written,
            json!({"refusal": null, "content": [
                {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": [
                    {"token": "b", "logprob": -0.25, "bytes": [98]}, {"token": "a", "logprob": -0.5, "bytes": [97]}]},
                {"token": "c", "logprob": -0.5, "bytes": [99], "top_logprobs": [
                    {"token": "b", "logprob": -9999.0, "bytes": [98]}]},
            ]})
        );
    }

    /// OAI-11.
    #[test]
    fn a_text_has_columns_and_offsets_go_on() {
        let mut writer = Writer::new(Kind::Text, Arc::new(ToyTokenizer));
        assert_eq!(writer.write(&[]), None);
        let first = writer.write(&some()).unwrap();
        assert_eq!((&first["tokens"], &first["text_offset"]), (&json!(["a", "c"]), &json!([0, 1])));
        assert_eq!(first["top_logprobs"], json!([{"b": -0.25, "a": -0.5}, {"b": -9999.0, "c": -0.5}]));
        assert_eq!(writer.write(&some()).unwrap()["text_offset"], json!([2, 3]));
    }
}
