//! The rest of OpenAI's surface, on a real model: embeddings, several answers, logprobs, forms, tools, and resumes of those.

use serde_json::{Value, json};

use crate::worker::{Worker, events};

fn chat(fields: Value) -> Value {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
        "temperature": 0, "max_tokens": 60});
    for (field, value) in fields.as_object().unwrap() {
        body[field] = value.clone();
    }
    body
}

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": "get_weather", "description": "The weather of a city",
        "parameters": {"type": "object", "required": ["city", "unit"], "additionalProperties": false,
            "properties": {"city": {"type": "string", "maxLength": 12}, "unit": {"enum": ["C", "F"]}}}}},
        {"type": "function", "function": {"name": "now"}}])
}

async fn good(worker: &Worker, path: &str, body: &Value) -> Value {
    let (status, answer) = worker.ask(path, body).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

/// All data of a stream that ended well.
async fn stream(worker: &Worker, path: &str, body: &Value) -> Vec<Value> {
    let mut body = body.clone();
    body["stream"] = json!(true);
    let text = worker.post(path, &body).send().await.unwrap().text().await.unwrap();
    let mut data = events(&text);
    assert_eq!(data.pop(), Some("[DONE]"), "{text}");
    data.into_iter().map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// What a client joins out of the events of choice `index`: content, calls, finish reason.
fn joined(data: &[Value], index: u64) -> (String, Vec<Value>, Value) {
    let (mut content, mut calls, mut reason) = (String::new(), Vec::<Value>::new(), Value::Null);
    let choices = data.iter().flat_map(|event| event["choices"].as_array().unwrap());
    for choice in choices.filter(|choice| choice["index"] == index) {
        assert!(reason.is_null(), "something after the end: {choice}");
        reason = choice["finish_reason"].clone();
        content.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
        for delta in choice["delta"]["tool_calls"].as_array().into_iter().flatten() {
            let nth = usize::try_from(delta["index"].as_u64().unwrap()).unwrap();
            if nth == calls.len() {
                let mut call = delta.clone();
                call.as_object_mut().unwrap().remove("index");
                calls.push(call);
            } else {
                let more = delta["function"]["arguments"].as_str().unwrap();
                let arguments = calls[nth]["function"]["arguments"].as_str().unwrap().to_owned();
                calls[nth]["function"]["arguments"] = json!(arguments + more);
            }
        }
    }
    (content, calls, reason)
}

fn without_ids(calls: &Value) -> Value {
    let mut calls = calls.clone();
    for call in calls.as_array_mut().unwrap() {
        assert!(call["id"].as_str().unwrap().starts_with("call_"));
        call.as_object_mut().unwrap().remove("id");
    }
    calls
}

/// OAI-40, OAI-41, OAI-42.
#[tokio::test]
async fn embeddings_come_in_all_forms_and_mean_something() {
    let Some(worker) = Worker::start(&["--context", "256"]) else { return };
    let embed = async |body: Value| good(&worker, "/v1/embeddings", &body).await;
    let texts = ["A cat sleeps on the sofa.", "A kitten naps on the couch.", "Interest rates rose in March."];
    let answer = embed(json!({"model": "m", "input": texts})).await;
    let vector =
        |index: usize| -> Vec<f64> { serde_json::from_value(answer["data"][index]["embedding"].clone()).unwrap() };
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    assert_eq!((answer["data"].as_array().unwrap().len(), vector(0).len()), (3, 576));
    assert!((dot(&vector(0), &vector(0)) - 1.0).abs() < 1e-4, "not of length one");
    assert!(dot(&vector(0), &vector(1)) > dot(&vector(0), &vector(2)), "cats are more like cats than like banks");
    assert_eq!(answer["usage"]["prompt_tokens"], answer["usage"]["total_tokens"]);

    let alone = embed(json!({"model": "m", "input": texts[0], "encoding_format": "base64"})).await;
    let text = alone["data"][0]["embedding"].as_str().unwrap();
    // 576 numbers of 4 bytes, 3 bytes in 4 characters.
    assert_eq!(text.len(), 576 * 4 / 3 * 4);
    let by_tokens = embed(json!({"model": "m", "input": [[504, 2644], [504]]})).await;
    let one = embed(json!({"model": "m", "input": [504]})).await;
    assert_eq!(by_tokens["data"][1]["embedding"], one["data"][0]["embedding"]);
    assert_eq!((&by_tokens["usage"]["prompt_tokens"], &by_tokens["data"][1]["index"]), (&json!(3), &json!(1)));

    let long = "word ".repeat(400);
    for (input, code) in [
        (json!(""), "invalid_parameter"),
        (json!([]), "invalid_parameter"),
        (json!(["a", ""]), "invalid_parameter"),
        (json!([99_999_999]), "invalid_parameter"),
        (json!(long), "context_length_exceeded"),
        (json!({}), "invalid_request"),
    ] {
        let (status, answer) = worker.ask("/v1/embeddings", &json!({"model": "m", "input": input})).await;
        let error = &answer["error"];
        assert_eq!((status, &error["code"], &error["param"]), (400, &json!(code), &json!("input")), "{answer}");
    }
}

/// OAI-05, OAI-06, OAI-07.
#[tokio::test]
async fn several_answers_are_those_of_their_seeds() {
    let Some(worker) = Worker::start(&["--deterministic", "--slots", "4", "--queue", "4"]) else { return };
    let body = chat(json!({"n": 3, "seed": 5, "temperature": 1, "max_tokens": 12}));
    let whole = good(&worker, "/v1/chat/completions", &body).await;
    let choices = whole["choices"].as_array().unwrap();
    let texts: Vec<&str> = choices.iter().map(|choice| choice["message"]["content"].as_str().unwrap()).collect();
    assert_eq!(choices.iter().map(|choice| &choice["index"]).collect::<Vec<_>>(), [0, 1, 2]);
    assert!(texts[0] != texts[1] && texts[1] != texts[2], "{texts:?}");
    let alone =
        good(&worker, "/v1/chat/completions", &chat(json!({"seed": 5, "temperature": 1, "max_tokens": 12}))).await;
    assert_eq!(alone["choices"][0]["message"]["content"], texts[0]);
    assert_eq!(whole["usage"]["prompt_tokens"], alone["usage"]["prompt_tokens"]);
    assert_eq!(whole["usage"]["completion_tokens"], 36);

    let mut streamed = body.clone();
    streamed["stream_options"] = json!({"include_usage": true});
    let data = stream(&worker, "/v1/chat/completions", &streamed).await;
    for (index, text) in texts.iter().enumerate() {
        assert_eq!(joined(&data, index as u64), ((*text).to_owned(), vec![], json!("length")));
    }
    let (last, before) = data.split_last().unwrap();
    assert_eq!((&last["choices"], &last["usage"]), (&json!([]), &whole["usage"]));
    assert!(before.iter().all(|event| event.get("usage") == Some(&Value::Null)), "usage is null before the end");
    let data = stream(&worker, "/v1/chat/completions", &body).await;
    assert!(data.iter().all(|event| event.get("usage").is_none()), "nobody asked for usage");

    let texts =
        good(&worker, "/v1/completions", &json!({"model": "m", "prompt": ["A", "B"], "n": 2, "max_tokens": 3})).await;
    assert_eq!(texts["choices"].as_array().unwrap().len(), 4);
    let (status, answer) = worker.ask("/v1/chat/completions", &chat(json!({"n": 9}))).await;
    assert_eq!((status, &answer["error"]["param"]), (400, &json!("n")), "{answer}");
}

/// OAI-08, OAI-10, OAI-11.
#[tokio::test]
async fn logprobs_and_biases() {
    let Some(worker) = Worker::start(&["--deterministic"]) else { return };
    let body = chat(json!({"logprobs": true, "top_logprobs": 3, "max_tokens": 8}));
    let whole = good(&worker, "/v1/chat/completions", &body).await;
    let choice = &whole["choices"][0];
    let content = choice["logprobs"]["content"].as_array().unwrap();
    assert_eq!(content.len(), 8);
    let said: Vec<u8> =
        content.iter().flat_map(|entry| serde_json::from_value::<Vec<u8>>(entry["bytes"].clone()).unwrap()).collect();
    assert_eq!(String::from_utf8(said).unwrap(), choice["message"]["content"].as_str().unwrap());
    for entry in content {
        let top = entry["top_logprobs"].as_array().unwrap();
        // Greedy: the likeliest was taken.
        assert_eq!((top.len(), &top[0]["token"], &top[0]["logprob"]), (3, &entry["token"], &entry["logprob"]));
        assert!(top[0]["logprob"].as_f64() >= top[1]["logprob"].as_f64() && entry["logprob"].as_f64() <= Some(0.0));
    }
    let data = stream(&worker, "/v1/chat/completions", &body).await;
    let events = data.iter().filter_map(|event| event["choices"][0]["logprobs"]["content"].as_array());
    assert_eq!(events.flatten().collect::<Vec<_>>(), content.iter().collect::<Vec<_>>());

    let text = good(
        &worker,
        "/v1/completions",
        &json!({"model": "m", "prompt": "The capital of France is", "logprobs": 2,
        "max_tokens": 4, "temperature": 0}),
    )
    .await;
    let columns = &text["choices"][0]["logprobs"];
    assert_eq!(columns["tokens"].as_array().unwrap().concat_text(), text["choices"][0]["text"].as_str().unwrap());
    assert_eq!((columns["token_logprobs"].as_array().unwrap().len(), &columns["text_offset"][0]), (4, &json!(0)));

    let first = |answer: &Value| answer["choices"][0]["text"].as_str().unwrap().to_owned();
    // " Paris" of this model, which greedy decoding gives here.
    let prompt = json!({"model": "m", "prompt": "The capital of France is", "max_tokens": 1, "temperature": 0});
    assert_eq!(first(&good(&worker, "/v1/completions", &prompt).await), " Paris");
    let mut biased = prompt.clone();
    biased["logit_bias"] = json!({"7042": -100});
    assert_ne!(first(&good(&worker, "/v1/completions", &biased).await), " Paris");
}

trait ConcatText {
    fn concat_text(&self) -> String;
}

impl ConcatText for Vec<Value> {
    fn concat_text(&self) -> String {
        self.iter().map(|text| text.as_str().unwrap()).collect()
    }
}

/// OAI-20, OAI-21, OAI-23.
#[tokio::test]
async fn answers_have_the_form_asked_for() {
    let Some(worker) = Worker::start(&[]) else { return };
    let schema = json!({"type": "object", "required": ["city", "degrees", "sky"], "additionalProperties": false,
        "properties": {"city": {"type": "string", "maxLength": 10}, "degrees": {"type": "integer", "minimum": -50, "maximum": 50},
            "sky": {"$ref": "#/$defs/sky"}}, "$defs": {"sky": {"enum": ["clear", "grey"]}}});
    let format = |schema: &Value| json!({"type": "json_schema", "json_schema": {"name": "weather", "schema": schema}});
    for temperature in [0.0, 1.5] {
        let body = chat(json!({"response_format": format(&schema), "temperature": temperature, "seed": 3}));
        let answer = good(&worker, "/v1/chat/completions", &body).await;
        let content = answer["choices"][0]["message"]["content"].as_str().unwrap();
        let value: Value = serde_json::from_str(content).expect(content);
        assert!(value["city"].is_string() && (-50..=50).contains(&value["degrees"].as_i64().unwrap()), "{value}");
        assert!(value["sky"] == "clear" || value["sky"] == "grey", "{value}");
        assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    }
    let body = chat(json!({"response_format": {"type": "json_object"}, "max_tokens": 12}));
    let answer = good(&worker, "/v1/chat/completions", &body).await;
    assert!(answer["choices"][0]["message"]["content"].as_str().unwrap().starts_with('{'), "{answer}");
    for bad in
        [json!({"type": "array", "uniqueItems": true}), json!({"type": "elephant"}), json!({"$ref": "#/nowhere"})]
    {
        let (status, answer) =
            worker.ask("/v1/chat/completions", &chat(json!({"response_format": format(&bad)}))).await;
        let error = &answer["error"];
        assert_eq!(
            (status, &error["code"], &error["param"]),
            (400, &json!("invalid_parameter"), &json!("response_format")),
            "{answer}"
        );
    }
    assert_eq!(worker.health().await["error_count"], 0);
}

/// OAI-30, OAI-31, OAI-33, OAI-35.
#[tokio::test]
async fn tools_are_called_as_the_request_says() {
    let Some(worker) = Worker::start(&["--deterministic"]) else { return };
    let required = chat(json!({"tools": tools(), "tool_choice": "required", "parallel_tool_calls": false}));
    let whole = good(&worker, "/v1/chat/completions", &required).await;
    let choice = &whole["choices"][0];
    let calls = &choice["message"]["tool_calls"];
    assert_eq!((&choice["finish_reason"], calls.as_array().unwrap().len()), (&json!("tool_calls"), 1), "{whole}");
    assert_eq!(choice["message"]["content"], Value::Null);
    let data = stream(&worker, "/v1/chat/completions", &required).await;
    let (content, streamed, reason) = joined(&data, 0);
    assert_eq!((content.as_str(), &reason), ("", &json!("tool_calls")));
    assert_eq!(without_ids(&json!(streamed)), without_ids(calls));

    let named = json!({"type": "function", "function": {"name": "get_weather"}});
    let body = chat(
        json!({"tools": tools(), "tool_choice": named, "temperature": 1.2, "seed": 9, "parallel_tool_calls": false}),
    );
    let answer = good(&worker, "/v1/chat/completions", &body).await;
    let function = &answer["choices"][0]["message"]["tool_calls"][0]["function"];
    let arguments: Value = serde_json::from_str(function["arguments"].as_str().unwrap()).unwrap();
    assert!(arguments["city"].is_string() && (arguments["unit"] == "C" || arguments["unit"] == "F"), "{answer}");
    assert_eq!(function["name"], "get_weather");

    // The tools are in the prompt, unless nothing may be called; a call and its result can be sent back.
    let tokens = async |fields: Value| {
        let answer = good(&worker, "/v1/chat/completions", &chat(fields)).await;
        answer["usage"]["prompt_tokens"].as_u64().unwrap()
    };
    let without = tokens(json!({"max_tokens": 1})).await;
    assert_eq!(tokens(json!({"max_tokens": 1, "tools": tools(), "tool_choice": "none"})).await, without);
    assert!(tokens(json!({"max_tokens": 1, "tools": tools()})).await > without + 50);
    let result = json!({"role": "tool", "tool_call_id": calls[0]["id"], "content": "18 degrees"});
    let messages = json!([{"role": "user", "content": "Weather?"}, choice["message"], result]);
    let answer =
        good(&worker, "/v1/chat/completions", &chat(json!({"messages": messages, "tools": tools(), "max_tokens": 8})))
            .await;
    assert!(answer["choices"][0]["finish_reason"].is_string(), "{answer}");

    let strict = json!([{"type": "function", "function": {"name": "f", "strict": true,
        "parameters": {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": true}}}}}]);
    let (status, answer) = worker.ask("/v1/chat/completions", &chat(json!({"tools": strict}))).await;
    assert_eq!((status, &answer["error"]["param"]), (400, &json!("tools[0].function.parameters")), "{answer}");
}

/// What of a stream's blocks was relayed: events, and for each choice its tokens and bytes.
fn relayed(blocks: &[&str]) -> (Vec<Value>, Vec<Value>) {
    let (mut data, mut choices) = (Vec::new(), Vec::<Value>::new());
    for block in blocks {
        for line in block.lines() {
            if let Some(place) = line.strip_prefix(": rbee ").filter(|place| place.contains(' ')) {
                let [index, tokens, bytes] = place.split(' ').collect::<Vec<_>>()[..] else { panic!("{place}") };
                let (index, bytes): (usize, u64) = (index.parse().unwrap(), bytes.parse().unwrap());
                if index == choices.len() {
                    choices.push(json!({"index": index, "tokens": [], "text_bytes": 0, "finished": null}));
                }
                choices[index]["text_bytes"] = json!(bytes);
                let ids = tokens.split(',').filter_map(|id| id.parse::<i32>().ok()).map(|id| json!(id));
                choices[index]["tokens"].as_array_mut().unwrap().extend(ids);
            } else if let Some(text) = line.strip_prefix("data: ").filter(|text| *text != "[DONE]") {
                let event: Value = serde_json::from_str(text).unwrap();
                for choice in
                    event["choices"].as_array().unwrap().iter().filter(|choice| choice["finish_reason"].is_string())
                {
                    choices[usize::try_from(choice["index"].as_u64().unwrap()).unwrap()]["finished"] =
                        choice["finish_reason"].clone();
                }
                data.push(event);
            }
        }
    }
    (data, choices)
}

async fn resumable(worker: &Worker, body: &Value) -> String {
    let request = worker.post("/v1/chat/completions", body).header("x-rbee-resumable", "1");
    request.send().await.unwrap().text().await.unwrap()
}

/// OAI-22, OAI-34: whatever the form, an answer cut off anywhere goes on as if nothing had happened.
#[tokio::test]
async fn forms_tools_and_several_answers_are_resumed() {
    let Some(worker) = Worker::start(&["--deterministic", "--slots", "2"]) else { return };
    let schema = json!({"type": "object", "required": ["city", "days"], "properties": {"city": {"type": "string", "maxLength": 9},
        "days": {"type": "array", "items": {"enum": ["Monday", "Friday"]}, "maxItems": 2}}, "additionalProperties": false});
    let table = [
        json!({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}),
        json!({"tools": tools(), "tool_choice": "required", "parallel_tool_calls": false}),
        json!({"n": 2, "max_tokens": 6, "presence_penalty": 1.5, "logit_bias": {"28": 4}}),
    ];
    for fields in table {
        let mut body = chat(fields);
        (body["stream"], body["temperature"], body["seed"]) = (json!(true), json!(0.8), json!(11));
        body["stream_options"] = json!({"include_usage": true});
        body["rbee_resume"] = json!({"id": "chatcmpl-0123456789abcdef", "created": 7, "choices": []});
        let text = resumable(&worker, &body).await;
        let blocks: Vec<&str> = text.split_terminator("\n\n").collect();
        assert_eq!(blocks.last(), Some(&"data: [DONE]"), "{text}");
        let (whole, all) = relayed(&blocks);
        for cut in (0..blocks.len() - 1).step_by(3) {
            let (before, choices) = relayed(&blocks[..cut]);
            let mut again = body.clone();
            again["rbee_resume"]["choices"] = json!(choices);
            let rest = resumable(&worker, &again).await;
            let (after, _) = relayed_after(&rest, choices);
            let joint: Vec<Value> = before.into_iter().chain(after).collect();
            for index in 0..all.len() as u64 {
                assert_eq!(joined(&joint, index), joined(&whole, index), "cut at {cut} of {text}\nthen {rest}");
            }
            assert_eq!(joint.last().unwrap()["usage"], whole.last().unwrap()["usage"], "cut at {cut}");
        }
    }
}

/// The same of a stream that goes on from `choices`.
fn relayed_after(text: &str, choices: Vec<Value>) -> (Vec<Value>, Vec<Value>) {
    let opened: Vec<String> = choices.iter().map(|choice| format!(": rbee {} - 0", choice["index"])).collect();
    let blocks: Vec<&str> = opened.iter().map(String::as_str).chain(text.split_terminator("\n\n")).collect();
    relayed(&blocks)
}
