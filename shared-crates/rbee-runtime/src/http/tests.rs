//! The layers together, as a client sees them.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use http::{Request, Response, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::ServiceExt;

use super::{AllowedHosts, Drained, Json, finish, require_token, serve};
use crate::shutdown::Shutdown;
use crate::token::Token;

const TOKEN: &str = "0123456789abcdef";

fn router() -> Router {
    let token = Token::parse(TOKEN, "test").unwrap();
    let protected = Router::new().route("/api/v1/echo", post(|Json(v): Json<serde_json::Value>| async { Json(v) }));
    let open = Router::new().route("/health", get(|| async { "ok" }));
    let hosts = AllowedHosts::new("127.0.0.1:1".parse().unwrap(), &[]);
    finish(open.merge(require_token(protected, token)), hosts, 1024)
}

async fn ask(request: http::request::Builder, body: impl Into<Body>) -> (StatusCode, Response<()>, serde_json::Value) {
    let has_host = request.headers_ref().is_some_and(|h| h.contains_key("host"));
    let request = if has_host { request } else { request.header("host", "localhost") };
    let response = router().oneshot(request.body(body.into()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let json = serde_json::from_slice(&bytes).unwrap_or(serde_json::Value::Null);
    (parts.status, Response::from_parts(parts, ()), json)
}

fn echo() -> http::request::Builder {
    Request::post("/api/v1/echo")
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {TOKEN}"))
}

#[tokio::test]
async fn unknown_paths_are_json_whatever_the_method() {
    for method in ["GET", "POST", "DELETE", "PATCH", "BREW"] {
        let (status, _, body) = ask(Request::builder().method(method).uri("/nothing/here"), "").await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{method}");
        assert_eq!(body["error"]["code"], "not_found", "{method}");
    }
    let (status, _, body) = ask(Request::delete("/health"), "").await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::METHOD_NOT_ALLOWED, &"method_not_allowed".into()));
}

#[tokio::test]
async fn the_correlation_id_is_kept_or_made_and_is_in_the_error() {
    let (_, response, body) = ask(Request::get("/x").header("x-correlation-id", "abc-1"), "").await;
    assert_eq!(response.headers()["x-correlation-id"], "abc-1");
    assert_eq!(body["error"]["correlation_id"], "abc-1");
    for forged in ["a b", "x\"y", &"a".repeat(129)] {
        let (_, response, body) = ask(Request::get("/x").header("x-correlation-id", forged), "").await;
        let id = response.headers()["x-correlation-id"].to_str().unwrap();
        assert_ne!(id, forged);
        assert_eq!(body["error"]["correlation_id"], id);
    }
}

#[tokio::test]
async fn only_the_right_token_passes_and_health_needs_none() {
    let (status, ..) = ask(Request::get("/health"), "").await;
    assert_eq!(status, StatusCode::OK);
    let (status, _, body) = ask(echo(), r#"{"a":1}"#).await;
    assert_eq!((status, &body["a"]), (StatusCode::OK, &1.into()));
    for header in [None, Some("Bearer 0123456789abcdeX"), Some("Basic 0123456789abcdef"), Some("Bearer")] {
        let mut request = Request::post("/api/v1/echo").header("content-type", "application/json");
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        let (status, response, body) = ask(request, "{}").await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{header:?}");
        assert_eq!(body["error"]["code"], "unauthorized");
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
    }
}

#[tokio::test]
async fn strange_hosts_get_nothing() {
    let (status, _, body) = ask(Request::get("/health").header("host", "evil.example"), "").await;
    assert_eq!((status, &body["error"]["code"]), (StatusCode::FORBIDDEN, &"forbidden_host".into()));
}

#[tokio::test]
async fn bad_bodies_have_their_own_codes() {
    for (body, status, code) in [
        ("{", StatusCode::BAD_REQUEST, "invalid_request"),
        (&"x".repeat(2000) as &str, StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
    ] {
        let (got, _, answer) = ask(echo(), body.to_owned()).await;
        assert_eq!((got, answer["error"]["code"].as_str()), (status, Some(code)));
    }
    let no_type = Request::post("/api/v1/echo").header("authorization", format!("Bearer {TOKEN}"));
    let (status, _, answer) = ask(no_type, "{}").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(answer["error"]["message"].as_str().unwrap().contains("Content-Type"));
}

/// A server with one request in flight that ends only when `release` is notified.
async fn server_with_request_in_flight() -> (
    tokio::task::JoinHandle<std::io::Result<Drained>>,
    tokio::net::TcpStream,
    Shutdown,
    std::sync::Arc<tokio::sync::Notify>,
) {
    let (entered, release) = <(std::sync::Arc<tokio::sync::Notify>, std::sync::Arc<tokio::sync::Notify>)>::default();
    let (inside, leave) = (entered.clone(), release.clone());
    let slow = move || async move {
        inside.notify_one();
        leave.notified().await;
        "done"
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    let of_server = shutdown.clone();
    let server = tokio::spawn(async move {
        serve(listener, Router::new().route("/", get(slow)), &of_server, Duration::from_secs(60)).await
    });
    let mut client = tokio::net::TcpStream::connect(addr).await.unwrap();
    client.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    entered.notified().await;
    (server, client, shutdown, release)
}

#[tokio::test]
async fn a_request_in_flight_is_answered_while_draining() {
    let (server, mut client, shutdown, release) = server_with_request_in_flight().await;
    shutdown.drain();
    release.notify_one();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("done"), "{answer}");
    assert_eq!(server.await.unwrap().unwrap(), Drained::Completely);
}

#[tokio::test]
async fn a_second_signal_cuts_off() {
    let (server, _client, shutdown, _release) = server_with_request_in_flight().await;
    shutdown.advance();
    shutdown.advance();
    assert_eq!(server.await.unwrap().unwrap(), Drained::CutOff);
}
