//! The words that tell a model of its tools, for templates that have none: those of Hermes and Qwen, which most small
//! models have seen, in a system message; calls and results of earlier turns as the text they were.

use serde_json::Value;

use crate::template::Turn;

const INTRODUCTION: &str = "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n\
    You are provided with function signatures within <tools></tools> XML tags:\n<tools>";
const MANNERS: &str = "\n</tools>\n\nFor each function call, return a json object with function name and arguments \
    within <tool_call></tool_call> XML tags:\n<tool_call>\n\
    {\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call>";

/// The conversation as a template can take it that knows nothing of tools.
#[must_use]
pub fn plain(turns: &[Turn], tools: &[Value]) -> Vec<Turn> {
    let mut plain: Vec<Turn> = Vec::with_capacity(turns.len() + 1);
    if !tools.is_empty() {
        plain.push(Turn::new("system", introduction(tools)));
    }
    for turn in turns {
        let turn = without_calls(turn);
        match plain.last_mut() {
            // The introduction belongs behind the client's own words.
            Some(first) if turn.role == "system" && plain_is_introduction(first, tools) => {
                first.content = format!("{}\n\n{}", turn.content, first.content);
            }
            // Results that follow one another answer one turn; templates want turns to alternate.
            Some(last) if turn.is_result() && last.is_result() => {
                last.content.push('\n');
                last.content.push_str(&turn.content);
            }
            _ => plain.push(turn),
        }
    }
    for turn in &mut plain {
        if turn.is_result() {
            turn.role = "user".to_owned();
        }
    }
    plain
}

fn plain_is_introduction(turn: &Turn, tools: &[Value]) -> bool {
    !tools.is_empty() && turn.role == "system" && turn.content.starts_with(INTRODUCTION)
}

fn introduction(tools: &[Value]) -> String {
    let signatures: String = tools.iter().map(|tool| format!("\n{tool}")).collect();
    format!("{INTRODUCTION}{signatures}{MANNERS}")
}

fn without_calls(turn: &Turn) -> Turn {
    if turn.is_result() {
        return Turn::new("tool", format!("<tool_response>\n{}\n</tool_response>", turn.content));
    }
    let mut content = turn.content.clone();
    for call in &turn.tool_calls {
        if !content.is_empty() {
            content.push('\n');
        }
        let function = &call["function"];
        let (name, arguments) = (&function["name"], &function["arguments"]);
        content.push_str(&format!("<tool_call>\n{{\"name\": {name}, \"arguments\": {arguments}}}\n</tool_call>"));
    }
    Turn::new(&turn.role, content)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn tools() -> Vec<Value> {
        vec![json!({"type": "function", "function": {"name": "now"}})]
    }

    /// OAI-35.
    #[test]
    fn the_tools_stand_in_the_system_message() {
        let turns = [Turn::new("system", "Be brief."), Turn::new("user", "hi")];
        let plain = plain(&turns, &tools());
        assert_eq!(plain.len(), 2);
        assert!(plain[0].content.starts_with("Be brief.\n\n# Tools"), "{}", plain[0].content);
        assert!(
            plain[0].content.contains("<tools>\n{\"type\":\"function\",\"function\":{\"name\":\"now\"}}\n</tools>")
        );
        assert_eq!(super::plain(&turns[1..], &tools())[0].role, "system");
        assert_eq!(super::plain(&turns, &[]), turns);
    }

    #[test]
    fn earlier_calls_and_results_are_text() {
        let call = json!({"id": "c", "type": "function", "function": {"name": "now", "arguments": {"in": "UTC"}}});
        let asked = Turn { tool_calls: vec![call.clone(), call], ..Turn::new("assistant", "") };
        let turns = [Turn::new("user", "?"), asked, Turn::new("tool", "1"), Turn::new("tool", "2")];
        let plain = plain(&turns, &[]);
        let one = "<tool_call>\n{\"name\": \"now\", \"arguments\": {\"in\":\"UTC\"}}\n</tool_call>";
        assert_eq!(plain[1], Turn::new("assistant", format!("{one}\n{one}")));
        let results = "<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response>";
        assert_eq!(plain[2..], [Turn::new("user", results)]);
    }
}
