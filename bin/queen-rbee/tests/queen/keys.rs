//! API keys, and what is counted for each.

use rbee_api::usage::{UsageReply, UsageRow};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::gateway::{error_of, text_of};
use crate::harness::{FakeHive, TOKEN, TestQueen, obedient, within};
use crate::teller::{Fate, Teller};

/// `printf %s alice-0123456789abcdef | sha256sum`, made here so that it cannot be wrong.
fn keys() -> String {
    use sha2::{Digest, Sha256};
    let [alice, bob] = ["alice", "bob"].map(|name| hex::encode(Sha256::digest(format!("{name}-0123456789abcdef"))));
    format!(
        "[queen.keys.alice]\nkey_sha256 = \"{alice}\"\n[queen.keys.bob]\nkey_sha256 = \"{bob}\"\nmodels = [\"n\"]\n"
    )
}

const WORKERS: &str = "[model.m]\nsource = \"file:/m.gguf\"\n[model.n]\nsource = \"file:/n.gguf\"\n[worker.v]\nmodel = \"n\"\nauto_start = false\n[worker.w]\nmodel = \"m\"\n";

async fn usage(queen: &TestQueen) -> Vec<UsageRow> {
    let url = format!("{}/api/v1/usage", queen.url);
    let reply = queen.http.get(url).bearer_auth(TOKEN).send().await.unwrap();
    let reply: UsageReply = reply.json().await.unwrap();
    reply.rows
}

fn chat(queen: &TestQueen, key: &str, body: &Value) -> reqwest::RequestBuilder {
    queen.post("/v1/chat/completions", body.to_string()).bearer_auth(key)
}

/// GATE-14
#[tokio::test]
async fn only_keys_are_let_in_and_what_each_uses_is_counted() {
    let home = tempfile::tempdir().unwrap();
    let (a, b) = (Teller::start().await, Teller::start().await);
    let workers = format!("{}{WORKERS}replicas = 2\n", keys());
    let queen = TestQueen::start(home.path(), "", &workers).await;
    let _hive = FakeHive::start(&queen, "h", obedient(vec![a.port, b.port])).await;
    let body = json!({"model": "m", "messages": [], "max_tokens": 9, "stream": true});

    for wrong in ["eve-0123456789abcdef", "x"] {
        let response = chat(&queen, wrong, &body).send().await.unwrap();
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        assert_eq!(error_of(response).await.1["code"], "unauthorized");
    }
    let nobody = queen.http.get(format!("{}/v1/models", queen.url)).send().await.unwrap();
    assert_eq!(nobody.status(), StatusCode::UNAUTHORIZED, "on loopback too");
    let not_his = chat(&queen, "bob-0123456789abcdef", &body).send().await.unwrap();
    assert_eq!(error_of(not_his).await.1["code"], "model_not_found");
    let list = queen.http.get(format!("{}/v1/models", queen.url)).bearer_auth("bob-0123456789abcdef");
    let list: Value = list.send().await.unwrap().json().await.unwrap();
    assert_eq!(list["data"].as_array().unwrap().len(), 1, "{list}");
    assert_eq!(usage(&queen).await, []);

    // The client does not see the usage it did not ask for; over two workers it counts once.
    a.fates(&[Fate::DiesAt(700)]);
    b.fates(&[Fate::DiesAt(700)]);
    let text = text_of(within(chat(&queen, "alice-0123456789abcdef", &body).send()).await.unwrap()).await;
    assert!(text.ends_with("data: [DONE]\n\n") && !text.contains("\"usage\""), "{text}");
    assert!(text.contains(": x-rbee-resumed: "), "{text}");
    let rows = usage(&queen).await;
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].key.as_str(), rows[0].model.as_str()), ("alice", "m"));
    let counts = rows[0].counts;
    assert_eq!((counts.requests, counts.errors, counts.prompt_tokens, counts.completion_tokens), (1, 0, 3, 9));

    // With the fleet's token one may do everything.
    assert!(text_of(chat(&queen, TOKEN, &body).send().await.unwrap()).await.ends_with("[DONE]\n\n"));
    assert_eq!(usage(&queen).await.len(), 2);
    let metrics = text_of(queen.http.get(format!("{}/metrics", queen.url)).send().await.unwrap()).await;
    assert!(metrics.contains(r#"rbee_queen_key_tokens_total{key="alice",model="m",kind="completion"} 9"#), "{metrics}");
    queen.stop().await;

    // It outlives queen.
    let queen = TestQueen::start(home.path(), "", &workers).await;
    assert_eq!(usage(&queen).await.len(), 2);
    let url = format!("{}/api/v1/usage?since=yesterday", queen.url);
    let bad = queen.http.get(url).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(error_of(bad).await.1["param"], "since");
    queen.stop().await;
}
