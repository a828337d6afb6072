//! Reading a log as it grows, from its files.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use tokio::sync::watch;

use super::requests::{Opened, Request, Shared, Which};
use super::unit::Place;

/// Read at once, unless a line is longer.
const BLOCK_BYTES: u64 = 64 * 1024;

/// Log lines as they are written.
///
/// It reads the files at its own pace, so the writer never waits for it and it misses nothing that is kept. The file it reads
/// stays readable for it whatever becomes of its name.
#[derive(Debug)]
pub struct LogFollower {
    shared: Arc<Shared>,
    id: u32,
    lines: VecDeque<String>,
    file: Option<Arc<File>>,
    /// What was read.
    place: Place,
    written: watch::Receiver<Place>,
}

impl Drop for LogFollower {
    fn drop(&mut self) {
        // First: who is counted is not gone.
        self.written = watch::channel(self.place).1;
        self.shared.ask(Request::Unfollow(self.id));
    }
}

impl LogFollower {
    pub(super) fn new(
        shared: Arc<Shared>,
        id: u32,
        last: Vec<String>,
        (file, place): (Arc<File>, Place),
        written: watch::Receiver<Place>,
    ) -> Self {
        Self { shared, id, lines: last.into(), file: Some(file), place, written }
    }

    /// The next line, without its newline; `None` when the unit is forgotten, the supervisor closed or the log unreadable. Where
    /// files went, by their budget, before they were read, a line says so. Cancel safe.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(line);
            }
            let written = *self.written.borrow_and_update();
            if written == self.place {
                self.written.changed().await.ok()?;
                continue;
            }
            if let Err(error) = self.read(written).await {
                tracing::warn!(%error, "cannot follow a log");
                return None;
            }
        }
    }

    /// Reads on, towards `written`. What is changed is changed after the last wait.
    async fn read(&mut self, written: Place) -> io::Result<()> {
        let Some(file) = self.file.clone() else { return self.open_next(self.place.generation).await };
        let from = self.place.offset;
        let until = (written.generation == self.place.generation).then_some(written.offset);
        let read = tokio::task::spawn_blocking(move || read_lines(&file, from, until)).await;
        let (lines, bytes) = read.map_err(io::Error::other)??;
        if bytes == 0 && until.is_none() {
            return self.open_next(self.place.generation + 1).await;
        }
        self.lines = lines;
        self.place.offset += bytes;
        if bytes == 0 {
            // Somebody emptied the file: it begins again.
            self.place.offset = if written.offset < from { 0 } else { written.offset };
        }
        Ok(())
    }

    async fn open_next(&mut self, generation: u64) -> io::Result<()> {
        let opened = self.shared.open_file(self.id, Which::From(generation)).await?;
        let closed = || io::Error::other("the log is closed");
        let Opened { file, generation: found, .. } = opened.ok_or_else(closed)?;
        if found > self.place.generation {
            self.place = Place { generation: found, offset: 0 };
        }
        if found > generation {
            let missed = found - generation;
            self.lines.push_back(format!("… {missed} log files missed: they were removed before they were read …"));
        }
        self.file = Some(file);
        Ok(())
    }
}

/// Whole lines from an offset on, and how many bytes they are.
fn read_lines(file: &File, from: u64, until: Option<u64>) -> io::Result<(VecDeque<String>, u64)> {
    let until = until.map_or_else(|| file.metadata().map(|metadata| metadata.len()), Ok)?;
    let mut block = Vec::new();
    let mut block_bytes = BLOCK_BYTES;
    loop {
        let wanted = usize::try_from(until.saturating_sub(from).min(block_bytes)).unwrap_or(0);
        block.resize(wanted, 0);
        let mut filled = 0;
        while filled < wanted {
            match file.read_at(&mut block[filled..], from + filled as u64)? {
                0 => break,
                read => filled += read,
            }
        }
        block.truncate(filled);
        let is_all = filled < wanted || from + filled as u64 >= until;
        let whole = memchr::memrchr(b'\n', &block).map_or(0, |end| end + 1);
        if whole > 0 || is_all {
            block.truncate(if whole > 0 { whole } else { filled });
            let text = String::from_utf8_lossy(&block);
            return Ok((text.split_terminator('\n').map(str::to_owned).collect(), block.len() as u64));
        }
        block_bytes *= 2;
    }
}
