//! The units' output: from their FIFOs into their log files, and to whoever reads along.
//!
//! ```text
//! daemons ──▶ NAME.out ─┐ peek                    ┌─▶ NAME.log ──▶ NAME.log.1 ──▶ …      (files: rotation, budget)
//!         ──▶ NAME.err ─┴──────▶ whole lines ─────┤      │
//!               ▲          (one thread for all)   └─▶ "written up to here" ──▶ followers read the files themselves
//!               └── take, when it is written (journal: no line lost or doubled, whoever dies when)
//! ```
//!
//! While a file cannot be written, the output waits in the FIFO, and its daemon when that is full. An idle unit costs three small
//! structures and two descriptors; a followed one nothing more than a counter, for the lines are in the files.

mod alarms;
mod answers;
mod fifo;
mod files;
mod follower;
mod journal;
mod lines;
mod policy;
mod requests;
mod thread;
mod unit;

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::oneshot;

use crate::log_tail::last_lines_of;
use fifo::Fifo;
use files::LogFiles;
pub use follower::LogFollower;
use lines::Stream;
pub use policy::LogPolicy;
use requests::{Opened, Request, Shared, Which};
use unit::{Place, Unit};

/// What holds for all units of a supervisor.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogBounds {
    /// A longer line is broken.
    pub(crate) line_bytes_max: usize,
    /// Lines of a run that are given when it ends.
    pub(crate) tail_lines: usize,
    /// What the FIFO of a busy unit may grow to.
    pub(crate) fifo_bytes: usize,
}

/// Where one unit's output goes, and how much of it is kept.
#[derive(Debug, Clone)]
pub(crate) struct LogConfig {
    pub(crate) out: PathBuf,
    pub(crate) err: PathBuf,
    pub(crate) file: PathBuf,
    pub(crate) policy: LogPolicy,
    /// A process that writes to it already. Where its FIFOs have lost their names, they are found through it.
    pub(crate) writer: Option<u32>,
}

/// The thread that writes all logs of a supervisor. It ends with this.
#[derive(Debug)]
pub(crate) struct LogThread {
    shared: Arc<Shared>,
    journal: PathBuf,
}

impl LogThread {
    /// Ends what a dead supervisor had begun, and starts. The caller holds the lock on these directories.
    pub(crate) fn open(journal: PathBuf, log_dir: &Path, bounds: LogBounds) -> io::Result<Self> {
        let shared = thread::begin(&journal, log_dir, bounds)?;
        Ok(Self { shared, journal })
    }

    /// Makes a unit's FIFOs and log file unless they are there.
    pub(crate) fn unit(&self, config: LogConfig) -> io::Result<Logs> {
        let shared = Arc::clone(&self.shared);
        let fds = config.writer.map(|pid| [1, 2].map(|fd| PathBuf::from(format!("/proc/{pid}/fd/{fd}"))));
        let [of_out, of_err] = fds.map_or([None, None], |fds| fds.map(Some));
        let fifos = [open_fifo(&config.out, of_out)?, open_fifo(&config.err, of_err)?];
        // Of a folder in which one file could be made, no more is asked.
        let prove = !shared.is_folder_proven.load(Ordering::Relaxed);
        let aside = shared.aside().take(&config.file);
        let files = LogFiles::open(config.file.clone(), config.policy, aside, prove)?;
        shared.is_folder_proven.store(true, Ordering::Relaxed);
        let config = Arc::new(config);
        let run_begins = Arc::new(AtomicBool::new(false));
        let inodes = fifos.each_ref().map(|fifo| AtomicU64::new(fifo.inode()));
        let unit = Unit::new(Arc::clone(&config), fifos, files, Arc::clone(&run_begins));
        let id = shared.add(unit)?;
        Ok(Logs(Arc::new(Handle { shared, id, config, run_begins, inodes })))
    }

    /// Writes down all whole lines in the FIFOs and ends the thread.
    pub(crate) async fn close(&self) {
        let (reply, done) = oneshot::channel();
        self.shared.ask(Request::End(Some(reply)));
        // A thread that is gone has nothing left to write.
        let _ = done.await;
    }

    /// What it keeps in the run directory.
    pub(crate) fn journal(&self) -> &Path {
        &self.journal
    }
}

impl Drop for LogThread {
    fn drop(&mut self) {
        self.shared.ask(Request::End(None));
    }
}

/// Opens a FIFO by its name, made if need be, or, where a writer holds one without a name, through that.
fn open_fifo(path: &Path, held: Option<PathBuf>) -> io::Result<Fifo> {
    let is_new = fifo::create(path)?;
    let held = held.filter(|_| is_new).and_then(|held| Fifo::open(&held).ok());
    held.map_or_else(|| Fifo::open(path), Ok)
}

/// A handle to a unit's log, which is closed with the last one.
#[derive(Debug, Clone)]
pub(crate) struct Logs(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    id: u32,
    config: Arc<LogConfig>,
    run_begins: Arc<AtomicBool>,
    /// Of the FIFOs that are read.
    inodes: [AtomicU64; 2],
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.ask(Request::Close(self.id, None));
    }
}

impl Logs {
    /// What the daemon writes from now on belongs to a new run. Called before there is a process. FIFOs that somebody removed are
    /// made again.
    pub(crate) fn begin_run(&self) -> io::Result<()> {
        let Handle { shared, id, config, inodes, .. } = &*self.0;
        for (stream, path, inode) in [(Stream::Out, &config.out, &inodes[0]), (Stream::Err, &config.err, &inodes[1])] {
            let is_ours = |metadata: std::fs::Metadata| metadata.ino() == inode.load(Ordering::Acquire);
            if std::fs::symlink_metadata(path).is_ok_and(is_ours) {
                continue;
            }
            let fifo = open_fifo(path, None)?;
            inode.store(fifo.inode(), Ordering::Release);
            shared.replace(*id, stream, fifo)?;
        }
        self.0.run_begins.store(true, Ordering::Release);
        Ok(())
    }

    /// The policy from now on, and for what is there.
    pub(crate) fn set_policy(&self, policy: LogPolicy) {
        self.0.shared.ask(Request::SetPolicy(self.0.id, policy));
    }

    /// Writes down all that the run left, an unfinished line too; its last lines. Asked for at once, not when first polled.
    pub(crate) fn end_run(&self) -> impl Future<Output = Vec<String>> + Send + 'static + use<> {
        let (reply, tail) = oneshot::channel();
        self.0.shared.ask(Request::EndRun(self.0.id, reply));
        async { tail.await.unwrap_or_default() }
    }

    pub(crate) async fn last(&self, lines: usize) -> io::Result<Vec<String>> {
        self.last_until(lines).await.map(|(lines, _)| lines)
    }

    /// The last lines, and where they end.
    async fn last_until(&self, lines: usize) -> io::Result<(Vec<String>, (Arc<File>, Place))> {
        let (shared, id) = (&self.0.shared, self.0.id);
        let closed = || io::Error::other("the log is closed");
        let newest = shared.open_file(id, Which::Newest).await?.ok_or_else(closed)?;
        let until = Place { generation: newest.generation, offset: newest.len };
        let newest_file = Arc::clone(&newest.file);
        let mut last: Vec<String> = Vec::new();
        let mut next = Some(newest);
        while let Some(Opened { file, generation, len }) = next {
            let missing = lines - last.len();
            let read = tokio::task::spawn_blocking(move || last_lines_of(&file, missing, 0, len)).await;
            let mut earlier = read.map_err(io::Error::other)??;
            earlier.append(&mut last);
            last = earlier;
            if last.len() >= lines {
                break;
            }
            next = shared.open_file(id, Which::Before(generation)).await?;
        }
        Ok((last, (newest_file, until)))
    }

    pub(crate) async fn follow(&self, lines: usize) -> io::Result<LogFollower> {
        // First of all: from here on no rotation goes unnoticed.
        let written = self.0.shared.follow(self.0.id).await?;
        let (last, until) = self.last_until(lines).await?;
        Ok(LogFollower::new(Arc::clone(&self.0.shared), self.0.id, last, until, written))
    }

    /// Writes down what is there and forgets the unit.
    pub(crate) async fn close(&self) {
        let (reply, done) = oneshot::channel();
        self.0.shared.ask(Request::Close(self.0.id, Some(reply)));
        // A thread that is gone has nothing left to write.
        let _ = done.await;
    }
}

#[cfg(test)]
mod tests;
