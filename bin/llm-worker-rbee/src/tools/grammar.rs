//! What an answer with tools may look like.

use serde_json::{Value, json};

use super::{Choice, Style, Tool, Toolbox};
use crate::grammar::{Form, json, literal};

/// The grammar of a whole answer. `answer`: schema of an answer that calls nothing, where it must be JSON.
#[must_use]
pub fn form(toolbox: &Toolbox, style: Style, answer: Option<&Value>) -> Form {
    let several = toolbox.parallel && style == Style::Tagged;
    let calls = if several { "call (\"\\n\" call)*" } else { "call" };
    let start = match (&toolbox.choice, answer) {
        (Choice::Required | Choice::Named(_), _) => format!("start: {calls}"),
        (Choice::Auto, Some(schema)) => format!("start: {calls} | answer\nanswer: {}", json(schema)),
        (Choice::Auto, None) => free(style, several),
    };
    let tools = toolbox.tools.iter().filter(|tool| match &toolbox.choice {
        Choice::Named(name) => tool.name == *name,
        Choice::Auto | Choice::Required => true,
    });
    let call = format!("call: {}", literal(style.before_name()));
    let rules = start.contains(" call").then(|| format!("{call} rest"));
    let rest: Vec<String> = tools.map(|tool| rest(tool, style)).collect();
    let rules = [Some(start), rules, Some(format!("rest: {}", rest.join("\n  | ")))];
    Form::lark(rules.into_iter().flatten().collect::<Vec<_>>().join("\n"))
}

/// Text, and calls in it.
fn free(style: Style, several: bool) -> String {
    match style {
        Style::Tagged => {
            let (tag, rest_of_opening) = style.before_name().split_at("<tool_call>".len());
            let times = if several { "*" } else { "?" };
            let after = if several { "TEXT" } else { "" };
            let start =
                if several { format!("start: tagged{times} {after}") } else { "start: TEXT | tagged".to_owned() };
            // What goes before a tag ends with it; other text never has one.
            format!(
                "{start}\ntagged: opening {} rest\nopening[lazy]: /(?s:.*){tag}/\n\
                 TEXT: /(?s:.*)/ & ~/(?s:.*){tag}(?s:.*)/",
                literal(rest_of_opening)
            )
        }
        Style::Bare => "start: call | TEXT | \"\"\nTEXT: /[^{](?s:.*)/".to_owned(),
    }
}

/// A call from the function's name on.
fn rest(tool: &Tool, style: Style) -> String {
    let opening = format!("{}{}", tool.name, style.before_arguments());
    format!("{} {} {}", literal(&opening), json(&tool.parameters), literal(style.after_arguments()))
}

/// A function's schema as it is enforced: its arguments are an object in any case.
#[must_use]
pub fn arguments(schema: &Value) -> Option<Value> {
    let mut fields = schema.as_object()?.clone();
    match fields.get("type") {
        None => _ = fields.insert("type".to_owned(), json!("object")),
        Some(kind) if kind == "object" => {}
        Some(_) => return None,
    }
    Some(Value::Object(fields))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::grammar::tests::fits;
    use crate::tools::tests::toolbox;

    const WEATHER: &str = "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Paris\"}}\n</tool_call>";
    const NOW: &str = "<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>";

    /// OAI-30.
    #[test]
    fn required_is_a_call_and_nothing_else() {
        let form = form(&toolbox(Choice::Required, true), Style::Tagged, None);
        assert_eq!(fits(&form, WEATHER), Ok(()));
        assert_eq!(fits(&form, &format!("{NOW}\n{WEATHER}")), Ok(()));
        assert_eq!(fits(&form, "Sure"), Err(0));
        assert_eq!(fits(&form, ""), Err(0));
        let unknown = WEATHER.replace("weather", "wither");
        assert_eq!(fits(&form, &unknown), Err(unknown.find("ither").unwrap()));
        let other = WEATHER.replace("city", "town");
        assert_eq!(fits(&form, &other), Err(other.find("town").unwrap()));
    }

    /// OAI-31.
    #[test]
    fn a_named_one_is_that_one_and_one_is_one() {
        let named = form(&toolbox(Choice::Named("now".into()), true), Style::Tagged, None);
        assert_eq!((fits(&named, NOW), fits(&named, WEATHER).is_err()), (Ok(()), true));
        let one = form(&toolbox(Choice::Required, false), Style::Tagged, None);
        assert_eq!((fits(&one, NOW), fits(&one, &format!("{NOW}\n{NOW}"))), (Ok(()), Err(NOW.len())));
    }

    /// OAI-32.
    #[test]
    fn auto_is_text_or_good_calls() {
        let form = form(&toolbox(Choice::Auto, true), Style::Tagged, None);
        for good in ["", "Just <b>text</b>\nand <tool", WEATHER, &format!("Let me see.\n{WEATHER}\n{NOW} done")] {
            assert_eq!(fits(&form, good), Ok(()), "{good}");
        }
        assert_eq!(fits(&form, "Hm <tool_call>nonsense"), Err("Hm <tool_call>".len()));
        let one = super::form(&toolbox(Choice::Auto, false), Style::Tagged, None);
        for good in ["text", &format!("a {NOW}")] {
            assert_eq!(fits(&one, good), Ok(()), "{good}");
        }
        assert_eq!(fits(&one, &format!("{NOW} ")), Err(NOW.len()));
    }

    #[test]
    fn auto_with_a_form_is_calls_or_that_form() {
        let schema = json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "null"}}});
        let form = form(&toolbox(Choice::Auto, true), Style::Tagged, Some(&schema));
        assert_eq!((fits(&form, r#"{"a": null}"#), fits(&form, NOW), fits(&form, "x")), (Ok(()), Ok(()), Err(0)));
    }

    #[test]
    fn bare_calls_are_the_whole_answer() {
        let auto = form(&toolbox(Choice::Auto, true), Style::Bare, None);
        let call = r#"{"name": "weather", "parameters": {"city": "Rome"}}"#;
        for good in ["", "text {x}", call] {
            assert_eq!(fits(&auto, good), Ok(()), "{good}");
        }
        assert_eq!(fits(&auto, r#"{"x""#), Err(2));
        let required = form(&toolbox(Choice::Required, true), Style::Bare, None);
        assert_eq!((fits(&required, call), fits(&required, "text")), (Ok(()), Err(0)));
    }

    #[test]
    fn arguments_are_objects() {
        assert_eq!(arguments(&json!({"properties": {}})), Some(json!({"properties": {}, "type": "object"})));
        assert_eq!((arguments(&json!({"type": "string"})), arguments(&json!([]))), (None, None));
    }
}
