//! Requests good and bad, without a model.

use serde_json::json;

use super::*;
use crate::tools::Choice;

fn chat_with(field: &str, value: Value) -> Result<(Vec<Source>, Checked), ApiError> {
    chat_of(json!({ field: value }))
}

/// A small chat request with these fields besides.
fn chat_of(fields: Value) -> Result<(Vec<Source>, Checked), ApiError> {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    for (field, value) in fields.as_object().unwrap() {
        body[field] = value.clone();
    }
    chat(serde_json::from_value(body).unwrap())
}

fn completion_with(field: &str, value: Value) -> Result<(Vec<Source>, Checked), ApiError> {
    let mut body = json!({"model": "m", "prompt": "hi"});
    body[field] = value;
    completion(serde_json::from_value(body).unwrap())
}

fn tool(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": {}}}})
}

/// OAI-04.
#[test]
fn what_cannot_be_honoured_is_refused_by_name() {
    let table = [
        ("functions", json!([{"name": "f"}])),
        ("function_call", json!({"name": "f"})),
        ("modalities", json!(["audio"])),
        ("store", json!(true)),
        ("service_tier", json!("flex")),
        ("audio", json!({"voice": "x"})),
    ];
    for (field, value) in table {
        let error = chat_with(field, value).unwrap_err();
        assert_eq!((error.code, error.param.as_deref()), (ErrorCode::UnsupportedParameter, Some(field)));
    }
    for (field, value) in [("echo", json!(true)), ("best_of", json!(3)), ("suffix", json!("x"))] {
        let error = completion_with(field, value).unwrap_err();
        assert_eq!((error.code, error.param.as_deref()), (ErrorCode::UnsupportedParameter, Some(field)));
    }
}

#[test]
fn the_same_switched_off_is_taken() {
    let table = [
        ("n", json!(1)),
        ("logprobs", json!(false)),
        ("top_logprobs", json!(0)),
        ("tools", json!([])),
        ("tool_choice", json!("none")),
        ("response_format", json!({"type": "text"})),
        ("presence_penalty", json!(0)),
        ("logit_bias", json!({"5": 0})),
        ("modalities", json!(["text"])),
        ("store", json!(false)),
        ("service_tier", json!("auto")),
    ];
    for (field, value) in table {
        let (_, checked) = chat_with(field, value).unwrap();
        assert_eq!((checked.toolbox, checked.logprobs, checked.bending), (None, None, Bending::default()), "{field}");
    }
}

/// OAI-02.
#[test]
fn values_out_of_range_are_named() {
    let table = [
        ("max_tokens", json!(-1)),
        ("max_tokens", json!(0)),
        ("max_completion_tokens", json!(-5)),
        ("temperature", json!(-0.1)),
        ("temperature", json!(2.1)),
        ("top_p", json!(1.5)),
        ("min_p", json!(-1)),
        ("top_k", json!(-2)),
        ("stop", json!([""])),
        ("stop", json!(vec!["x"; 17])),
        ("n", json!(0)),
        ("n", json!(129)),
        ("stream_options", json!({"include_usage": true})),
        ("messages", json!([])),
        ("presence_penalty", json!(2.5)),
        ("frequency_penalty", json!(-3)),
        ("logit_bias", json!({"x": 1})),
        ("logit_bias", json!({"5": 101})),
        ("logit_bias", json!({"5": "1"})),
        ("top_logprobs", json!(3)),
        ("top_logprobs", json!(21)),
        ("tools", json!("f")),
        ("tool_choice", json!("required")),
        ("tool_choice", json!("sometimes")),
    ];
    for (field, value) in table {
        let error = chat_with(field, value.clone()).unwrap_err();
        assert_eq!((error.code, error.param.as_deref()), (ErrorCode::InvalidParameter, Some(field)), "{value}");
    }
    for (field, value) in [("logprobs", json!(6)), ("prompt", json!(vec!["x"; 129]))] {
        assert_eq!(completion_with(field, value).unwrap_err().param.as_deref(), Some(field));
    }
}

#[test]
fn turns_and_prompts_come_in_several_forms() {
    let parts =
        json!([{"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]);
    let (sources, _) = chat_with("messages", parts).unwrap();
    assert_eq!(sources, [Source::Turns(vec![Turn::new("system", "a\nb")])]);
    let image = json!([{"role": "user", "content": [{"type": "image_url"}]}]);
    assert_eq!(chat_with("messages", image).unwrap_err().code, ErrorCode::UnsupportedParameter);
    let strange = json!([{"role": "oracle", "content": "x"}]);
    assert_eq!(chat_with("messages", strange).unwrap_err().param.as_deref(), Some("messages[0].role"));
    let texts = [Source::Text("x".into()), Source::Text("y".into())];
    assert_eq!(completion_with("prompt", json!(["x", "y"])).unwrap().0, texts);
    assert_eq!(completion_with("prompt", json!([5, 6])).unwrap().0, [Source::Tokens(vec![Token(5), Token(6)])]);
}

/// OAI-07.
#[test]
fn seeds_are_kept_and_otherwise_differ() {
    let seed = |result: Result<(Vec<Source>, Checked), ApiError>| result.unwrap().1.sampling.seed;
    assert_eq!(seed(chat_with("seed", json!(7))), 7);
    assert_ne!(seed(chat_with("n", json!(1))), seed(chat_with("n", json!(1))));
}

#[test]
fn logprobs_and_biases_are_understood() {
    let checked = |fields| chat_of(fields).unwrap().1;
    assert_eq!(checked(json!({"logprobs": true})).logprobs, Some(0));
    assert_eq!(checked(json!({"logprobs": true, "top_logprobs": 20})).logprobs, Some(20));
    let bending = checked(json!({"logit_bias": {"5": -100}, "presence_penalty": 1})).bending;
    assert_eq!((bending.bias, bending.presence_penalty), (vec![(Token(5), -100.0)], 1.0));
    assert_eq!(completion_with("logprobs", json!(0)).unwrap().1.logprobs, Some(0));
}

/// OAI-23.
#[test]
fn forms_of_answers() {
    let wanted = |format| chat_with("response_format", format).map(|(_, checked)| checked.wanted);
    let schema = json!({"type": "object"});
    let named = |name: &str| json!({"type": "json_schema", "json_schema": {"name": name, "schema": schema}});
    assert_eq!(wanted(json!({"type": "json_object"})).unwrap(), Wanted::Object);
    assert_eq!(wanted(named("x")).unwrap(), Wanted::Schema(schema.clone()));
    let table = [
        (json!({"type": "yaml"}), "response_format.type"),
        (json!({}), "response_format.type"),
        (json!({"type": "json_schema"}), "response_format.json_schema"),
        (named("a b"), "response_format.json_schema.name"),
        (
            json!({"type": "json_schema", "json_schema": {"name": "x", "schema": 7}}),
            "response_format.json_schema.schema",
        ),
    ];
    for (format, param) in table {
        assert_eq!(wanted(format).unwrap_err().param.as_deref(), Some(param));
    }
}

/// OAI-37.
#[test]
fn tools_are_checked() {
    let toolbox = |fields| chat_of(fields).map(|(_, checked)| checked.toolbox);
    let good =
        toolbox(json!({"tools": [tool("a"), {"type": "function", "function": {"name": "b"}}]})).unwrap().unwrap();
    assert_eq!((good.choice, good.parallel, good.tools.len()), (Choice::Auto, true, 2));
    let named = json!({"type": "function", "function": {"name": "a"}});
    let good = toolbox(json!({"tools": [tool("a")], "tool_choice": named, "parallel_tool_calls": false})).unwrap();
    let good = good.unwrap();
    assert_eq!((good.choice, good.parallel), (Choice::Named("a".into()), false));
    let required = |more: Value| {
        let mut fields = json!({"tools": [tool("a")], "tool_choice": "required"});
        fields["parallel_tool_calls"] = more;
        toolbox(fields).unwrap().unwrap().parallel
    };
    assert_eq!([json!(null), json!(true), json!(false)].map(required), [false, true, false]);
    assert_eq!(toolbox(json!({"tools": [tool("a")], "tool_choice": "none"})).unwrap(), None);
    let of_string = json!({"type": "function", "function": {"name": "f", "parameters": {"type": "string"}}});
    let table = [
        (json!({"tools": [tool("a b")]}), "tools[0].function.name"),
        (json!({"tools": [tool("a"), tool("a")]}), "tools[1].function.name"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
        (json!({"tools": [{}]}), "tools[0].type"),
        (json!({"tools": [of_string]}), "tools[0].function.parameters"),
        (json!({"tools": vec![tool("a"); 129]}), "tools"),
        (json!({"tools": [tool("b")], "tool_choice": named}), "tool_choice.function.name"),
        (json!({"tools": [tool("b")], "tool_choice": {"type": "allowed_tools"}}), "tool_choice.type"),
        (json!({"tools": [tool("b")], "ignore_eos": true}), "ignore_eos"),
    ];
    for (fields, param) in table {
        assert_eq!(toolbox(fields).unwrap_err().param.as_deref(), Some(param));
    }
}

/// OAI-38.
#[test]
fn calls_and_results_of_earlier_turns() {
    let call = json!({"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 1}"}});
    let asked = json!({"role": "assistant", "content": null, "tool_calls": [call]});
    let result = json!({"role": "tool", "tool_call_id": "c1", "content": "5"});
    let (sources, _) = chat_with("messages", json!([asked, result])).unwrap();
    let Source::Turns(turns) = &sources[0] else { panic!("{sources:?}") };
    assert_eq!(turns[0].tool_calls[0]["function"]["arguments"], json!({"a": 1}));
    assert_eq!((turns[1].role.as_str(), turns[1].tool_call_id.as_deref()), ("tool", Some("c1")));
    let table = [
        (json!([result]), "messages[0].tool_call_id"),
        (json!([{"role": "tool", "content": "5"}]), "messages[0].tool_call_id"),
        (json!([{"role": "user", "content": "x", "tool_call_id": "c"}]), "messages[0].tool_call_id"),
        (json!([{"role": "user", "content": "x", "tool_calls": [call]}]), "messages[0].tool_calls"),
        (json!([{"role": "assistant", "content": "x", "tool_calls": [{"id": 1}]}]), "messages[0].tool_calls"),
        (json!([{"role": "assistant"}]), "messages[0].content"),
    ];
    for (messages, param) in table {
        assert_eq!(chat_with("messages", messages).unwrap_err().param.as_deref(), Some(param));
    }
}
