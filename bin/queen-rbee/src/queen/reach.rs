//! How queen reaches others, and is reached.

use std::net::SocketAddr;
use std::time::Duration;

/// How long a worker's machine may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a machine that is gone goes unnoticed in the middle of an answer.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// A client for hives.
pub(super) fn http_client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_keepalive(KEEPALIVE)
        .http1_only()
        .build()
}

/// Where queen can be reached from this machine.
pub(super) fn url_of(addr: SocketAddr) -> String {
    match (addr.ip().is_unspecified(), addr) {
        (true, SocketAddr::V4(_)) => format!("http://127.0.0.1:{}", addr.port()),
        (true, SocketAddr::V6(_)) => format!("http://[::1]:{}", addr.port()),
        (false, _) => format!("http://{addr}"),
    }
}
