//! OpenAI's wire types as rbee speaks them: strict about the types of what it knows, tolerant of what it does not.
//!
//! A known field that this server cannot honour is kept here as read (`Option<Value>` where its inside does not
//! matter), so that the server can refuse it by name instead of ignoring it. `null` always means "not given".

mod answer;
mod request;

pub use answer::{
    ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, Completion, CompletionChoice, Delta, Embedding, Embeddings,
    EmbeddingsUsage, FinishReason, FunctionDelta, Model, ModelList, ToolCallDelta, Usage, Vector,
};
pub use request::{
    ChatMessage, ChatRequest, CompletionRequest, Content, ContentPart, EmbeddingsRequest, Generation, OneOrMany,
    Prompt, Resume, ResumedChoice, StreamOptions,
};

/// The last event of a stream that ended well. A stream that broke never has it.
pub const DONE: &str = "[DONE]";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn null_and_unknown_fields_are_as_if_absent() {
        let request: ChatRequest = serde_json::from_value(json!({
            "model": "m", "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": null, "stop": null, "some_future_field": {"a": 1}
        }))
        .unwrap();
        assert_eq!(request.generation, Generation::default());
    }

    #[test]
    fn a_wrong_type_is_an_error() {
        for (field, value) in [
            ("max_tokens", json!("12")),
            ("temperature", json!("hot")),
            ("stream", json!("yes")),
            ("stop", json!([1])),
            ("seed", json!(1.5)),
            ("messages", json!("hi")),
        ] {
            let mut body = json!({"model": "m", "messages": []});
            body[field] = value;
            assert!(serde_json::from_value::<ChatRequest>(body).is_err(), "{field} was taken");
        }
    }

    #[test]
    fn prompts_come_in_four_forms() {
        let prompt = |value| serde_json::from_value::<Prompt>(value);
        assert_eq!(prompt(json!("a")).unwrap(), Prompt::Text("a".into()));
        assert_eq!(prompt(json!(["a"])).unwrap(), Prompt::Texts(vec!["a".into()]));
        assert_eq!(prompt(json!([1, 2])).unwrap(), Prompt::Tokens(vec![1, 2]));
        assert_eq!(prompt(json!([[1, 2]])).unwrap(), Prompt::TokenLists(vec![vec![1, 2]]));
        assert!(prompt(json!(7)).is_err());
    }

    #[test]
    fn a_request_survives_its_own_wire_form() {
        let request = ChatRequest {
            model: "m".into(),
            messages: vec![ChatMessage::text("user", "hi")],
            generation: Generation { max_tokens: Some(3), stream: Some(true), ..Generation::default() },
            ..ChatRequest::default()
        };
        let text = serde_json::to_string(&request).unwrap();
        assert!(!text.contains("null"), "{text}");
        assert_eq!(serde_json::from_str::<ChatRequest>(&text).unwrap(), request);
    }

    #[test]
    fn a_content_chunk_has_the_fields_clients_read() {
        let delta = Delta { role: None, content: Some("x".into()), tool_calls: None };
        let choice = ChatChunkChoice { index: 0, delta, logprobs: None, finish_reason: None };
        let chunk = ChatChunk {
            id: "chatcmpl-1".into(),
            object: "chat.completion.chunk".into(),
            created: 1,
            model: "m".into(),
            choices: vec![choice],
            usage: None,
        };
        assert_eq!(
            serde_json::to_value(chunk).unwrap(),
            json!({"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m",
                "choices": [{"index": 0, "delta": {"content": "x"}, "logprobs": null, "finish_reason": null}]})
        );
    }
}
