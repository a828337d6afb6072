//! Connections, each with its bounds.
//!
//! ```text
//!   accepted ─▶ idle ──head of a request──▶ answering ──answered──▶ idle ─▶ …
//!                │ nothing for `idle_timeout`, half a head counts as nothing: closed
//!                └ too many: the one that asked for something longest ago is closed, once its answer is complete
//! ```

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::serve::Listener;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::Door;

/// How long a new connection waits for one that shall go, before the next one shall go too.
const EVICTION_TIME_MAX: Duration = Duration::from_millis(100);
/// What one connection may hold of what it has read: a head must fit, a body comes in pieces.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// Bounds of a server's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Open at once.
    pub connections_max: usize,
    /// How long the head of a request may take to come, and how long a connection may wait for the next one.
    pub idle_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { connections_max: 4096, idle_timeout: Duration::from_secs(75) }
    }
}

/// All that are open.
#[derive(Debug)]
struct Crowd {
    places: Arc<Semaphore>,
    /// By when each asked for something last; the number only grows.
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    clock: u64,
    by_age: BTreeMap<u64, CancellationToken>,
}

/// One connection's place among them.
struct Member {
    crowd: Arc<Crowd>,
    /// Its age in [`Open::by_age`].
    age: Mutex<u64>,
    leave: CancellationToken,
    has_asked: AtomicBool,
    _place: OwnedSemaphorePermit,
}

/// Takes connections until `draining` resolves, and returns when all are closed. At `connections_max` the ones that
/// have not asked for anything for longest make room.
pub(super) async fn run(
    mut listener: impl Listener<Io = TcpStream, Addr = SocketAddr>,
    router: Router,
    limits: ConnectionLimits,
    door: &Door,
    draining: impl Future<Output = ()>,
) {
    let crowd = Arc::new(Crowd { places: Arc::new(Semaphore::new(limits.connections_max)), open: Mutex::default() });
    let (tasks, drain) = (TaskTracker::new(), CancellationToken::new());
    let door = Arc::new(door.clone());
    tokio::pin!(draining);
    loop {
        let accepted = async {
            let (stream, _) = listener.accept().await;
            (stream, crowd.member().await)
        };
        let (stream, member) = tokio::select! {
            biased;
            () = &mut draining => break,
            accepted = accepted => accepted,
        };
        let (router, door, drain) = (router.clone(), Arc::clone(&door), drain.clone());
        tasks.spawn(connection(stream, router, limits, door, member, drain));
    }
    drop(listener);
    drain.cancel();
    tasks.close();
    tasks.wait().await;
}

async fn connection(
    stream: TcpStream,
    router: Router,
    limits: ConnectionLimits,
    door: Arc<Door>,
    member: Member,
    drain: CancellationToken,
) {
    let member = Arc::new(member);
    let asked = Arc::clone(&member);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        asked.asks();
        let (answer, door) = (router.clone().call(request.map(Body::new)), Arc::clone(&door));
        async move {
            let mut answer = answer.await?;
            door.say_last(&mut answer);
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => Some(ended),
        () = drain.cancelled() => None,
        () = member.leave.cancelled() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        // Whoever has not finished its first question is not waited for.
        None if !member.has_asked.load(Ordering::Acquire) => return,
        None => {
            // What is being answered is answered.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "a connection broke");
    }
}

impl Crowd {
    /// A place, for which others may have to go.
    async fn member(self: &Arc<Self>) -> Member {
        let place = loop {
            let place = Arc::clone(&self.places).acquire_owned();
            tokio::pin!(place);
            if let Ok(Ok(place)) = tokio::time::timeout(Duration::ZERO, &mut place).await {
                break place;
            }
            self.send_oldest_away();
            if let Ok(Ok(place)) = tokio::time::timeout(EVICTION_TIME_MAX, place).await {
                break place;
            }
        };
        let leave = CancellationToken::new();
        let mut open = self.open();
        open.clock += 1;
        let age = open.clock;
        open.by_age.insert(age, leave.clone());
        drop(open);
        Member {
            crowd: Arc::clone(self),
            age: Mutex::new(age),
            leave,
            has_asked: AtomicBool::new(false),
            _place: place,
        }
    }

    fn send_oldest_away(&self) {
        let oldest = self.open().by_age.pop_first();
        if let Some((_, leave)) = oldest {
            leave.cancel();
        }
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    /// It is the youngest now.
    fn asks(&self) {
        self.has_asked.store(true, Ordering::Release);
        let mut age = self.age.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = self.crowd.open();
        // Whoever was sent away is not among them any more.
        if let Some(leave) = open.by_age.remove(&age) {
            open.clock += 1;
            *age = open.clock;
            open.by_age.insert(*age, leave);
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let age = *self.age.lock().unwrap_or_else(PoisonError::into_inner);
        self.crowd.open().by_age.remove(&age);
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn server(limits: ConnectionLimits) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let drain = CancellationToken::new();
        let draining = drain.clone().cancelled_owned();
        let router = Router::new().route("/", get(|| async { "answer" }));
        (addr, drain, tokio::spawn(async move { run(listener, router, limits, &Door::default(), draining).await }))
    }

    async fn ask(client: &mut TcpStream) -> String {
        client.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"answer") {
            if client.read_buf(&mut answer).await.unwrap() == 0 {
                break;
            }
        }
        String::from_utf8(answer).unwrap()
    }

    /// GATE-12
    #[tokio::test]
    async fn idle_ones_make_room_the_longest_idle_first_and_who_asks_stays() {
        let (addr, drain, server) =
            server(ConnectionLimits { connections_max: 3, idle_timeout: Duration::from_secs(600) }).await;
        let mut first = TcpStream::connect(addr).await.unwrap();
        assert!(ask(&mut first).await.ends_with("answer"));
        let mut idle = Vec::new();
        for _ in 0..50 {
            let mut client = TcpStream::connect(addr).await.unwrap();
            assert!(ask(&mut first).await.ends_with("answer"), "it asks now and then, so it stays");
            client.write_all(b"GET / HT").await.unwrap();
            idle.push(client);
        }
        // Closed with something unread, as a reset or in order.
        let _ = idle[0].read(&mut [0]).await;
        assert!(ask(&mut first).await.ends_with("answer"));
        drain.cancel();
        drop((first, idle));
        server.await.unwrap();
    }

    /// GATE-12
    #[tokio::test]
    async fn half_a_head_and_a_silent_connection_are_not_waited_for() {
        let (addr, drain, server) =
            server(ConnectionLimits { connections_max: 9, idle_timeout: Duration::from_millis(50) }).await;
        for said in ["", "GET / HTTP/1.1\r\nhost: loc"] {
            let mut client = TcpStream::connect(addr).await.unwrap();
            client.write_all(said.as_bytes()).await.unwrap();
            let mut end = Vec::new();
            client.read_to_end(&mut end).await.unwrap();
        }
        let mut asks = TcpStream::connect(addr).await.unwrap();
        assert!(ask(&mut asks).await.ends_with("answer"));
        assert_eq!(asks.read(&mut [0]).await.unwrap(), 0, "after its answer, too");
        drain.cancel();
        server.await.unwrap();
    }
}
