//! The task that owns one unit's log.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{broadcast, mpsc};
use tokio::time::Instant;

use super::fifo::{self, FifoReader};
use super::file::{LogFile, Writing};
use super::lines::{Batch, Stream};
use super::{Following, LogConfig, Request};
use crate::log_tail::last_lines;

/// Pause before a write that failed is tried again: a full disk may have been cleared.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// The end of a run is waited for through so many FIFOs full of output; a stray writer may go on for ever.
const END_BATCHES_MAX: usize = 64;

pub(super) struct Task {
    out: Source,
    err: Source,
    file: LogFile,
    inbox: mpsc::Receiver<Request>,
    followers: broadcast::Sender<Arc<str>>,
    tail: VecDeque<String>,
    stuck: Option<Stuck>,
    config: LogConfig,
}

/// One FIFO, and whether there may be something in it that was not looked at.
struct Source {
    fifo: FifoReader,
    has_news: bool,
}

/// Lines that could not be written yet.
struct Stuck {
    writing: Writing,
    batch: Batch,
    retry_at: Instant,
}

impl Task {
    pub(super) fn open(config: LogConfig, inbox: mpsc::Receiver<Request>) -> io::Result<Self> {
        let file = LogFile::open(&config.file)?;
        let source = |path: &Path| -> io::Result<Source> {
            fifo::create(path)?;
            // Its last reader may have left something.
            Ok(Source { fifo: FifoReader::open(path, config.fifo_bytes)?, has_news: true })
        };
        let out = source(&config.out)?;
        let err = source(&config.err)?;
        let (followers, _) = broadcast::channel(config.follow_lines.max(1));
        Ok(Self { out, err, file, inbox, followers, tail: VecDeque::new(), stuck: None, config })
    }

    pub(super) async fn run(mut self) {
        loop {
            let has_news = self.stuck.is_none() && (self.out.has_news || self.err.has_news);
            let retry_at = self.stuck.as_ref().map(|stuck| stuck.retry_at);
            tokio::select! {
                // Requests first: a flood must not keep them waiting.
                biased;
                request = self.inbox.recv() => match request {
                    Some(request) => {
                        if self.answer(request).await {
                            return;
                        }
                    }
                    None => return,
                },
                () = std::future::ready(()), if has_news => self.take_all(false).await,
                () = sleep_until(retry_at), if retry_at.is_some() => self.retry().await,
                result = self.out.fifo.written(), if !self.out.has_news => self.out.has_news = result.is_ok(),
                result = self.err.fifo.written(), if !self.err.has_news => self.err.has_news = result.is_ok(),
            }
        }
    }

    /// Whether that was the last request.
    async fn answer(&mut self, request: Request) -> bool {
        // Nobody waits for an answer any more: that is their choice.
        match request {
            Request::BeginRun => self.tail.clear(),
            Request::EndRun(reply) => {
                self.drain().await;
                let _ = reply.send(self.tail.iter().cloned().collect());
            }
            Request::Last(lines, reply) => drop(reply.send(self.last(lines).await)),
            Request::Follow(lines, reply) => {
                let new = self.followers.subscribe();
                drop(reply.send(self.last(lines).await.map(|last| Following { last, new })));
            }
            Request::Close(reply) => {
                self.drain().await;
                let _ = reply.send(());
                return true;
            }
        }
        false
    }

    async fn last(&self, lines: usize) -> io::Result<Vec<String>> {
        let path = self.file.path().to_owned();
        let read = tokio::task::spawn_blocking(move || last_lines(&path, lines, 0)).await;
        read.unwrap_or_else(|error| Err(io::Error::other(error)))
    }

    /// Writes down what is in the FIFOs now, unfinished lines too.
    async fn drain(&mut self) {
        (self.out.has_news, self.err.has_news) = (true, true);
        let mut left = END_BATCHES_MAX;
        while left > 0 && self.stuck.is_none() && (self.out.has_news || self.err.has_news) {
            self.take_all(true).await;
            left -= 1;
        }
    }

    /// One batch of each stream.
    async fn take_all(&mut self, flush: bool) {
        for stream in [Stream::Out, Stream::Err] {
            if self.stuck.is_none() {
                self.take(stream, flush).await;
            }
        }
    }

    async fn take(&mut self, stream: Stream, flush: bool) {
        let line_bytes_max = self.config.line_bytes_max;
        let source = self.source(stream);
        if !source.has_news {
            return;
        }
        let bytes = match source.fifo.peek() {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::error!(%error, file = %self.file.path().display(), "cannot read a unit's output");
                self.source(stream).has_news = false;
                return;
            }
        };
        let now = jiff::Timestamp::now();
        let mut batch = Batch::of(&bytes, stream, now, line_bytes_max, flush);
        if batch.consumed == 0 && source.fifo.is_full() {
            // Without a whole line in it, it would never get one: its writer waits for us.
            batch = Batch::of(&bytes, stream, now, line_bytes_max, true);
        }
        if batch.consumed == 0 {
            source.has_news = false;
            return;
        }
        let writing = Writing::new(std::mem::take(&mut batch.written), source.fifo.taker(), batch.consumed);
        self.write(writing, batch).await;
    }

    async fn write(&mut self, writing: Writing, batch: Batch) {
        match self.file.write(writing).await {
            (_, Ok(())) => self.publish(batch),
            (writing, Err(error)) => {
                tracing::error!(%error, file = %self.file.path().display(), "cannot write a log; its output waits");
                let retry_at = Instant::now() + RETRY_PAUSE;
                self.stuck = writing.map(|writing| Stuck { writing, batch, retry_at });
            }
        }
    }

    async fn retry(&mut self) {
        if let Some(Stuck { writing, batch, .. }) = self.stuck.take() {
            self.write(writing, batch).await;
        }
    }

    /// The batch is safe in the file.
    fn publish(&mut self, batch: Batch) {
        let skipped = batch.texts.len().saturating_sub(self.config.tail_lines);
        self.tail.extend(batch.texts.into_iter().skip(skipped));
        while self.tail.len() > self.config.tail_lines {
            self.tail.pop_front();
        }
        for line in batch.lines {
            // Nobody follows: fine.
            let _ = self.followers.send(line);
        }
    }

    const fn source(&mut self, stream: Stream) -> &mut Source {
        match stream {
            Stream::Out => &mut self.out,
            Stream::Err => &mut self.err,
        }
    }
}

async fn sleep_until(moment: Option<Instant>) {
    if let Some(moment) = moment {
        tokio::time::sleep_until(moment).await;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::Logs;
    use super::*;

    fn config(dir: &Path) -> LogConfig {
        LogConfig {
            out: dir.join("a.out"),
            err: dir.join("a.err"),
            file: dir.join("a.log"),
            fifo_bytes: 65536,
            line_bytes_max: 1024,
            tail_lines: 3,
            follow_lines: 8,
        }
    }

    fn texts(lines: &[String]) -> Vec<&str> {
        lines.iter().map(|line| line.splitn(3, ' ').nth(2).unwrap()).collect()
    }

    #[tokio::test]
    async fn lines_reach_file_tail_and_followers() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::open(config(dir.path())).unwrap();
        let mut out = fifo::open_for_daemon(&dir.path().join("a.out")).unwrap();
        let mut follower = logs.follow(10).await.unwrap();
        out.write_all(b"one\ntwo\nunfini").unwrap();
        assert!(follower.next().await.unwrap().ends_with("Z out one"));
        assert!(follower.next().await.unwrap().ends_with("Z out two"));
        assert_eq!(texts(&logs.last(10).await.unwrap()), ["one", "two"], "an unfinished line waits");
        out.write_all(b"shed\nfour\nlast").unwrap();
        assert_eq!(logs.end_run().await, ["unfinished", "four", "last"], "the end of a run finishes its lines");
        assert_eq!(texts(&logs.last(2).await.unwrap()), ["four", "last"]);
        logs.begin_run().await;
        assert_eq!(logs.end_run().await, [""; 0]);
        logs.close().await;
    }

    #[tokio::test]
    async fn a_slow_follower_is_told_what_it_missed() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::open(config(dir.path())).unwrap();
        let mut out = fifo::open_for_daemon(&dir.path().join("a.out")).unwrap();
        let mut follower = logs.follow(0).await.unwrap();
        out.write_all("x\n".repeat(20).as_bytes()).unwrap();
        logs.end_run().await;
        assert_eq!(follower.next().await.unwrap(), "… 12 lines missed: this reader is too slow …");
        assert!(follower.next().await.unwrap().ends_with(" x"));
        logs.close().await;
        for _ in 0..7 {
            assert!(follower.next().await.is_some());
        }
        assert_eq!(follower.next().await, None);
    }

    #[tokio::test]
    async fn a_full_fifo_without_a_line_end_does_not_block_its_writer_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let logs = Logs::open(LogConfig { line_bytes_max: 10_000_000, ..config(dir.path()) }).unwrap();
        let path = dir.path().join("a.out");
        let writer = tokio::task::spawn_blocking(move || {
            let mut out = fifo::open_for_daemon(&path).unwrap();
            out.write_all(&b"y".repeat(1_000_000)).unwrap();
        });
        writer.await.unwrap();
        logs.close().await;
        let text = std::fs::read_to_string(dir.path().join("a.log")).unwrap();
        assert_eq!(text.matches('y').count(), 1_000_000);
    }

    #[tokio::test]
    async fn a_full_disk_keeps_the_output_in_the_fifo_and_nobody_waits_for_it() {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/full", dir.path().join("a.log")).unwrap();
        let logs = Logs::open(config(dir.path())).unwrap();
        let mut out = fifo::open_for_daemon(&dir.path().join("a.out")).unwrap();
        out.write_all(b"kept\n").unwrap();
        assert_eq!(logs.end_run().await, [""; 0]);
        logs.close().await;
        let next = Logs::open(LogConfig { file: dir.path().join("b.log"), ..config(dir.path()) }).unwrap();
        assert_eq!(next.end_run().await, ["kept"]);
    }

    /// PROC-04
    #[tokio::test]
    async fn the_next_reader_goes_on_where_the_last_one_was_killed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.out");
        fifo::create(&path).unwrap();
        let mut out = fifo::open_for_daemon(&path).unwrap();
        let (_requests, inbox) = mpsc::channel(1);
        let task = Task::open(config(dir.path()), inbox).unwrap();
        out.write_all(b"one\ntwo\nthr").unwrap();
        drop(task);
        out.write_all(b"ee\n").unwrap();
        let logs = Logs::open(config(dir.path())).unwrap();
        assert_eq!(logs.end_run().await, ["one", "two", "three"]);
    }
}
