//! Serving until asked to stop, then until requests in flight are done or patience is over.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;

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
    // Tokens are small packets: each must leave at once.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
    });
    let draining = shutdown.clone();
    let server = axum::serve(listener, router).with_graceful_shutdown(async move { draining.draining().await });
    let patience = async {
        shutdown.draining().await;
        tokio::select! {
            () = tokio::time::sleep(drain_timeout) => {}
            () = shutdown.immediate() => {}
        }
    };
    tokio::select! {
        done = server => done.map(|()| Drained::Completely),
        () = patience => Ok(Drained::CutOff),
    }
}
