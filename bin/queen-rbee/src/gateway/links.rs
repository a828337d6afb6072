//! Connections to workers. The task that asks reads and writes by itself: nobody else must run for it.
//!
//! ```text
//!   connected ─▶ asking ──head──▶ answering ──body over──▶ idle ──`IDLE_TIMEOUT`, closed by the worker──▶ closed
//!                  ▲ │                │                     │
//!                  │ └── dropped, or anything in doubt: closed
//!                  └────────────────── the next request ────┘
//! ```

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, StatusCode};
use rustix::net::sockopt;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_util::io::poll_write_buf;

use super::http1::{self, Head};
use super::pieces::{Pieces, Taken, bad, poll_read, read};

/// How long a worker's machine may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a machine that is gone goes unnoticed by its silent connection.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// How long a connection is kept for the next request, and how many to one worker.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
const IDLE_MAX: usize = 256;
/// All connections. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Links {
    idle: Arc<Mutex<Idle>>,
}

#[derive(Debug, Default)]
struct Idle {
    /// The longest idle first.
    by_address: HashMap<Arc<str>, Vec<(Instant, TcpStream)>>,
    /// Somebody will look at them.
    looked_after: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// Nothing listens there, or it does not accept.
    #[error("cannot connect")]
    NoConnection(#[source] io::Error),
    /// It was reached and broke.
    #[error("the connection broke")]
    Broken(#[source] io::Error),
}

/// The answer of a worker, its body not yet read.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) pieces: Pieces,
}

/// One connection in use.
#[derive(Debug)]
pub(super) struct Link {
    links: Links,
    address: Arc<str>,
    stream: TcpStream,
    /// It was used before.
    used: bool,
    reusable: bool,
}

/// A question on its way.
struct Asking<'l> {
    stream: &'l mut TcpStream,
    out: bytes::buf::Chain<Bytes, Bytes>,
    sent: usize,
    write_error: Option<io::Error>,
    /// The beginning of a head that came in parts.
    held: Vec<u8>,
}

/// How a question failed.
struct Failed {
    /// Nothing of it has left us.
    unsent: bool,
    error: io::Error,
}

impl Links {
    /// Sends `head` and `body` to the worker at that address, over a connection that is there or a new one.
    pub(super) async fn ask(&self, address: &str, head: Bytes, body: &Bytes) -> Result<Reply, LinkError> {
        loop {
            let mut link = match self.idle_one(address) {
                Some(link) => link,
                None => self.connect(address).await.map_err(LinkError::NoConnection)?,
            };
            let mut asking = Asking {
                stream: &mut link.stream,
                out: head.clone().chain(body.clone()),
                sent: 0,
                write_error: None,
                held: Vec::new(),
            };
            match poll_fn(|cx| asking.poll(cx)).await {
                Ok((answer, taken)) => {
                    // What is sent too late would be the next question.
                    link.reusable = answer.kept_alive && !asking.out.has_remaining();
                    let Head { status, headers, framing, .. } = answer;
                    return Ok(Reply { status, headers, pieces: Pieces::new(link, framing, taken) });
                }
                // The worker closed it while nobody looked.
                Err(failed) if failed.unsent && link.used => {}
                Err(failed) => return Err(LinkError::Broken(failed.error)),
            }
        }
    }

    async fn connect(&self, address: &str) -> io::Result<Link> {
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, async {
            match address.parse::<SocketAddr>() {
                Ok(address) => TcpStream::connect(address).await,
                Err(_) => TcpStream::connect(address).await,
            }
        });
        let stream = stream.await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        // Tokens are small packets: each must leave at once.
        stream.set_nodelay(true)?;
        sockopt::set_socket_keepalive(&stream, true)?;
        sockopt::set_tcp_keepidle(&stream, KEEPALIVE)?;
        Ok(Link { links: self.clone(), address: address.into(), stream, used: false, reusable: false })
    }

    /// The one used last: the others may be let go of.
    fn idle_one(&self, address: &str) -> Option<Link> {
        let mut idle = self.idle();
        let (name, _) = idle.by_address.get_key_value(address)?;
        let name = Arc::clone(name);
        let streams = idle.by_address.get_mut(address)?;
        while let Some((_, stream)) = streams.pop() {
            // A word that nobody asked for belongs to no answer, and an end is one.
            let silent = stream.try_read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
            if silent {
                return Some(Link { links: self.clone(), address: name, stream, used: true, reusable: false });
            }
        }
        None
    }

    fn give_back(&self, address: Arc<str>, stream: TcpStream) {
        // Without one everything ends.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let mut idle = self.idle();
        let streams = idle.by_address.entry(address).or_default();
        if streams.len() >= IDLE_MAX {
            return;
        }
        streams.push((Instant::now(), stream));
        if !std::mem::replace(&mut idle.looked_after, true) {
            drop(idle);
            runtime.spawn(close_in_time(Arc::downgrade(&self.idle)));
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Link {
    /// For the next request, if there may be one.
    pub(super) fn give_back(self) {
        if self.reusable {
            self.links.give_back(self.address, self.stream);
        }
    }

    pub(super) fn is_reusable(&self) -> bool {
        self.reusable
    }

    pub(super) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub(super) fn stream_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}

/// Closes what was idle for too long, until nothing is left.
async fn close_in_time(idle: std::sync::Weak<Mutex<Idle>>) {
    loop {
        let next = {
            let Some(idle) = idle.upgrade() else { return };
            let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            idle.by_address.retain(|_, streams| {
                let over = streams.partition_point(|(since, _)| *since + IDLE_TIMEOUT <= now);
                streams.drain(..over);
                !streams.is_empty()
            });
            let oldest = idle.by_address.values().filter_map(|streams| streams.first()).map(|(since, _)| *since).min();
            idle.looked_after = oldest.is_some();
            oldest
        };
        let Some(oldest) = next else { return };
        tokio::time::sleep_until(oldest + IDLE_TIMEOUT).await;
    }
}

impl Asking<'_> {
    /// The head, and what came behind it.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Head, Taken), Failed>> {
        while self.out.has_remaining() && self.write_error.is_none() {
            match poll_write_buf(Pin::new(&mut *self.stream), cx, &mut self.out) {
                Poll::Ready(Ok(written)) => self.sent += written,
                // It may have answered before.
                Poll::Ready(Err(error)) => self.write_error = Some(error),
                Poll::Pending => break,
            }
        }
        loop {
            let held = &mut self.held;
            let read = ready!(poll_read(self.stream, cx, |bytes| begin(held, bytes)));
            match read.and_then(|begun| begun) {
                Ok(Some(begun)) => return Poll::Ready(Ok(begun)),
                Ok(None) => {}
                Err(error) => {
                    let error = self.write_error.take().unwrap_or(error);
                    return Poll::Ready(Err(Failed { unsent: self.sent == 0, error }));
                }
            }
        }
    }
}

/// `held`: what came before and was no whole head.
fn begin(held: &mut Vec<u8>, bytes: &[u8]) -> io::Result<Option<(Head, Taken)>> {
    if bytes.is_empty() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    if held.is_empty() {
        let begun = answer(bytes)?;
        if begun.is_none() {
            held.extend_from_slice(bytes);
        }
        return Ok(begun);
    }
    held.extend_from_slice(bytes);
    answer(held)
}

fn answer(bytes: &[u8]) -> io::Result<Option<(Head, Taken)>> {
    let Some(mut head) = http1::head(bytes).map_err(bad)? else { return Ok(None) };
    let rest = &bytes[head.length..];
    let none_yet = rest.is_empty() && !head.framing.is_over();
    let taken = if none_yet { Taken::default() } else { read(&mut head.framing, rest) };
    Ok(Some((head, taken)))
}

#[cfg(test)]
mod tests;
