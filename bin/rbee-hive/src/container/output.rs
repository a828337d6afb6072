//! A container's output, copied to ours as it comes: the unit's FIFOs, which the supervisor reads.
//!
//! A full FIFO holds up the copy, that the engine, and that the container: nothing is dropped while nobody reads.

use std::io::Write as _;
use std::pin::Pin;
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use futures_util::{Stream, StreamExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::tell;

/// After the container's end its output comes to its own end; an engine that says nothing more for so long has none.
const SILENCE_MAX: Duration = Duration::from_secs(5);

type Output = Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>;

/// The copying of one container's output.
#[derive(Debug)]
pub(super) struct Copying {
    over: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Copying {
    pub(super) fn begin(output: Output) -> Self {
        let (over, is_over) = watch::channel(false);
        Self { over, task: tokio::spawn(copy(output, is_over)) }
    }

    /// The container has ended: copies what is left.
    pub(super) async fn finish(self) {
        self.over.send_replace(true);
        if let Err(error) = self.task.await {
            tell::people(&format!("its output was not copied to its end: {error}"));
        }
    }
}

async fn copy(mut output: Output, mut is_over: watch::Receiver<bool>) {
    let mut sinks = [Sink::open(1), Sink::open(2)];
    loop {
        let next = tokio::select! {
            next = output.next() => next,
            () = silence_after(&mut is_over) => None,
        };
        let (sink, message) = match next {
            Some(Ok(LogOutput::StdErr { message })) => (1, message),
            Some(Ok(LogOutput::StdOut { message } | LogOutput::Console { message })) => (0, message),
            Some(Ok(LogOutput::StdIn { .. })) => continue,
            // The engine's death ends it too, and is seen by who waits for the container.
            Some(Err(_)) | None => return,
        };
        if sinks[sink].write(&message).await.is_err() {
            return;
        }
    }
}

async fn silence_after(is_over: &mut watch::Receiver<bool>) {
    // The sender lives as long as the one who waits for us.
    let _ = is_over.wait_for(|over| *over).await;
    tokio::time::sleep(SILENCE_MAX).await;
}

/// Where one stream goes.
enum Sink {
    /// A FIFO: waited for in the runtime.
    Pipe(pipe::Sender),
    /// A file or a terminal, for who calls the shim by hand.
    Plain(u8),
}

impl Sink {
    /// An open file description of its own, so that nobody else's writes become non-blocking.
    fn open(fd: u8) -> Self {
        match pipe::OpenOptions::new().open_sender(format!("/proc/self/fd/{fd}")) {
            Ok(pipe) => Self::Pipe(pipe),
            Err(_) => Self::Plain(fd),
        }
    }

    async fn write(&mut self, message: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Pipe(pipe) => pipe.write_all(message).await,
            Self::Plain(1) => std::io::stdout().write_all(message).and_then(|()| std::io::stdout().flush()),
            Self::Plain(_) => std::io::stderr().write_all(message),
        }
    }
}
