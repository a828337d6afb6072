//! Turns of a conversation as templates want them.

use std::collections::HashSet;

use rbee_api::ApiError;
use rbee_api::openai::{ChatMessage, Content, ContentPart};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{invalid, unsupported};
use crate::template::Turn;

pub(super) fn check(messages: Vec<ChatMessage>) -> Result<Vec<Turn>, ApiError> {
    if messages.is_empty() {
        return Err(invalid("messages", "must have at least one message"));
    }
    let mut called = HashSet::new();
    messages.into_iter().enumerate().map(|(index, message)| turn(index, message, &mut called)).collect()
}

/// `called`: ids of all calls so far.
fn turn(index: usize, message: ChatMessage, called: &mut HashSet<String>) -> Result<Turn, ApiError> {
    let of = |field: &str| format!("messages[{index}].{field}");
    let calls = message.tool_calls.filter(|calls| *calls != Value::Array(Vec::new()));
    let role = match message.role.as_str() {
        "developer" => "system".to_owned(),
        "system" | "user" | "assistant" | "tool" => message.role,
        "function" => return Err(unsupported(&of("role"))),
        other => {
            let known = "system, developer, user, assistant, tool";
            return Err(invalid(&of("role"), &format!("`{other}` is none of {known}")));
        }
    };
    if calls.is_some() && role != "assistant" {
        return Err(invalid(&of("tool_calls"), "are only for the role `assistant`"));
    }
    let tool_calls = calls.map_or(Ok(Vec::new()), |calls| tool_calls(calls, &of("tool_calls")))?;
    called.extend(tool_calls.iter().filter_map(|call| call["id"].as_str().map(str::to_owned)));
    if role == "tool" {
        let id = message.tool_call_id.as_ref().ok_or_else(|| invalid(&of("tool_call_id"), "is missing"))?;
        if !called.contains(id) {
            let problem = format!("`{id}` is no call of an earlier message with `tool_calls`");
            return Err(invalid(&of("tool_call_id"), &problem));
        }
    } else if message.tool_call_id.is_some() {
        return Err(invalid(&of("tool_call_id"), "is only for the role `tool`"));
    }
    let content = match message.content {
        Some(Content::Text(text)) => text,
        Some(Content::Parts(parts)) => text_of(parts, &of("content"))?,
        None if !tool_calls.is_empty() => String::new(),
        None => message.refusal.ok_or_else(|| invalid(&of("content"), "is missing"))?,
    };
    Ok(Turn { role, content, name: message.name, tool_calls, tool_call_id: message.tool_call_id })
}

fn text_of(parts: Vec<ContentPart>, param: &str) -> Result<String, ApiError> {
    let texts = parts.into_iter().map(|part| match (part.kind.as_str(), part.text, part.refusal) {
        ("text", Some(text), _) | ("refusal", _, Some(text)) => Ok(text),
        ("text" | "refusal", ..) => Err(invalid(param, "has a text part without text")),
        _ => Err(unsupported(param)),
    });
    Ok(texts.collect::<Result<Vec<_>, _>>()?.join("\n"))
}

/// A call as clients send it back.
#[derive(Debug, Deserialize)]
struct Call {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    function: Function,
}

#[derive(Debug, Deserialize)]
struct Function {
    name: String,
    arguments: String,
}

fn tool_calls(calls: Value, param: &str) -> Result<Vec<Value>, ApiError> {
    let calls: Vec<Call> =
        serde_json::from_value(calls).map_err(|error| invalid(param, &format!("is no list of tool calls: {error}")))?;
    let call = |call: Call| {
        if call.kind != "function" {
            return Err(unsupported(param));
        }
        let Function { name, arguments } = call.function;
        // Templates write JSON themselves. What a model cut off in the middle stays the text it is.
        let arguments = serde_json::from_str(&arguments).unwrap_or(Value::String(arguments));
        Ok(json!({"id": call.id, "type": "function", "function": {"name": name, "arguments": arguments}}))
    };
    calls.into_iter().map(call).collect()
}
