//! How answers of a server are shown: a little HTTP server plays queen.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread::JoinHandle;

use assert_cmd::Command;
use predicates::prelude::*;

/// Answers one connection with `answer` and returns what was asked.
fn server(answer: &'static str) -> (String, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let serving = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(&stream);
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
            head += &line;
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        (&stream).write_all(answer.as_bytes()).unwrap();
        head + &String::from_utf8(body).unwrap()
    });
    (url, serving)
}

fn keeper(home: &tempfile::TempDir, url: &str) -> Command {
    let mut command = Command::cargo_bin("rbee-keeper").unwrap();
    command.env_clear().env("RBEE_HOME", home.path()).env("RBEE_QUEEN", url).env("RBEE_TOKEN", "0123456789abcdef");
    command
}

macro_rules! stream_of {
    ($($data:literal),* $(,)?) => {
        concat!("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n: heartbeat\n\n",
            $("data: ", $data, "\n\n"),*)
    };
}

const HELLO: &str = stream_of!(
    r#"{"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":"Hel"},"logprobs":null,"finish_reason":null}]}"#,
    r#"{"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"lo"},"logprobs":null,"finish_reason":"stop"}]}"#,
    r#"{"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"total_tokens":5}}"#,
    "[DONE]",
);

#[test]
fn an_answer_streams_to_stdout() {
    let home = tempfile::tempdir().unwrap();
    let (url, serving) = server(HELLO);
    keeper(&home, &url)
        .args(["infer", "--model", "m", "--seed", "7", "--max-tokens", "9", "--system", "be brief", "-"])
        .write_stdin("a question")
        .assert()
        .success()
        .stdout("Hello\n");
    let asked = serving.join().unwrap();
    assert!(asked.starts_with("POST /v1/chat/completions HTTP/1.1"), "{asked}");
    assert!(asked.contains("Bearer 0123456789abcdef"), "{asked}");
    for part in [r#""seed":7"#, r#""max_tokens":9"#, r#""be brief""#, r#""a question""#, r#""stream":true"#] {
        assert!(asked.contains(part), "{part} in {asked}");
    }
}

#[test]
fn an_answer_is_one_document_with_json() {
    let home = tempfile::tempdir().unwrap();
    let (url, serving) = server(HELLO);
    let output = keeper(&home, &url).args(["infer", "--model", "m", "--json", "hi"]).output().unwrap();
    serving.join().unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&answer["text"], &answer["finish_reason"]), (&"Hello".into(), &"stop".into()));
    assert_eq!(answer["usage"]["total_tokens"], 5);
}

#[test]
fn an_answer_that_breaks_off_is_no_success() {
    const CUT: &str = stream_of!(
        r#"{"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"Hel"},"logprobs":null,"finish_reason":null}]}"#
    );
    const FAILED: &str = stream_of!(
        r#"{"id":"1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,"delta":{"content":"Hel"},"logprobs":null,"finish_reason":null}]}"#,
        r#"{"error":{"code":"upstream_broken","message":"the worker died","type":"server_error","param":null,"correlation_id":"c1"}}"#,
    );
    let home = tempfile::tempdir().unwrap();
    for (answer, error) in [(CUT, "error: the answer ended early"), (FAILED, "error: the worker died")] {
        let (url, serving) = server(answer);
        keeper(&home, &url)
            .args(["infer", "--model", "m", "hi"])
            .assert()
            .code(1)
            .stdout("Hel\n")
            .stderr(predicate::str::contains(error));
        serving.join().unwrap();
    }
}

#[test]
fn refusals_keep_their_code_and_say_what_to_do() {
    const NO_WORKER: &str = "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n\
        {\"error\":{\"code\":\"worker_not_found\",\"message\":\"no worker `x`\",\"type\":\"invalid_request_error\",\"param\":null,\"correlation_id\":\"c7\"}}";
    const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n\
        {\"error\":{\"code\":\"unavailable\",\"message\":\"no worker is ready\",\"type\":\"server_error\",\"param\":null,\"correlation_id\":\"c8\"}}";
    const STRANGER: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n<html>";
    let home = tempfile::tempdir().unwrap();
    for (args, answer, code, error) in [
        (&["worker", "start", "x"][..], NO_WORKER, 1, "worker_not_found"),
        (&["infer", "--model", "m", "hi"], BUSY, 75, "unavailable"),
        (&["worker", "list"], STRANGER, 1, "broken_answer"),
    ] {
        let (url, serving) = server(answer);
        let output = keeper(&home, &url).args(args).arg("--json").output().unwrap();
        serving.join().unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((output.status.code(), answer["error"]["code"].as_str()), (Some(code), Some(error)));
    }
}

#[test]
fn a_worker_that_failed_shows_its_last_lines() {
    const FAILED: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n\
        {\"changed\":true,\"workers\":[{\"hive\":\"local\",\"name\":\"a\",\"replica\":0,\"phase\":\"failed\",\"pid\":null,\"port\":null,\
        \"model\":null,\"incarnation\":6,\"restarts\":5,\"uptime_s\":0.0,\"rss_bytes\":0,\"cpu_percent\":0.0,\"health\":null,\
        \"reason\":\"exit code 3\",\"last_log_lines\":[\"boom\"]}]}";
    let home = tempfile::tempdir().unwrap();
    let (url, serving) = server(FAILED);
    keeper(&home, &url).args(["worker", "start", "a"]).assert().code(1).stderr(
        predicate::str::contains("error: local:a/0 is failed, not running: exit code 3")
            .and(predicate::str::contains("  boom\n"))
            .and(predicate::str::contains("hint: `rbee-keeper worker logs a/0`")),
    );
    assert!(serving.join().unwrap().starts_with("POST /api/v1/workers/a/start"));
}

#[test]
fn a_server_that_says_nothing_is_75_in_time() {
    // Bound and never accepted: the kernel takes the connection, nobody answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let home = tempfile::tempdir().unwrap();
    keeper(&home, &url)
        .args(["worker", "list", "--timeout", "300ms"])
        .assert()
        .code(75)
        .stderr(predicate::str::contains("error: not done within 300ms"));
}
