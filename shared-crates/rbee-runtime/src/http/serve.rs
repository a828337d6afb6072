//! Serving until asked to stop, then until requests in flight are done or patience is over.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use axum::serve::{Listener, ListenerExt};
use http::HeaderValue;
use http::header::CONNECTION;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::connections::{self, ConnectionLimits};
use crate::shutdown::Shutdown;

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Every request in flight was answered.
    Completely,
    /// Time was over, or somebody was in a hurry: requests were cut off.
    CutOff,
}

/// Serves `router` until `shutdown` drains: then no new connections, and at most `drain_timeout` for those
/// that are open. Long polls and streams that do not end by themselves should watch [`Shutdown::draining`].
///
/// # Errors
/// When accepting connections fails for good.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: &Shutdown,
    drain_timeout: Duration,
) -> io::Result<Drained> {
    let limits = ConnectionLimits::default();
    serve_until_closed(listener, router, limits, &Door::default(), shutdown, drain_timeout).await
}

/// As [`serve`], and once `door` is closed no new connections are taken from the socket, which others may serve: on those
/// that are open requests are still answered, each as the last one of its connection.
///
/// # Errors
/// As [`serve`].
pub async fn serve_until_closed(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    door: &Door,
    shutdown: &Shutdown,
    drain_timeout: Duration,
) -> io::Result<Drained> {
    let listener = Doorway { socket: Some(listener), address: None, door: door.clone() };
    // Tokens are small packets: each must leave at once.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
    });
    let draining = shutdown.clone();
    let server = connections::run(listener, router, limits, door, async move { draining.draining().await });
    let patience = async {
        shutdown.draining().await;
        tokio::select! {
            () = tokio::time::sleep(drain_timeout) => {}
            () = shutdown.immediate() => {}
        }
    };
    tokio::select! {
        () = server => Ok(Drained::Completely),
        () = patience => Ok(Drained::CutOff),
    }
}

/// Lets connections in until it is closed; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Door {
    closing: CancellationToken,
    closed: CancellationToken,
}

/// A server that is busy letting others in sees a moment later that its door is closed.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

impl Door {
    /// From now on connections are for others to take; returns when the socket is let go of.
    pub async fn close(&self) {
        self.closing.cancel();
        if tokio::time::timeout(CLOSE_TIMEOUT, self.closed.cancelled()).await.is_err() {
            tracing::debug!("the listening socket is let go of later");
        }
    }

    /// Once it is closing, an answer is the last one of its connection.
    pub(super) fn say_last(&self, response: &mut Response) {
        if self.closing.is_cancelled() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

struct Doorway {
    /// Given back when the door is closed.
    socket: Option<TcpListener>,
    address: Option<SocketAddr>,
    door: Door,
}

impl Listener for Doorway {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        if let Some(socket) = &mut self.socket {
            tokio::select! {
                biased;
                () = self.door.closing.cancelled() => {}
                taken = Listener::accept(socket) => return taken,
            }
            self.address = socket.local_addr().ok();
            self.socket = None;
            self.door.closed.cancel();
        }
        std::future::pending().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.socket {
            Some(socket) => socket.local_addr(),
            None => self.address.ok_or_else(|| io::ErrorKind::NotConnected.into()),
        }
    }
}
