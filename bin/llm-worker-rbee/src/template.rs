//! Renders a conversation with the chat template of the model file, as the Python library it was written for does.

use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, Error, ErrorKind};
use serde::Serialize;

use crate::tools::{Style, prompt};

/// A model's chat template, ready to render.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
    /// How it has calls written, if it knows tools.
    style: Option<Style>,
}

/// One turn as templates see it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Turn {
    /// Who speaks.
    pub role: String,
    /// What is said.
    pub content: String,
    /// Who exactly, or which tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Calls the turn makes, their arguments as JSON instead of its text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<serde_json::Value>,
    /// Which call a result is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl Turn {
    /// Plain text.
    #[must_use]
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        Self { role: role.to_owned(), content: content.into(), ..Self::default() }
    }

    /// Whether it is what a tool gave.
    #[must_use]
    pub fn is_result(&self) -> bool {
        self.role == "tool"
    }
}

/// Why a conversation could not be rendered.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The file's template is broken.
    #[error("the model's chat template is not valid")]
    Invalid {
        /// Where and why.
        #[source]
        source: Error,
    },
    /// The template refuses this conversation.
    #[error("the model's chat template refuses the conversation")]
    Refused {
        /// What it says.
        #[source]
        source: Error,
    },
}

const NAME: &str = "chat";

impl ChatTemplate {
    /// Compiles the template; `bos` and `eos` are the texts of the begin and end token.
    ///
    /// # Errors
    /// [`TemplateError::Invalid`].
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|source| TemplateError::Invalid { source })?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", to_json);
        environment.add_template_owned(NAME, source.to_owned()).map_err(|source| TemplateError::Invalid { source })?;
        let style = Style::of_template(source);
        Ok(Self { environment, bos: bos.to_owned(), eos: eos.to_owned(), style })
    }

    /// How the model is told to write calls.
    #[must_use]
    pub fn style(&self) -> Style {
        self.style.unwrap_or(Style::Tagged)
    }

    /// The prompt for the next answer, with these tools (as OpenAI writes them) told to the model: in the template's own
    /// words where it has some.
    ///
    /// # Errors
    /// [`TemplateError::Refused`].
    pub fn render(&self, turns: &[Turn], tools: &[serde_json::Value]) -> Result<String, TemplateError> {
        match self.style {
            Some(_) => self.render_as_is(turns, tools),
            None => self.render_as_is(&prompt::plain(turns, tools), &[]),
        }
    }

    fn render_as_is(&self, turns: &[Turn], tools: &[serde_json::Value]) -> Result<String, TemplateError> {
        let refused = |source| TemplateError::Refused { source };
        let template = self.environment.get_template(NAME).map_err(refused)?;
        let context = minijinja::context! {
            messages => Value::from(Serde(turns)),
            tools => (!tools.is_empty()).then(|| Value::from(Serde(tools))),
            add_generation_prompt => true,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
        };
        template.render(context).map_err(refused)
    }
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

fn strftime_now(format: String) -> Result<String, Error> {
    let now = jiff::Zoned::now();
    jiff::fmt::strtime::format(&format, &now)
        .map_err(|error| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {error}")))
}

/// JSON as Python writes it: minijinja's own filter escapes for HTML, which the models were not trained on.
fn to_json(value: Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let written = match indent {
        None => write_json(&value, PythonStyle),
        Some(indent) => {
            let spaces = " ".repeat(indent.min(16));
            write_json(&value, serde_json::ser::PrettyFormatter::with_indent(spaces.as_bytes()))
        }
    };
    let failed = |error: serde_json::Error| Error::new(ErrorKind::BadSerialization, error.to_string());
    String::from_utf8(written.map_err(failed)?)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, error.to_string()))
}

fn write_json(value: &Value, formatter: impl serde_json::ser::Formatter) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, formatter))?;
    Ok(bytes)
}

/// A space after each comma and colon.
struct PythonStyle;

impl serde_json::ser::Formatter for PythonStyle {
    fn begin_array_value<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The template in SmolLM2's file.
    const SMOLLM2: &str = "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}\
        {{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}\
        {% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}\
        {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

    fn turn(role: &str, content: &str) -> Turn {
        Turn::new(role, content)
    }

    fn render(source: &str, turns: &[Turn]) -> Result<String, TemplateError> {
        ChatTemplate::new(source, "<s>", "</s>").unwrap().render(turns, &[])
    }

    /// WORK-10.
    #[test]
    fn smollm2_gets_its_default_system_message() {
        assert_eq!(
            render(SMOLLM2, &[turn("user", "Hi")]).unwrap(),
            "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
             <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        );
    }

    #[test]
    fn a_system_message_replaces_the_default() {
        let text = render(SMOLLM2, &[turn("system", "Be brief"), turn("user", "Hi")]).unwrap();
        assert!(!text.contains("SmolLM"), "{text}");
    }

    #[test]
    fn python_methods_blocks_tokens_and_json_work() {
        let source = "{{ bos_token }}\n{% for m in messages %}\n    {% if m.role.startswith('u') %}\n\
            {{ m.content.strip() | tojson }}{{ eos_token }}\n    {% endif %}\n{% endfor %}";
        assert_eq!(render(source, &[turn("user", " <b>'x'&y ")]).unwrap(), "<s>\n\"<b>'x'&y\"</s>\n");
    }

    #[test]
    fn json_is_as_python_writes_it() {
        assert_eq!(
            render("{{ {'a': [1, 'é<'], 'b': none} | tojson }}", &[]).unwrap(),
            r#"{"a": [1, "é<"], "b": null}"#
        );
        assert_eq!(render("{{ [1] | tojson(indent=2) }}", &[]).unwrap(), "[\n  1\n]");
    }

    #[test]
    fn a_template_can_refuse() {
        let error = render("{{ raise_exception('only users') }}", &[]).unwrap_err();
        let TemplateError::Refused { source } = error else { panic!("{error}") };
        assert!(source.to_string().contains("only users"), "{source}");
    }

    #[test]
    fn the_date_is_known() {
        let year = render("{{ strftime_now('%Y') }}", &[]).unwrap();
        assert!(year.parse::<u32>().unwrap() >= 2025, "{year}");
    }

    /// The way Qwen's template writes tools and calls, shortened.
    const TAGGED: &str = "{%- if tools %}{{- '<|im_start|>system\n' }}{%- if messages[0]['role'] == 'system' %}\
        {{- messages[0]['content'] + '\n\n' }}{%- endif %}{{- '<tools>' }}{%- for tool in tools %}{{- '\n' }}\
        {{- tool | tojson }}{%- endfor %}{{- '\n</tools><|im_end|>\n' }}{%- endif %}\
        {%- for message in messages %}{%- if message.role == 'assistant' %}{{- '<|im_start|>assistant' }}\
        {%- if message.content %}{{- '\n' + message.content }}{%- endif %}\
        {%- for tool_call in message.tool_calls %}{%- if tool_call.function is defined %}\
        {%- set tool_call = tool_call.function %}{%- endif %}\
        {{- '\n<tool_call>\n{\"name\": \"' + tool_call.name + '\", \"arguments\": ' }}{{- tool_call.arguments | tojson }}\
        {{- '}\n</tool_call>' }}{%- endfor %}{{- '<|im_end|>\n' }}{%- elif message.role == 'tool' %}\
        {{- '<tool_response>' + message.content + '</tool_response>\n' }}{%- endif %}{%- endfor %}";

    /// OAI-36.
    #[test]
    fn a_template_that_knows_tools_gets_them() {
        let tool = serde_json::json!({"type": "function", "function": {"name": "now", "description": "Time"}});
        let call = serde_json::json!({"id": "c", "type": "function",
            "function": {"name": "now", "arguments": {"zone": "UTC", "a": [1, 2]}}});
        let turns =
            [turn("system", "Brief."), Turn { tool_calls: vec![call], ..turn("assistant", "") }, turn("tool", "12:00")];
        let template = ChatTemplate::new(TAGGED, "", "").unwrap();
        assert_eq!(
            template.render(&turns, &[tool]).unwrap(),
            "<|im_start|>system\nBrief.\n\n<tools>\n\
             {\"type\": \"function\", \"function\": {\"name\": \"now\", \"description\": \"Time\"}}\n</tools><|im_end|>\n\
             <|im_start|>assistant\n<tool_call>\n{\"name\": \"now\", \"arguments\": {\"zone\": \"UTC\", \"a\": [1, 2]}}\n\
             </tool_call><|im_end|>\n<tool_response>12:00</tool_response>\n"
        );
    }

    /// OAI-35.
    #[test]
    fn a_template_without_tools_gets_them_as_text() {
        let tool = serde_json::json!({"type": "function", "function": {"name": "now"}});
        let text = ChatTemplate::new(SMOLLM2, "", "").unwrap().render(&[turn("user", "Hi")], &[tool]).unwrap();
        assert!(text.starts_with("<|im_start|>system\n# Tools\n") && text.contains(r#"{"name":"now"}"#), "{text}");
    }

    /// Constructs of the templates people use: Qwen 3's look back for the last question, Llama 3's rest of the turns.
    #[test]
    fn what_well_known_templates_need_is_there() {
        let looks_back = "{#- tools <tool_call> #}{%- set ns = namespace(multi_step_tool=true, last=messages|length - 1) %}\
            {%- for message in messages[::-1] %}{%- set index = (messages|length - 1) - loop.index0 %}\
            {%- if ns.multi_step_tool and message.role == 'user' and message.content is string and \
            not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}\
            {%- set ns.multi_step_tool = false %}{%- set ns.last = index %}{%- endif %}{%- endfor %}{{ ns.last }}\
            {%- for message in messages %}{%- if message.role == 'assistant' %}\
            {{- ' ' + message.content.split('</think>')[-1].lstrip('\\n') }}{%- endif %}\
            {%- if message.role == 'tool' and (loop.last or (messages[loop.index0 + 1].role != 'tool')) %}{{ ' last' }}\
            {%- endif %}{%- endfor %}{%- if enable_thinking is defined and enable_thinking is false %}no{%- endif %}";
        let turns =
            [turn("user", "?"), turn("assistant", "<think>x</think>\n\ny"), turn("tool", "1"), turn("tool", "2")];
        assert_eq!(render(looks_back, &turns).unwrap(), "0 y last");
        let takes_the_rest = "{%- if messages[0]['role'] == 'system' %}{%- set system = messages[0]['content']|trim %}\
            {%- set messages = messages[1:] %}{%- else %}{%- set system = '' %}{%- endif %}{{ system }}:\
            {%- for message in messages %}{%- if 'tool_calls' in message %}{%- if not message.tool_calls|length == 1 %}\
            {{- raise_exception('single') }}{%- endif %}{%- set call = message.tool_calls[0].function %}\
            {{- '{\"name\": \"' + call.name + '\", \"parameters\": ' }}{{- call.arguments | tojson }}{{- '}' }}\
            {%- for name, value in call.arguments | items %}{{ ' ' + name + '=' + value|string }}{%- endfor %}\
            {%- endif %}{%- endfor %}{{ date_string is defined }}";
        let call = serde_json::json!({"id": "c", "type": "function", "function": {"name": "f", "arguments": {"z": 1, "a": "b"}}});
        let turns = [turn("system", " s "), Turn { tool_calls: vec![call], ..turn("assistant", "") }];
        let expected = "s:{\"name\": \"f\", \"parameters\": {\"z\": 1, \"a\": \"b\"}} z=1 a=bFalse";
        let template = format!("{{# ipython \"parameters\": tools #}}{takes_the_rest}");
        assert_eq!(render(&template, &turns).unwrap(), expected);
    }
}
