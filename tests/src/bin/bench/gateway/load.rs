//! Clients: some that ask again and again, some that hold a stream and look at the time in each of its events.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rbee_tests::clock::now_ns;
use rbee_tests::wire::Wire;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Events of a stream that are not counted: the others still come.
const EVENTS_IGNORED: usize = 60;
/// Between the starts of two streams. Not a multiple of any pace: their events spread over it.
const START_APART: Duration = Duration::from_micros(4_370);

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    pub stream: bool,
    pub tokens: usize,
    /// Tokens a second; 0: all at once.
    pub pace: u32,
}

/// Times, sorted, in microseconds.
#[derive(Debug, Default)]
pub struct Times(Vec<f64>);

impl Times {
    fn of(mut times: Vec<f64>) -> Self {
        times.sort_by(f64::total_cmp);
        Self(times)
    }

    /// So many of a hundred are not above it; 0 of nothing.
    pub fn percentile(&self, percent: usize) -> f64 {
        let at = (self.0.len() * percent).div_ceil(100).saturating_sub(1);
        self.0.get(at).copied().unwrap_or_default()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// The request's bytes.
fn request(asked: Asked) -> Vec<u8> {
    let body = format!(
        r#"{{"model":"mock","stream":{},"max_tokens":{},"temperature":0,"user":"{}/s","messages":[{{"role":"system","content":"You are a helpful assistant."}},{{"role":"user","content":"Tell me a story about a bee that finds its way home."}}]}}"#,
        asked.stream, asked.tokens, asked.pace
    );
    let length = body.len();
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n\
         accept: */*\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// `clients` that ask for `time`, each again as soon as it has its answer. How long each answer took.
pub async fn closed_loop(to: SocketAddr, asked: Asked, clients: usize, time: Duration) -> Result<Times> {
    let until = Instant::now() + time;
    let mut running = JoinSet::new();
    for _ in 0..clients {
        running.spawn(async move {
            let mut wire = Wire::new(TcpStream::connect(to).await?)?;
            let (bytes, mut times) = (request(asked), Vec::new());
            while Instant::now() < until {
                let begun = Instant::now();
                wire.send(&bytes).await?;
                read_answer(&mut wire, asked).await?;
                times.push(begun.elapsed().as_secs_f64() * 1e6);
            }
            anyhow::Ok(times)
        });
    }
    let mut all = Vec::new();
    while let Some(times) = running.join_next().await {
        all.extend(times??);
    }
    Ok(Times::of(all))
}

async fn read_answer(wire: &mut Wire, asked: Asked) -> Result<()> {
    let head = wire.head().await?.context("closed before an answer")?;
    let body = wire.body(&head).await?;
    ensure!(head.status() == Some(200), "{}: {}", head.start_line(), String::from_utf8_lossy(&body));
    let end: &[u8] = if asked.stream { b"data: [DONE]\n\n" } else { b"}" };
    ensure!(body.ends_with(end), "an answer without its end: {}", String::from_utf8_lossy(&body));
    Ok(())
}

/// So many streams at once to their ends. How long each event was on its way.
pub async fn streams(to: SocketAddr, asked: Asked, count: usize) -> Result<Times> {
    let mut running = JoinSet::new();
    let begun = tokio::time::Instant::now();
    for number in 0..count {
        running.spawn(async move {
            tokio::time::sleep_until(begun + START_APART * u32::try_from(number).unwrap_or(0)).await;
            let mut wire = begin(to, asked).await?;
            let (mut times, mut events, mut done) = (Vec::new(), 0, false);
            while let Some(chunk) = wire.chunk().await? {
                let now = now_ns();
                for sent in sent_at(&chunk) {
                    events += 1;
                    if events > EVENTS_IGNORED {
                        times.push((now - sent) as f64 / 1e3);
                    }
                }
                done |= chunk.ends_with(b"data: [DONE]\n\n");
            }
            ensure!(done && events >= asked.tokens, "a stream ended after {events} events, done: {done}");
            Ok(times)
        });
    }
    let mut all = Vec::new();
    while let Some(times) = running.join_next().await {
        all.extend(times??);
    }
    Ok(Times::of(all))
}

async fn begin(to: SocketAddr, asked: Asked) -> Result<Wire> {
    let mut wire = Wire::new(TcpStream::connect(to).await?)?;
    wire.send(&request(asked)).await?;
    let head = wire.head().await?.context("closed before an answer")?;
    if head.status() != Some(200) || !head.is_chunked() {
        bail!("{}: {}", head.start_line(), String::from_utf8_lossy(&wire.body(&head).await?));
    }
    Ok(wire)
}

/// The mock's times in some bytes of a stream. Only whole events pass any of the ways in one chunk.
fn sent_at(bytes: &[u8]) -> impl Iterator<Item = i64> {
    let mark: &[u8] = br#""t":"#;
    let places = bytes.windows(mark.len()).enumerate().filter(move |(_, window)| *window == mark);
    places.filter_map(move |(at, _)| {
        let digits = bytes[at + mark.len()..].iter().take_while(|byte| byte.is_ascii_digit());
        digits.copied().map(|digit| i64::from(digit - b'0')).reduce(|all, digit| all * 10 + digit)
    })
}

/// Streams that are open and read, until this is dropped.
pub struct Held(JoinSet<Result<()>>);

impl Held {
    /// Opens so many, and waits until each has had its first event.
    pub async fn open(to: SocketAddr, asked: Asked, count: usize) -> Result<Self> {
        let mut held = JoinSet::new();
        let mut opening = JoinSet::new();
        for _ in 0..count {
            opening.spawn(async move {
                let mut wire = begin(to, asked).await?;
                wire.chunk().await?.context("a stream without an event")?;
                anyhow::Ok(wire)
            });
            // Listening sockets have a queue of a bounded length.
            if opening.len() >= 50 {
                Self::hold(&mut held, &mut opening).await?;
            }
        }
        while !opening.is_empty() {
            Self::hold(&mut held, &mut opening).await?;
        }
        Ok(Self(held))
    }

    async fn hold(held: &mut JoinSet<Result<()>>, opening: &mut JoinSet<Result<Wire>>) -> Result<()> {
        let Some(opened) = opening.join_next().await else { return Ok(()) };
        let mut wire = opened??;
        held.spawn(async move {
            while wire.chunk().await?.is_some() {}
            Ok(())
        });
        Ok(())
    }

    /// How many still are.
    pub fn count(&mut self) -> usize {
        while self.0.try_join_next().is_some() {}
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_times_in_events_are_found() {
        let bytes = br#"data: {"a":1,"t":123}"#.repeat(2);
        assert_eq!(sent_at(&bytes).collect::<Vec<_>>(), [123, 123]);
        assert_eq!(sent_at(b"data: [DONE]").count(), 0);
    }

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let times = Times::of((1..=200).rev().map(f64::from).collect());
        assert_eq!((times.percentile(50), times.percentile(99), times.len()), (100.0, 198.0, 200));
        assert_eq!(Times::default().percentile(99), 0.0);
    }
}
