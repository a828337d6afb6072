//! One unit's log, as the log thread keeps it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use jiff::Timestamp;
use tokio::sync::watch;

use super::fifo::{Fifo, Peeker};
use super::files::{Aside, LogFiles};
use super::journal::{Intent, Journal};
use super::lines::{Breaks, Stamp, Stream, stamp_lines, text_of};
use super::policy::LogPolicy;
use super::{LogBounds, LogConfig};
use crate::log_tail::last_lines_of;
use crate::process::tell_of_writes;

/// The end of a run is waited for through so many FIFOs full of output; a stray writer may go on for ever.
const END_BATCHES_MAX: usize = 64;
/// Most that is written at once, unless a single line is longer.
const WRITTEN_BYTES_MAX: usize = 1024 * 1024;
/// A peek that found less has seen all there was.
const SEEN_ALL_BYTES: usize = 4096;

/// What serves all units, one at a time.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) bounds: LogBounds,
    pub(super) journal: Journal,
    pub(super) peeker: Peeker,
    pub(super) written: Vec<u8>,
    /// Whether a FIFO was found half full.
    pub(super) is_flooded: bool,
}

/// A place in a unit's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) generation: u64,
    pub(super) offset: u64,
}

#[derive(Debug)]
pub(super) struct Unit {
    config: Arc<LogConfig>,
    out: Source,
    err: Source,
    files: LogFiles,
    /// Set by whoever begins a run, before there is any output of it.
    run_begins: Arc<AtomicBool>,
    run_began: Place,
    /// How far the log is written; there while somebody follows it.
    followers: Option<watch::Sender<Place>>,
    /// When it asked to be looked at, without output.
    pub(super) alarm: Option<Instant>,
    pub(super) is_stuck: bool,
}

/// One FIFO.
#[derive(Debug)]
struct Source {
    fifo: Fifo,
    /// Whether there may be something in it that was not looked at.
    has_news: bool,
    /// Bytes that stand in the log but could not be taken out of it yet.
    owed: usize,
    /// Whether an unfinished line was left in it, and every write is told.
    is_left: bool,
}

impl Source {
    fn set_left(&mut self, is_left: bool) -> io::Result<()> {
        if self.is_left != is_left {
            tell_of_writes(self.fifo.file(), is_left)?;
            self.is_left = is_left;
        }
        Ok(())
    }
}

impl Unit {
    pub(super) fn new(
        config: Arc<LogConfig>,
        [out, err]: [Fifo; 2],
        files: LogFiles,
        run_begins: Arc<AtomicBool>,
    ) -> Self {
        // Its last reader may have left something.
        let source = |fifo| Source { fifo, has_news: true, owed: 0, is_left: false };
        let run_began = Place { generation: files.generation(), offset: files.len() };
        let (out, err) = (source(out), source(err));
        Self { config, out, err, files, run_begins, run_began, followers: None, alarm: None, is_stuck: false }
    }

    pub(super) const fn fifo(&self, stream: Stream) -> &Fifo {
        match stream {
            Stream::Out => &self.out.fifo,
            Stream::Err => &self.err.fifo,
        }
    }

    /// Whether there is something to do though there is no output: files that were found.
    pub(super) fn needs_a_look(&self) -> bool {
        self.files.deadline().is_some()
    }

    /// The daemon's next run writes to another FIFO.
    pub(super) fn replace_fifo(&mut self, stream: Stream, fifo: Fifo) {
        *self.source(stream) = Source { fifo, has_news: true, owed: 0, is_left: false };
    }

    pub(super) fn note_news(&mut self, stream: Stream) {
        self.source(stream).has_news = true;
    }

    /// Whether an unfinished line waits in a FIFO.
    pub(super) const fn has_unfinished(&self) -> bool {
        self.out.is_left || self.err.is_left
    }

    pub(super) const fn has_news(&self) -> bool {
        self.out.has_news || self.err.has_news
    }

    pub(super) const fn files(&mut self) -> &mut LogFiles {
        &mut self.files
    }

    pub(super) fn into_aside(self) -> (PathBuf, Vec<Aside>) {
        self.files.into_aside()
    }

    /// One batch of each stream that has news. After an error its output waits in the FIFO.
    pub(super) fn take_batches(&mut self, tools: &mut Tools) -> io::Result<()> {
        for stream in [Stream::Out, Stream::Err] {
            if self.source(stream).has_news {
                self.take(stream, false, tools)?;
            }
        }
        Ok(())
    }

    /// Writes down what is in the FIFOs now; with `flush` unfinished lines too.
    pub(super) fn drain(&mut self, flush: bool, tools: &mut Tools) -> io::Result<()> {
        for _ in 0..END_BATCHES_MAX {
            let taken = self.take(Stream::Out, flush, tools)? + self.take(Stream::Err, flush, tools)?;
            if taken == 0 {
                break;
            }
        }
        Ok(())
    }

    /// One batch; how many bytes it took.
    fn take(&mut self, stream: Stream, flush: bool, tools: &mut Tools) -> io::Result<usize> {
        let Tools { bounds, journal, peeker, written, is_flooded } = tools;
        let (source, path) = match stream {
            Stream::Out => (&mut self.out, &self.config.out),
            Stream::Err => (&mut self.err, &self.config.err),
        };
        if source.owed > 0 {
            journal.take(&source.fifo, source.owed)?;
            source.owed = 0;
        }
        let capacity = peeker.capacity();
        let mut bytes = peeker.peek(&source.fifo)?;
        // In this order: what a run writes comes after its beginning was told.
        if self.run_begins.swap(false, Ordering::AcqRel) {
            self.run_began = Place { generation: self.files.generation(), offset: self.files.len() };
        }
        if bytes.is_empty() {
            source.has_news = false;
            return source.set_left(false).map(|()| 0);
        }
        let is_flooded_now = bytes.len() >= source.fifo.capacity() / 2;
        *is_flooded |= is_flooded_now;
        let now = Timestamp::now();
        self.files.look()?;
        if self.files.is_too_old(now) {
            self.files.rotate()?;
            self.files.look()?;
        }
        let stamp = Stamp::new(now, stream);
        let mut breaks = Breaks { line_bytes_max: bounds.line_bytes_max, flush, room: 0, first_anyway: false };
        let mut was_full = false;
        let stamped = loop {
            let written_max = WRITTEN_BYTES_MAX.max(bounds.line_bytes_max.saturating_mul(2));
            breaks.room = self.files.room().min(written_max);
            breaks.first_anyway = self.files.len() == 0;
            written.clear();
            let stamped = stamp_lines(bytes, &stamp, breaks, written);
            if stamped.consumed > 0 {
                break stamped;
            }
            if stamped.has_more {
                self.files.rotate()?;
                self.files.look()?;
            } else if !was_full && !breaks.flush && source.fifo.is_full() {
                // It may have become so since the look at it.
                was_full = true;
                bytes = peeker.peek(&source.fifo)?;
            } else if was_full && !breaks.flush {
                // Full without a whole line in it, it would never get one: its writer waits for us.
                breaks.flush = true;
            } else {
                // Once more when it is being told: what came in between was not.
                source.has_news = !source.is_left;
                return source.set_left(true).map(|()| 0);
            }
        };
        let consumed = stamped.consumed;
        let after = self.files.len() + u64::try_from(written.len()).unwrap_or(0);
        journal.intend(&Intent {
            fifo: path.as_path(),
            fifo_inode: source.fifo.inode(),
            log: self.files.path(),
            log_inode: self.files.inode(),
            before: self.files.len(),
            after,
            taken: u64::try_from(consumed).unwrap_or(0),
        })?;
        self.files.append(written, now)?;
        source.has_news = consumed < bytes.len() || bytes.len() >= SEEN_ALL_BYTES || capacity < source.fifo.capacity();
        source.owed = consumed;
        if let Some(followers) = &self.followers {
            followers.send_replace(Place { generation: self.files.generation(), offset: self.files.len() });
        }
        journal.take(&source.fifo, consumed)?;
        source.owed = 0;
        if is_flooded_now {
            source.fifo.grow(capacity);
        }
        Ok(consumed)
    }

    /// The last lines of the present run, as the daemon wrote them.
    pub(super) fn tail(&mut self, tools: &Tools) -> io::Result<Vec<String>> {
        let mut tail: Vec<String> = Vec::new();
        let mut generation = self.files.generation();
        let began = self.run_began;
        let (mut from, mut end) = (self.begin_in(generation), self.files.len());
        if end > from {
            tail = last_lines_of(self.files.opened()?, tools.bounds.tail_lines, from, end)?;
        }
        while tail.len() < tools.bounds.tail_lines && generation > began.generation {
            let Some((file, before)) = self.files.open_before(generation)? else { break };
            if before < began.generation {
                break;
            }
            generation = before;
            (from, end) = (self.begin_in(generation), file.metadata()?.len());
            let mut earlier = last_lines_of(&file, tools.bounds.tail_lines - tail.len(), from, end)?;
            earlier.append(&mut tail);
            tail = earlier;
        }
        Ok(tail.iter().map(|line| text_of(line).to_owned()).collect())
    }

    /// Where the present run begins in a file.
    const fn begin_in(&self, generation: u64) -> u64 {
        if self.run_began.generation == generation { self.run_began.offset } else { 0 }
    }

    /// How far the log is written.
    pub(super) const fn written(&self) -> Place {
        Place { generation: self.files.generation(), offset: self.files.len() }
    }

    pub(super) fn follow(&mut self) -> watch::Receiver<Place> {
        let written = self.written();
        self.followers.get_or_insert_with(|| watch::channel(written).0).subscribe()
    }

    pub(super) fn forget_gone_followers(&mut self) {
        self.followers.take_if(|followers| followers.receiver_count() == 0);
    }

    fn publish(&self) {
        if let Some(followers) = &self.followers {
            followers.send_replace(self.written());
        }
    }

    pub(super) fn set_policy(&mut self, policy: LogPolicy) -> io::Result<()> {
        self.files.set_policy(policy);
        self.keep_policy()
    }

    /// What age asks for, without any output.
    pub(super) fn keep_policy(&mut self) -> io::Result<()> {
        let kept = self.files.keep_policy(Timestamp::now());
        self.publish();
        kept
    }

    /// When age asks for something next.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let wait = self.files.deadline()?.duration_since(Timestamp::now());
        now.checked_add(wait.try_into().unwrap_or_default())
    }

    const fn source(&mut self, stream: Stream) -> &mut Source {
        match stream {
            Stream::Out => &mut self.out,
            Stream::Err => &mut self.err,
        }
    }
}
