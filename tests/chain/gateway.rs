//! Bad requests through the real gateway to the real engine: GATE-01, GATE-02, GATE-09, QUEEN-07, WORK-08, BAD-06.

use std::path::Path;

use rbee_tests::home::Home;
use rbee_tests::openai::{Answer, Client};
use rbee_tests::{model, processes};
use serde_json::{Value, json};

use crate::{SLEEPER, down, pid, up};

const CHAT: &str = "/v1/chat/completions";

fn assert_error(answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, &answer.body["error"]["code"]), (status, &Value::from(code)), "{answer:?}");
    let error = &answer.body["error"];
    assert!(error["message"].as_str().is_some_and(|message| !message.is_empty()), "{answer:?}");
    assert!(error["type"].is_string(), "{answer:?}");
    assert!(answer.correlation_id.is_some(), "{answer:?}");
    assert_eq!(error["correlation_id"].as_str(), answer.correlation_id.as_deref(), "{answer:?}");
}

#[test]
fn what_needs_no_engine_is_refused_at_the_gate() {
    let home = Home::with_config(SLEEPER);
    let queen = pid(&up(&home)["queen"]);
    let client = home.client();
    assert_error(&client.post_json(CHAT, &client.chat_body("x", 1)), 404, "model_not_found");
    assert_error(&client.post(CHAT, b"{\"model\": \"m\", "), 400, "invalid_request");
    assert_error(&client.post(CHAT, b""), 400, "invalid_request");
    assert_error(&client.post(CHAT, b"\xff\xfe"), 400, "invalid_request");
    assert_error(&client.get("/no/such/path"), 404, "not_found");
    assert_error(&client.post("/v1/no-such-path", b"{}"), 404, "not_found");
    let huge = json!({"model": "m", "messages": [{"role": "user", "content": "x".repeat(20_000_000)}]});
    assert_error(&client.post_json(CHAT, &huge), 413, "body_too_large");
    assert_eq!(client.get("/health").status, 200);

    assert_error(&client.get("/api/v1/status"), 401, "unauthorized");
    let wrong = Client::new(&home.queen_url(), "m").with_token("wrong-but-long-enough-to-be-one");
    assert_error(&wrong.get("/api/v1/status"), 401, "unauthorized");
    let right = Client::new(&home.queen_url(), "m").with_token(&home.token());
    assert_eq!(right.get("/api/v1/status").status, 200);
    let (answer, code) = {
        let output = home
            .keeper(&["worker", "list", "--json"])
            .env("RBEE_TOKEN", "wrong-but-long-enough-to-be-one")
            .output()
            .unwrap();
        (serde_json::from_slice::<Value>(&output.stdout).unwrap(), output.status.code())
    };
    assert_eq!((&answer["error"]["code"], code), (&"unauthorized".into(), Some(78)), "{answer}");

    assert!(processes::is_alive(queen), "nothing of it disturbs queen");
    down(&home);
}

fn config(file: &Path) -> String {
    let (name, sha256) = (model::NAME, model::SHA256);
    format!(
        "[model.{name}]\nsource = \"file:{}\"\nsha256 = \"{sha256}\"\n\n[worker.{name}]\nmodel = \"{name}\"\nslots = 2\ncontext = 256\n",
        file.display()
    )
}

#[test]
fn what_the_engine_refuses_reaches_the_client_and_the_next_request_is_answered() {
    let Some(file) = model::file() else { return };
    let home = Home::with_config(&config(&file));
    up(&home);
    let client = home.client();
    assert_error(&client.post_json(CHAT, &client.chat_body("x", -5)), 400, "invalid_parameter");
    let long = client.chat_body(&"word ".repeat(1000), 8);
    assert_error(&client.post_json(CHAT, &long), 400, "context_length_exceeded");
    // Five megabytes: tokenized, refused, and nobody waits for it.
    let novel = client.chat_body(&"a bee, ".repeat(750_000), 8);
    let (meanwhile, refused) = std::thread::scope(|scope| {
        let refused = scope.spawn(|| client.post_json(CHAT, &novel));
        (client.chat("Hi", 4), refused.join().unwrap())
    });
    assert_error(&refused, 400, "context_length_exceeded");
    assert!(meanwhile.is_ok(), "{meanwhile:?}");
    let mut other = client.chat_body("x", 8);
    other["model"] = "gpt-unknown".into();
    let answer = client.post_json(CHAT, &other);
    assert_error(&answer, 404, "model_not_found");
    assert!(
        answer.body["error"]["message"].as_str().unwrap().contains(model::NAME),
        "it names those it has: {answer:?}"
    );

    let text = client.chat("What is the capital of France?", 16).unwrap();
    let streamed = client.stream("What is the capital of France?", 16).unwrap();
    assert!(streamed.is_complete(), "{streamed:?}");
    assert_eq!(streamed.text, text);
    let infer = home
        .keeper(&[
            "infer",
            "--model",
            model::NAME,
            "--max-tokens",
            "16",
            "--temperature",
            "0",
            "What is the capital of France?",
        ])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&infer.stdout).trim(), text.trim());
    down(&home);
}
