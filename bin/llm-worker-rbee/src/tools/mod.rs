//! Tools a model may call. How calls are written depends on what the model's template was made for; what may be written
//! is enforced by grammar, so that a call always names a tool that is there, with arguments of its schema.
//!
//! ```text
//!   request ─▶ [`Toolbox`] ─▶ prompt (the template's own words, or [`prompt`]'s)
//!                        └──▶ [`grammar`] ─▶ the model's text ─▶ [`parse`] ─▶ content and calls
//! ```

pub mod grammar;
pub mod parse;
pub mod prompt;

use serde_json::{Value, json};

/// One function.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Letters, digits, `_`, `-`.
    pub name: String,
    /// Schema of its arguments.
    pub parameters: Value,
    /// Whether a schema that cannot be enforced is an error.
    pub strict: bool,
    /// As the client wrote it, for the prompt.
    pub source: Value,
}

/// Whether and what to call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// As the model likes.
    Auto,
    /// Something.
    Required,
    /// This one.
    Named(String),
}

/// The tools of a request; there is at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct Toolbox {
    /// What there is.
    pub tools: Vec<Tool>,
    /// Whether and what to call.
    pub choice: Choice,
    /// Whether one answer may make several calls.
    pub parallel: bool,
}

/// How a model writes its calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// `<tool_call>\n{"name": …, "arguments": …}\n</tool_call>`, several after one another, text before: Hermes, Qwen.
    Tagged,
    /// `{"name": …, "parameters": …}` and nothing else: Llama 3.
    Bare,
}

impl Style {
    /// The one a template was made for, if it knows tools in a way known here.
    #[must_use]
    pub fn of_template(source: &str) -> Option<Self> {
        let has = |text: &str| source.contains(text);
        if !has("tools") {
            None
        } else if has("<tool_call>") && !has("<function=") && !has("<arg_key>") {
            Some(Self::Tagged)
        } else if has("<|python_tag|>") || (has("\"parameters\": ") && has("ipython")) {
            Some(Self::Bare)
        } else {
            None
        }
    }

    pub(crate) const fn before_name(self) -> &'static str {
        match self {
            Self::Tagged => "<tool_call>\n{\"name\": \"",
            Self::Bare => "{\"name\": \"",
        }
    }

    pub(crate) const fn before_arguments(self) -> &'static str {
        match self {
            Self::Tagged => "\", \"arguments\": ",
            Self::Bare => "\", \"parameters\": ",
        }
    }

    pub(crate) const fn after_arguments(self) -> &'static str {
        match self {
            Self::Tagged => "}\n</tool_call>",
            Self::Bare => "}",
        }
    }
}

/// Schema of a function without parameters.
#[must_use]
pub fn no_parameters() -> Value {
    json!({"type": "object", "properties": {}, "additionalProperties": false})
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn toolbox(choice: Choice, parallel: bool) -> Toolbox {
        let tool = |name: &str, parameters: Value| Tool {
            name: name.into(),
            source: json!({"type": "function", "function": {"name": name, "parameters": parameters}}),
            parameters,
            strict: false,
        };
        let weather = json!({"type": "object", "required": ["city"], "additionalProperties": false,
            "properties": {"city": {"type": "string"}}});
        Toolbox { tools: vec![tool("weather", weather), tool("now", no_parameters())], choice, parallel }
    }

    #[test]
    fn templates_tell_how_they_write_calls() {
        let table = [
            ("{% for m in messages %}{{ m.content }}{% endfor %}", None),
            ("{% if tools %}<tools></tools><tool_call></tool_call>{% endif %}", Some(Style::Tagged)),
            ("{% if tools %}<tool_call><function=f></tool_call>{% endif %}", None),
            ("{% if tools %}{\"name\": function name, \"parameters\": x} ipython{% endif %}", Some(Style::Bare)),
            ("{% if tools %}[AVAILABLE_TOOLS]{% endif %}", None),
        ];
        for (source, style) in table {
            assert_eq!(Style::of_template(source), style, "{source}");
        }
    }
}
