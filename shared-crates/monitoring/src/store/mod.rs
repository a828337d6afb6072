//! The history of one tier in one SQLite file: nobody waits for it, and nothing of it stops the daemon.
//!
//! ```text
//!   write ──▶ bounded queue ──▶ writer thread ──commit──▶ file ≤ bytes_max (oldest rows go first)
//!               ▲   │ full: the oldest goes, counted            │
//!               └───┼── locked, disk full: back, tried again at the next write
//!                   └── corrupt: set aside under a name, a new file, tried again
//! ```
//!
//! Every module keeps its own tables: it adds its methods to [`History`] and stands in [`schema::MODULES`].

pub(crate) mod events;
mod file;
mod queue;
mod reports;
mod requests;
mod samples;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rbee_runtime::config::MonitorConfig;
use rusqlite::Connection;
use tokio::sync::oneshot;

pub use self::file::put_aside;
use self::queue::{Ask, Queue, Write};

/// As SQLite has its numbers. No id, time or size of ours is that large.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What a file may hold, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// Age at which samples go, once they are part of their hour.
    pub keep_fine: Duration,
    /// Age at which hours go.
    pub keep_hourly: Duration,
    /// Size of the file and its side files; the oldest rows go before it is reached.
    pub bytes_max: u64,
    /// Events kept.
    pub events_max: u64,
    /// Writes that wait in memory while the file cannot be written.
    pub writes_waiting_max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            keep_fine: Duration::from_secs(24 * 3600),
            keep_hourly: Duration::from_secs(90 * 24 * 3600),
            bytes_max: 64 << 20,
            events_max: 20_000,
            writes_waiting_max: 4096,
        }
    }
}

impl From<&MonitorConfig> for Bounds {
    fn from(config: &MonitorConfig) -> Self {
        Self {
            keep_fine: config.keep_fine,
            keep_hourly: config.keep_hourly,
            bytes_max: config.max_size.as_u64(),
            events_max: config.events_max,
            ..Self::default()
        }
    }
}

/// Why the history cannot answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HistoryError {
    /// The file cannot be opened now; it is tried again at the next write.
    #[error("the history {} cannot be opened", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A question failed.
    #[error("cannot read the history {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// Too many questions wait already.
    #[error("too many questions wait for the history {}", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// What was said before could not be written; it waits in memory.
    #[error("not written: {trouble}")]
    NotWritten {
        /// What is wrong.
        trouble: String,
    },
    /// It was closed.
    #[error("the history {} is closed", path.display())]
    Closed {
        /// The file.
        path: PathBuf,
    },
}

/// What was found at opening.
#[derive(Debug)]
pub struct Opened {
    /// The handle.
    pub history: History,
    /// Where a file was put that is corrupt or of a newer program.
    pub set_aside: Option<PathBuf>,
}

/// A handle to the history; clones share it. When the last one is gone, the writer writes what waits and ends.
#[derive(Debug, Clone)]
pub struct History {
    shared: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    queue: Arc<Queue>,
    path: PathBuf,
    bounds: Bounds,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.queue.close(None);
    }
}

impl History {
    /// Opens or makes the file, and its folder. A file that cannot be used now is trouble, and no error: it is tried
    /// again at the next write.
    #[must_use]
    pub fn open(path: &Path, bounds: &Bounds) -> Opened {
        let queue = Arc::new(Queue::new(bounds.writes_waiting_max));
        let mut file = file::File::new(path, bounds.clone());
        if let Err(error) = file.connection() {
            queue.set_trouble(Some(file::words(path, &error)));
        }
        let set_aside = file.take_set_aside();
        queue.set_aside(set_aside.clone());
        let of_thread = Arc::clone(&queue);
        if let Err(error) = thread::Builder::new().name("history".into()).spawn(move || writer::serve(file, &of_thread))
        {
            queue.set_trouble(Some(format!("no thread for the history {}: {error}", path.display())));
            queue.close(None);
            queue.end();
        }
        let history = Self { shared: Arc::new(Handle { queue, path: path.to_owned(), bounds: bounds.clone() }) };
        Opened { history, set_aside }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// What it may hold.
    #[must_use]
    pub fn bounds(&self) -> &Bounds {
        &self.shared.bounds
    }

    /// What is wrong with the file at present, for `status`, `doctor` and the log.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.shared.queue.trouble()
    }

    /// The newest file that was set aside since we opened.
    #[must_use]
    pub fn set_aside(&self) -> Option<PathBuf> {
        self.shared.queue.newest_set_aside()
    }

    /// Writes given up since we opened, because more waited than may wait, or because they could not be understood.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.queue.lost()
    }

    /// Writes that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.queue.waiting()
    }

    /// Hands a write over; returns at once. It may be tried more than once, each time in a transaction of its own that
    /// did not happen if it fails.
    pub(crate) fn write(&self, write: impl Fn(&Connection) -> rusqlite::Result<()> + Send + 'static) {
        self.shared.queue.write(Write::new(write));
    }

    /// Asks the file, after all that was handed over before.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, HistoryError> {
        let answer = self.ask(read)?;
        answer.await.map_err(|_| self.closed())?.map_err(|error| self.unread(error))
    }

    /// Returns when all that was handed over before is in the file.
    ///
    /// # Errors
    /// [`HistoryError::NotWritten`] when some of it waits in memory, since the file cannot be written.
    pub async fn flush(&self) -> Result<(), HistoryError> {
        let (done, flushed) = oneshot::channel();
        self.shared.queue.ask(Ask::Flush(done)).map_err(|_| self.closed())?;
        flushed.await.map_err(|_| self.closed())?.map_err(|trouble| HistoryError::NotWritten { trouble })
    }

    /// Writes what waits and closes the file; its side files are gone when this returns.
    ///
    /// # Errors
    /// When not everything could be written: that is lost.
    pub async fn close(&self) -> Result<(), HistoryError> {
        let (done, closed) = oneshot::channel();
        self.shared.queue.close(Some(done));
        closed.await.map_err(|_| self.closed())?.map_err(|trouble| HistoryError::NotWritten { trouble })
    }

    fn ask<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<rusqlite::Result<T>>, HistoryError> {
        let (done, answer) = oneshot::channel();
        let ask = Ask::Read(Box::new(move |connection| {
            let result = connection.and_then(read);
            let is_corrupt = result.as_ref().is_err_and(file::is_corrupt);
            // A caller that no longer waits asked for nothing.
            let _ = done.send(result);
            is_corrupt
        }));
        match self.shared.queue.ask(ask) {
            Ok(()) => Ok(answer),
            Err(queue::Refused::Busy) => Err(HistoryError::Busy { path: self.shared.path.clone() }),
            Err(queue::Refused::Closed) => Err(self.closed()),
        }
    }

    fn closed(&self) -> HistoryError {
        HistoryError::Closed { path: self.shared.path.clone() }
    }

    fn unread(&self, source: rusqlite::Error) -> HistoryError {
        HistoryError::Read { path: self.shared.path.clone(), source }
    }
}
