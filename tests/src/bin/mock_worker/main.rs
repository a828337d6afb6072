//! A worker without a model, in the place of our engine: what it is started with is what the engine is started with, and
//! it speaks as the engine does, with a word of its own for the token at each position.
//!
//! ```text
//!   "user": "N/s" in a request   one token each 1/N s; else all at once
//!   MOCK_MANNER=garbage          200, text/event-stream, and then no events
//! ```
#![expect(clippy::print_stderr, reason = "a program of tests")]

mod answer;

use std::io;
use std::sync::Arc;

use rbee_runtime::{listen, notify};
use rbee_tests::wire::{Head, Wire, put_chunk};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use answer::{Answer, Asked};

/// How it was asked to be.
struct Manner {
    model: String,
    garbage: bool,
}

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    // The engine's other flags mean nothing here, whichever there are.
    let after = |flag: &str| arguments.windows(2).find(|pair| pair[0] == flag).map(|pair| pair[1].clone());
    let address = after("--listen").unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let manner = Manner {
        model: after("--model-name").unwrap_or_else(|| "mock".to_owned()),
        garbage: std::env::var("MOCK_MANNER").is_ok_and(|manner| manner == "garbage"),
    };
    let address = address.parse().map_err(io::Error::other)?;
    // One thread: it shares the machine with what is measured.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(address, Arc::new(manner)))
}

async fn serve(address: std::net::SocketAddr, manner: Arc<Manner>) -> io::Result<()> {
    let listener = listen::listener(address, true).map_err(io::Error::other)?;
    eprintln!("mock: serves {} at {}", manner.model, listener.local_addr()?);
    notify::ready();
    loop {
        let (stream, _) = listener.accept().await?;
        let manner = Arc::clone(&manner);
        tokio::spawn(async move {
            // A client that goes away is no event here.
            let _ = converse(stream, &manner).await;
        });
    }
}

async fn converse(stream: TcpStream, manner: &Manner) -> io::Result<()> {
    let mut wire = Wire::new(stream)?;
    while let Some(head) = wire.head().await? {
        let body = wire.body(&head).await?;
        let mut words = head.start_line().split(' ');
        match (words.next().unwrap_or_default(), words.next().unwrap_or_default()) {
            ("GET", "/health") => {
                send_json(&mut wire, 200, r#"{"healthy":true,"last_activity":null,"queue_depth":0,"error_count":0}"#)
                    .await?;
            }
            ("GET", "/v1/models") => {
                let list = format!(
                    r#"{{"object":"list","data":[{{"id":"{}","object":"model","created":0,"owned_by":"rbee"}}]}}"#,
                    manner.model
                );
                send_json(&mut wire, 200, &list).await?;
            }
            ("POST", "/v1/chat/completions") => match Asked::parse(&body, resumable(&head)) {
                Ok(asked) => answer(&mut wire, manner, &asked).await?,
                Err(error) => {
                    let message =
                        serde_json::json!({"error": {"message": error.to_string(), "code": "invalid_request"}});
                    send_json(&mut wire, 400, &message.to_string()).await?;
                }
            },
            _ => send_json(&mut wire, 404, r#"{"error":{"message":"no such path","code":"not_found"}}"#).await?,
        }
    }
    Ok(())
}

fn resumable(head: &Head) -> bool {
    head.header("x-rbee-resumable") == Some("1")
}

async fn send_json(wire: &mut Wire, status: u16, body: &str) -> io::Result<()> {
    let head =
        format!("HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
    wire.send(&[head.as_bytes(), body.as_bytes()].concat()).await
}

async fn answer(wire: &mut Wire, manner: &Manner, asked: &Asked) -> io::Result<()> {
    let mut answer = Answer::new(&manner.model, asked);
    if !asked.stream {
        if let Some(every) = asked.token_every {
            sleep_until(Instant::now() + every * u32::try_from(asked.tokens).unwrap_or(u32::MAX)).await;
        }
        return send_json(wire, 200, &answer.whole()).await;
    }
    let mut out = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    if manner.garbage {
        put_chunk(
            &mut out,
            &[b"data: {\"id\": \x00\xff no JSON\n\n: rbee 0 x -5\ndata: []\n\n", [b'y'; 4096].as_slice()].concat(),
        );
        return wire.send(&out).await;
    }
    let mut next = Instant::now();
    while let Some(block) = answer.next_block() {
        put_chunk(&mut out, block.as_bytes());
        if let Some(every) = asked.token_every {
            wire.send(&out).await?;
            out.clear();
            next += every;
            sleep_until(next).await;
        }
    }
    put_chunk(&mut out, b"");
    wire.send(&out).await
}
