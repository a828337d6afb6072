//! A unit's output: from its FIFOs into its log file, its last lines in memory, and every new line to whoever follows.
//!
//! ```text
//! daemon ──▶ NAME.out ─┐  peek            ┌─▶ NAME.log ──▶ take
//!        ──▶ NAME.err ─┴──────▶ lines ────┼─▶ tail (memory, bounded)
//!                                         └─▶ followers (bounded; a slow one is told what it missed)
//! ```
//!
//! One task a unit. While the file cannot be written, the output waits in the FIFO.

mod fifo;
mod file;
mod follower;
mod lines;
mod policy;
mod task;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{broadcast, mpsc, oneshot};

pub(crate) use fifo::open_for_daemon;
pub use follower::LogFollower;
pub use policy::LogPolicy;

/// Requests that may wait for a log task.
const REQUESTS_MAX: usize = 64;

/// Where one unit's output goes, and how much of it is kept.
#[derive(Debug, Clone)]
pub(crate) struct LogConfig {
    pub(crate) out: PathBuf,
    pub(crate) err: PathBuf,
    pub(crate) file: PathBuf,
    pub(crate) fifo_bytes: usize,
    pub(crate) line_bytes_max: usize,
    pub(crate) tail_lines: usize,
    pub(crate) follow_lines: usize,
}

/// What a log task can be asked.
#[derive(Debug)]
enum Request {
    /// A new run begins: its tail is empty.
    BeginRun,
    /// A run has ended: write down all it left, the unfinished line too; its tail.
    EndRun(oneshot::Sender<Vec<String>>),
    Last(usize, oneshot::Sender<io::Result<Vec<String>>>),
    Follow(usize, oneshot::Sender<io::Result<Following>>),
    Close(oneshot::Sender<()>),
}

/// Lines up to now, and all that come.
#[derive(Debug)]
struct Following {
    last: Vec<String>,
    new: broadcast::Receiver<Arc<str>>,
}

/// A handle to a unit's log task, which ends with its last handle.
#[derive(Debug, Clone)]
pub(crate) struct Logs {
    requests: mpsc::Sender<Request>,
}

impl Logs {
    /// Makes the FIFOs, opens everything and starts the task. Must be called within a runtime.
    pub(crate) fn open(config: LogConfig) -> io::Result<Self> {
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        tokio::spawn(task::Task::open(config, inbox)?.run());
        Ok(Self { requests })
    }

    pub(crate) async fn begin_run(&self) {
        // A task that is gone has nothing to forget.
        let _ = self.requests.send(Request::BeginRun).await;
    }

    pub(crate) async fn end_run(&self) -> Vec<String> {
        self.ask(Request::EndRun).await.unwrap_or_default()
    }

    pub(crate) async fn last(&self, lines: usize) -> io::Result<Vec<String>> {
        self.ask(|reply| Request::Last(lines, reply)).await.unwrap_or_else(|| Ok(Vec::new()))
    }

    pub(crate) async fn follow(&self, lines: usize) -> io::Result<LogFollower> {
        match self.ask(|reply| Request::Follow(lines, reply)).await {
            Some(following) => following.map(LogFollower::new),
            None => Err(io::Error::other("the log is closed")),
        }
    }

    pub(crate) async fn close(&self) {
        let _ = self.ask(Request::Close).await;
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.ok()?;
        answer.await.ok()
    }
}
