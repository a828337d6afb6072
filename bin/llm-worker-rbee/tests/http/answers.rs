//! What answers look like, and that company changes none of them.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::worker::{Worker, events, long};

fn chat(more: Value) -> Value {
    let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "Name three colours."}],
        "temperature": 0, "max_tokens": 24});
    body.as_object_mut().unwrap().append(&mut more.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn a_chat_is_the_same_whole_and_streamed() {
    let Some(worker) = Worker::start(&[]) else { return };
    let (status, whole) = worker.ask("/v1/chat/completions", &chat(json!({}))).await;
    assert_eq!(status, 200, "{whole}");
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(!text.is_empty());
    assert!(whole["usage"]["prompt_tokens"].as_u64().unwrap() > 20, "the template is not there: {whole}");

    let more = json!({"stream": true, "stream_options": {"include_usage": true}});
    let response = worker.post("/v1/chat/completions", &chat(more)).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert!(response.headers().contains_key("x-correlation-id"));
    let body = response.text().await.unwrap();
    let lines = events(&body);
    let (done, chunks) = lines.split_last().unwrap();
    assert_eq!(*done, "[DONE]");
    let chunks: Vec<Value> = chunks.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let streamed: String = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(streamed, text);
    let reasons: Vec<&Value> = chunks.iter().map(|chunk| &chunk["choices"][0]["finish_reason"]).collect();
    assert_eq!(reasons[chunks.len() - 2], &whole["choices"][0]["finish_reason"]);
    assert_eq!(chunks.last().unwrap()["usage"], whole["usage"]);
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]));
}

/// WORK-04.
#[tokio::test]
async fn a_stop_string_is_never_seen_and_ends_the_answer() {
    let Some(worker) = Worker::start(&[]) else { return };
    let body = |stop: Value| json!({"model": "m", "prompt": "Count: one, two, three,", "temperature": 0, "max_tokens": 24, "stop": stop});
    let text = worker.complete(&body(json!(null))).await;
    // A piece from the middle, over token borders; its first place is where the answer must end.
    let middle: String = text.chars().skip(5).take(6).collect();
    let (_, stopped) = worker.ask("/v1/completions", &body(json!([middle, "never there"]))).await;
    assert_eq!(stopped["choices"][0]["finish_reason"], "stop");
    assert_eq!(stopped["choices"][0]["text"], text[..text.find(&middle).unwrap()]);
}

#[tokio::test]
async fn more_streams_than_slots_all_complete() {
    let Some(worker) = Worker::start(&["--slots", "2"]) else { return };
    let streams = (0..9).map(|number| {
        let request = worker.post("/v1/completions", &long(&format!("Number {number} is"), 12));
        async move { request.send().await.unwrap().text().await.unwrap() }
    });
    for body in join_all(streams).await {
        let lines = events(&body);
        assert_eq!(*lines.last().unwrap(), "[DONE]", "{body}");
        assert!(body.contains(r#""finish_reason":"length""#), "{body}");
    }
    let health = worker.wait_for_health("idle", |health| health["slots_busy"] == 0).await;
    assert_eq!((&health["requests"], &health["completion_tokens"]), (&json!(9), &json!(9 * 12)));
}

#[tokio::test]
async fn deterministic_answers_are_the_same_alone_and_in_company() {
    let Some(worker) = Worker::start(&["--deterministic"]) else { return };
    let body = |number: u32| json!({"model": "m", "prompt": format!("{number} bees went out and"), "max_tokens": 20, "temperature": 0.8, "seed": number});
    let mut alone = Vec::new();
    for number in 0..4 {
        alone.push(worker.complete(&body(number)).await);
    }
    let bodies: Vec<Value> = (0..4).map(body).collect();
    let together = join_all(bodies.iter().map(|body| worker.complete(body))).await;
    assert_eq!(together, alone);
    assert_eq!(worker.health().await["deterministic"], true);
}

#[tokio::test]
async fn a_prompt_of_tokens_is_taken() {
    let Some(worker) = Worker::start(&[]) else { return };
    let body = |prompt: Value| json!({"model": "m", "prompt": prompt, "temperature": 0, "max_tokens": 4});
    let (status, answer) = worker.ask("/v1/completions", &body(json!([504, 3575, 282, 4649, 314]))).await;
    assert_eq!((status, &answer["usage"]["prompt_tokens"]), (200, &json!(5)));
    assert_eq!(worker.complete(&body(json!(["The sea"]))).await, worker.complete(&body(json!("The sea"))).await);
}

#[tokio::test]
async fn models_and_metrics_tell_what_is_served() {
    let Some(worker) = Worker::start(&[]) else { return };
    let get = async |path: &str| worker.client().get(format!("{}{path}", worker.url)).send().await.unwrap();
    let models: Value = get("/v1/models").await.json().await.unwrap();
    assert_eq!((&models["object"], &models["data"][0]["id"]), (&json!("list"), &json!("m")));
    assert_eq!(get("/v1/models/m").await.status(), 200);
    assert_eq!(get("/v1/models/other").await.status(), 404);
    worker.complete(&json!({"model": "m", "prompt": "a", "max_tokens": 3, "ignore_eos": true})).await;
    let metrics = get("/metrics").await.text().await.unwrap();
    assert!(metrics.contains(r#"rbee_worker_completion_tokens_total{model="m"} 3"#), "{metrics}");
}
