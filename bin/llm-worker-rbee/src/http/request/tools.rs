//! `tools` and `tool_choice`.

use rbee_api::ApiError;
use serde_json::Value;

use super::{invalid, unsupported};
use crate::tools::{Choice, Tool, Toolbox, grammar, no_parameters};

/// Most tools of one request, as OpenAI has it.
const TOOLS_MAX: usize = 128;
const NAME_CHARACTERS_MAX: usize = 64;

pub(super) const NAME_PROBLEM: &str = "must be 1 to 64 letters, digits, `_` or `-`";

/// Whether functions and schemas may be called that.
pub(super) fn is_name(name: &str) -> bool {
    let is_allowed = |character: char| character.is_ascii_alphanumeric() || character == '_' || character == '-';
    (1..=NAME_CHARACTERS_MAX).contains(&name.len()) && name.chars().all(is_allowed)
}

/// The tools that may be called; `None` where none may.
pub(super) fn check(
    tools: Option<Value>,
    choice: Option<Value>,
    parallel: Option<bool>,
) -> Result<Option<Toolbox>, ApiError> {
    let tools = match tools {
        None => Vec::new(),
        Some(Value::Array(tools)) => tools,
        Some(_) => return Err(invalid("tools", "must be an array")),
    };
    if tools.len() > TOOLS_MAX {
        return Err(invalid("tools", &format!("must have at most {TOOLS_MAX} tools, not {}", tools.len())));
    }
    let tools = tools.into_iter().enumerate().map(|(index, source)| tool(index, source));
    let tools = tools.collect::<Result<Vec<_>, _>>()?;
    for (index, tool) in tools.iter().enumerate() {
        if tools[..index].iter().any(|other| other.name == tool.name) {
            let problem = format!("`{}` is the name of two tools", tool.name);
            return Err(invalid(&format!("tools[{index}].function.name"), &problem));
        }
    }
    let Some(choice) = choose(choice, &tools)? else { return Ok(None) };
    let parallel = match choice {
        Choice::Auto => parallel.unwrap_or(true),
        // Small models who must call never tire of it.
        Choice::Required => parallel.unwrap_or(false),
        Choice::Named(_) => false,
    };
    Ok((!tools.is_empty()).then_some(Toolbox { tools, choice, parallel }))
}

fn tool(index: usize, source: Value) -> Result<Tool, ApiError> {
    let of = |field: &str| format!("tools[{index}]{field}");
    match source["type"].as_str() {
        Some("function") => {}
        Some(_) => return Err(unsupported(&of(".type"))),
        None => return Err(invalid(&of(".type"), "is missing")),
    }
    let function = &source["function"];
    let name = function["name"].as_str().filter(|name| is_name(name));
    let name = name.ok_or_else(|| invalid(&of(".function.name"), NAME_PROBLEM))?.to_owned();
    if !(function["description"].is_null() || function["description"].is_string()) {
        return Err(invalid(&of(".function.description"), "must be a string"));
    }
    let parameters = match &function["parameters"] {
        Value::Null => no_parameters(),
        schema => grammar::arguments(schema)
            .ok_or_else(|| invalid(&of(".function.parameters"), "must be a JSON schema of an object"))?,
    };
    let strict = match &function["strict"] {
        Value::Null => false,
        Value::Bool(strict) => *strict,
        _ => return Err(invalid(&of(".function.strict"), "must be true or false")),
    };
    Ok(Tool { name, parameters, strict, source })
}

/// `None`: nothing may be called.
fn choose(choice: Option<Value>, tools: &[Tool]) -> Result<Option<Choice>, ApiError> {
    const PARAM: &str = "tool_choice";
    let Some(choice) = choice else { return Ok(Some(Choice::Auto)) };
    let choice = match (choice.as_str(), choice["type"].as_str()) {
        (Some("none"), _) => return Ok(None),
        (Some("auto"), _) => return Ok(Some(Choice::Auto)),
        (Some("required"), _) => Choice::Required,
        (Some(_), _) | (None, None) => {
            return Err(invalid(PARAM, "must be `none`, `auto`, `required` or name a function"));
        }
        (None, Some("function")) => match choice["function"]["name"].as_str() {
            Some(name) => Choice::Named(name.to_owned()),
            None => return Err(invalid("tool_choice.function.name", "is missing")),
        },
        (None, Some(_)) => return Err(unsupported("tool_choice.type")),
    };
    if tools.is_empty() {
        return Err(invalid(PARAM, "is only for requests with `tools`"));
    }
    match &choice {
        Choice::Named(name) if !tools.iter().any(|tool| tool.name == *name) => {
            Err(invalid("tool_choice.function.name", &format!("`{name}` is none of `tools`")))
        }
        _ => Ok(Some(choice)),
    }
}
