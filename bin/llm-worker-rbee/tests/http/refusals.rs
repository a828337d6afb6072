//! Bad input gets a clear error and loses nothing.

use serde_json::{Value, json};

use crate::worker::{Worker, long, run_to_end, test_model};

/// WORK-08, OAI-01.
#[tokio::test]
async fn each_bad_request_has_its_code_and_the_next_good_one_works() {
    let Some(worker) = Worker::start(&["--context", "256"]) else { return };
    let with = |field: &str, value: Value| {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        body[field] = value;
        body
    };
    let words = "word ".repeat(400);
    let table = [
        (with("max_tokens", json!(-1)), 400, "invalid_parameter", json!("max_tokens")),
        (with("max_tokens", json!("x")), 400, "invalid_request", json!("max_tokens")),
        (with("temperature", json!(9)), 400, "invalid_parameter", json!("temperature")),
        (with("model", json!("other")), 404, "model_not_found", json!("model")),
        (with("n", json!(200)), 400, "invalid_parameter", json!("n")),
        (with("tools", json!([{}])), 400, "invalid_parameter", json!("tools[0].type")),
        (with("functions", json!([{}])), 400, "unsupported_parameter", json!("functions")),
        (with("max_token", json!(5)), 400, "unknown_parameter", json!("max_token")),
        (
            with("messages", json!([{"role": "user", "content": words}])),
            400,
            "context_length_exceeded",
            json!("messages"),
        ),
    ];
    for (body, status, code, param) in table {
        let (got, answer) = worker.ask("/v1/chat/completions", &body).await;
        assert_eq!(
            (got, &answer["error"]["code"], &answer["error"]["param"]),
            (status, &json!(code), &param),
            "{answer}"
        );
        assert!(answer["error"]["correlation_id"].is_string() && answer["error"]["type"].is_string(), "{answer}");
    }
    for prompt in [json!([1, 99_999_999]), json!([-1]), json!("")] {
        let (status, answer) = worker.ask("/v1/completions", &json!({"model": "m", "prompt": prompt})).await;
        assert_eq!((status, &answer["error"]["param"]), (400, &json!("prompt")), "{answer}");
    }
    assert!(!worker.complete(&json!({"model": "m", "prompt": "a", "ignore_eos": true})).await.is_empty());
    assert_eq!(worker.health().await["error_count"], 0);
}

/// WORK-08.
#[tokio::test]
async fn broken_bodies_and_unknown_paths_are_json_errors() {
    let Some(worker) = Worker::start(&[]) else { return };
    let send = async |method: &str, path: &str, body: Vec<u8>| {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let response =
            worker.client().request(method, format!("{}{path}", worker.url)).body(body).send().await.unwrap();
        let status = response.status().as_u16();
        (status, response.json::<Value>().await.unwrap()["error"]["code"].as_str().unwrap().to_owned())
    };
    let chat = "/v1/chat/completions";
    assert_eq!(send("POST", chat, b"{\"model\":".to_vec()).await, (400, "invalid_request".into()));
    assert_eq!(send("POST", chat, vec![b'x'; 20 << 20]).await, (413, "body_too_large".into()));
    assert_eq!(send("GET", chat, vec![]).await, (405, "method_not_allowed".into()));
    for method in ["GET", "POST", "DELETE", "BREW"] {
        assert_eq!(send(method, "/v2/nothing", vec![]).await, (404, "not_found".into()));
    }
}

#[tokio::test]
async fn a_long_word_does_not_hurt() {
    let Some(worker) = Worker::start(&[]) else { return };
    let (status, answer) = worker.ask("/v1/completions", &json!({"model": "m", "prompt": "a".repeat(4 << 20)})).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!("context_length_exceeded")), "{answer}");
}

/// WORK-09.
#[tokio::test]
async fn a_full_queue_says_when_to_come_back() {
    let Some(worker) = Worker::start(&["--slots", "1", "--queue", "0"]) else { return };
    let first = worker.post("/v1/completions", &long("a", 1500)).send().await.unwrap();
    let refused = worker.post("/v1/completions", &long("b", 1)).send().await.unwrap();
    assert_eq!(refused.status(), 429);
    let seconds: u32 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=30).contains(&seconds));
    assert_eq!(refused.json::<Value>().await.unwrap()["error"]["code"], "queue_full");
    drop(first);
    worker.wait_for_health("idle", |health| health["slots_busy"] == 0).await;
    assert_eq!(worker.post("/v1/completions", &long("b", 1)).send().await.unwrap().status(), 200);
}

/// WORK-11.
#[tokio::test]
async fn with_a_token_only_health_is_open() {
    let token = "0123456789abcdef-test";
    let Some(worker) = Worker::start_with(&[], |command| _ = command.env("RBEE_TOKEN", token)) else { return };
    assert_eq!(worker.health().await["healthy"], true);
    for path in ["/v1/models", "/metrics"] {
        let url = format!("{}{path}", worker.url);
        assert_eq!(worker.client().get(&url).send().await.unwrap().status(), 401);
        assert_eq!(worker.client().get(&url).bearer_auth("wrong").send().await.unwrap().status(), 401);
        assert_eq!(worker.client().get(&url).bearer_auth(token).send().await.unwrap().status(), 200);
    }
    assert_eq!(worker.ask("/v1/completions", &json!({})).await.0, 401);
}

#[test]
fn bad_flags_and_missing_files_exit_with_78_and_say_what_to_do() {
    let (code, text) = run_to_end(&["--model-path", "/nowhere/at/all.gguf"]);
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("/nowhere/at/all.gguf") && text.contains("\nhint: "), "{text}");
    let (code, text) = run_to_end(&["--model-path", "x", "--sluts", "4"]);
    assert_eq!(code, Some(78), "{text}");
    assert!(text.contains("--slots"), "{text}");
    assert_eq!(run_to_end(&["--help"]).0, Some(0));
}

#[test]
fn a_file_that_is_no_model_exits_with_69() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("broken.gguf");
    std::fs::write(&path, "GGUF but not really").unwrap();
    for more in [&[][..], &["--deterministic"]] {
        let args = [&["--model-path", path.to_str().unwrap(), "--listen", "127.0.0.1:0"][..], more].concat();
        let (code, text) = run_to_end(&args);
        assert_eq!(code, Some(69), "{text}");
        assert!(text.contains("broken.gguf"), "{text}");
    }
}

#[test]
fn a_taken_port_exits_with_69_and_names_the_holder() {
    let Some(model) = test_model() else { return };
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let (code, text) = run_to_end(&["--model-path", model.to_str().unwrap(), "--listen", &address]);
    assert_eq!(code, Some(69), "{text}");
    assert!(text.contains(&format!("pid {}", std::process::id())), "{text}");
}
