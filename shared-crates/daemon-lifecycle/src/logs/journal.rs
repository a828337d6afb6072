//! Makes provable how much of a FIFO stands in a log file already, so that a death at any moment costs no line and doubles none.
//!
//! ```text
//! 1. intent:  "the log, now B bytes, becomes A bytes; then N bytes leave the FIFO"      one write of one page
//! 2. append                                                                            log: B → A bytes
//! 3. take:    splice(2) FIFO → end of this file. The kernel moves bytes: here or there  journal: 0 → N bytes more
//! ```
//!
//! The next supervisor compares lengths. The log shorter than A: nothing was taken yet, so the append is undone and done again.
//! Else N minus what the journal grew by is what still has to leave the FIFO. One journal serves all units of a supervisor, because
//! one thread serves them, one batch at a time. What it holds besides the last intent is worth nothing.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::pipe::{SpliceFlags, splice};

use super::fifo::Fifo;
use crate::files;

/// The intent's place: one page, so that it is written whole or not at all.
const PAGE_BYTES: usize = 4096;
/// Where taken bytes begin.
const TAKEN_FROM: u64 = PAGE_BYTES as u64;
/// The journal is emptied beyond this, and when there is nothing to do.
const JOURNAL_BYTES_MAX: u64 = 1024 * 1024;
const MAGIC: &[u8; 8] = b"rbeelog1";
const NUMBERS: usize = 6;
const FIXED_BYTES: usize = MAGIC.len() + NUMBERS * 8 + 2 * 2;

/// What is about to happen to a log and a FIFO.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Intent<P> {
    pub(super) fifo: P,
    pub(super) fifo_inode: u64,
    pub(super) log: P,
    pub(super) log_inode: u64,
    /// Length of the log before and after.
    pub(super) before: u64,
    pub(super) after: u64,
    /// Bytes that leave the FIFO.
    pub(super) taken: u64,
}

#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    end: u64,
    page: Vec<u8>,
}

impl Journal {
    /// Ends what a dead supervisor had begun, then begins anew.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = files::open_private(path)?;
        let end = file.metadata()?.len();
        let mut journal = Self { file, end, page: Vec::new() };
        if let Some((intent, taken_from)) = journal.read()? {
            let missing = intent.taken.saturating_sub(end.saturating_sub(taken_from));
            journal.finish(&intent, missing)?;
        }
        journal.empty()?;
        Ok(journal)
    }

    /// Writes down what comes next; after this the log is appended to, then [`take`](Self::take) is called.
    pub(super) fn intend(&mut self, intent: &Intent<&Path>) -> io::Result<()> {
        if self.end > JOURNAL_BYTES_MAX {
            self.empty()?;
        }
        let (fifo, log) = (intent.fifo.as_os_str().as_bytes(), intent.log.as_os_str().as_bytes());
        self.page.clear();
        self.page.extend_from_slice(MAGIC);
        let Intent { fifo_inode, log_inode, before, after, taken, .. } = *intent;
        for number in [fifo_inode, log_inode, before, after, taken, self.end] {
            self.page.extend_from_slice(&number.to_le_bytes());
        }
        for path in [fifo, log] {
            self.page.extend_from_slice(&u16::try_from(path.len()).unwrap_or(u16::MAX).to_le_bytes());
        }
        self.page.extend_from_slice(fifo);
        self.page.extend_from_slice(log);
        if self.page.len() > PAGE_BYTES {
            // Nowhere near what paths are. Then a death in this batch doubles it.
            return self.empty();
        }
        self.file.write_all_at(&self.page, 0)
    }

    /// Moves `bytes` out of the FIFO.
    pub(super) fn take(&mut self, fifo: &Fifo, bytes: usize) -> io::Result<()> {
        let mut missing = bytes;
        while missing > 0 {
            match splice(fifo.file(), None, &self.file, Some(&mut self.end), missing, SpliceFlags::NONBLOCK) {
                Ok(moved) if moved > 0 => missing -= moved,
                Err(rustix::io::Errno::INTR) => {}
                // A full disk, or a file system that cannot: without proof then, for what is in the log must leave the FIFO.
                _ => {
                    self.empty()?;
                    return fifo.discard(missing);
                }
            }
        }
        Ok(())
    }

    /// Gives back most of its room on the disk.
    pub(super) fn relax(&mut self) -> io::Result<()> {
        if self.end > TAKEN_FROM { self.empty() } else { Ok(()) }
    }

    /// In this order: without an intent, lengths mean nothing.
    fn empty(&mut self) -> io::Result<()> {
        self.file.write_all_at(&[0; PAGE_BYTES], 0)?;
        self.file.set_len(TAKEN_FROM)?;
        self.end = TAKEN_FROM;
        Ok(())
    }

    /// The last intent, and where its taken bytes begin.
    fn read(&self) -> io::Result<Option<(Intent<PathBuf>, u64)>> {
        let mut page = vec![0; PAGE_BYTES];
        match self.file.read_exact_at(&mut page, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
            Ok(()) => Ok(parse(&page)),
        }
    }

    fn finish(&mut self, intent: &Intent<PathBuf>, missing: u64) -> io::Result<()> {
        if missing == 0 {
            return Ok(());
        }
        let Some(mut log) = same_file(&intent.log, intent.log_inode)? else { return Ok(()) };
        let fifo = Fifo::open(&intent.fifo).ok().filter(|fifo| fifo.inode() == intent.fifo_inode);
        let length = log.metadata()?.len();
        match fifo {
            Some(fifo) if fifo.filled()? >= missing => {
                if length >= intent.after {
                    self.take(&fifo, usize::try_from(missing).unwrap_or(usize::MAX))?;
                } else if length > intent.before {
                    log.set_len(intent.before)?;
                }
            }
            // Its daemon died too, and the kernel gave up what the FIFO held: what was written is all there is.
            _ if intent.before < length && length < intent.after => log.write_all(b"\n")?,
            _ => {}
        }
        Ok(())
    }
}

fn parse(page: &[u8]) -> Option<(Intent<PathBuf>, u64)> {
    let rest = page.strip_prefix(MAGIC)?;
    let mut numbers = [0; NUMBERS];
    for (number, bytes) in numbers.iter_mut().zip(rest.chunks_exact(8)) {
        *number = u64::from_le_bytes(bytes.try_into().ok()?);
    }
    let [fifo_inode, log_inode, before, after, taken, taken_from] = numbers;
    let length = |at: usize| Some(usize::from(u16::from_le_bytes(rest.get(at..at + 2)?.try_into().ok()?)));
    let (fifo_length, log_length) = (length(NUMBERS * 8)?, length(NUMBERS * 8 + 2)?);
    let paths = &page[FIXED_BYTES..];
    let path = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
    let fifo = path(paths.get(..fifo_length)?);
    let log = path(paths.get(fifo_length..fifo_length + log_length)?);
    Some((Intent { fifo, fifo_inode, log, log_inode, before, after, taken }, taken_from))
}

/// The file, if it is still the one that was meant.
fn same_file(path: &Path, inode: u64) -> io::Result<Option<File>> {
    match OpenOptions::new().append(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
        Ok(file) => Ok((file.metadata()?.ino() == inode).then_some(file)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::fifo::{Peeker, create};
    use super::*;

    /// A log with `old\n`, a FIFO with `new\nnext\n` (of which `new\n` is to be moved), and a daemon that holds it.
    struct Scene {
        dir: tempfile::TempDir,
        daemon: Option<File>,
        fifo: Fifo,
    }

    impl Scene {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("a.log"), "old\n").unwrap();
            let path = dir.path().join("a.out");
            create(&path).unwrap();
            let mut daemon = OpenOptions::new().read(true).write(true).open(&path).unwrap();
            daemon.write_all(b"new\nnext\n").unwrap();
            let fifo = Fifo::open(&path).unwrap();
            Self { dir, daemon: Some(daemon), fifo }
        }

        fn journal(&self) -> Journal {
            Journal::open(&self.dir.path().join("logs.journal")).unwrap()
        }

        fn intend(&self, journal: &mut Journal) {
            let (fifo, log) = (self.dir.path().join("a.out"), self.dir.path().join("a.log"));
            let log_inode = fs::metadata(&log).unwrap().ino();
            let intent = Intent {
                fifo: &*fifo,
                fifo_inode: self.fifo.inode(),
                log: &*log,
                log_inode,
                before: 4,
                after: 8,
                taken: 4,
            };
            journal.intend(&intent).unwrap();
        }

        fn append(&self, text: &str) {
            let mut log = OpenOptions::new().append(true).open(self.dir.path().join("a.log")).unwrap();
            log.write_all(text.as_bytes()).unwrap();
        }

        /// What the next supervisor finds: the log, then the FIFO.
        fn found(self) -> (String, String) {
            let Self { dir, daemon, fifo } = self;
            drop(fifo);
            let mut journal = Journal::open(&dir.path().join("logs.journal")).unwrap();
            assert_eq!(journal.read().unwrap(), None, "nothing is done twice");
            journal.relax().unwrap();
            let fifo = Fifo::open(&dir.path().join("a.out")).unwrap();
            let waiting = Peeker::new(65536).unwrap().peek(&fifo).unwrap().to_vec();
            drop(daemon);
            (fs::read_to_string(dir.path().join("a.log")).unwrap(), String::from_utf8(waiting).unwrap())
        }
    }

    fn pair(log: &str, waiting: &str) -> (String, String) {
        (log.to_owned(), waiting.to_owned())
    }

    /// LOGS-05
    #[test]
    fn a_death_at_any_step_moves_each_byte_once() {
        let scene = Scene::new();
        scene.intend(&mut scene.journal());
        assert_eq!(scene.found(), pair("old\n", "new\nnext\n"), "before the append");

        let scene = Scene::new();
        scene.intend(&mut scene.journal());
        scene.append("ne");
        assert_eq!(scene.found(), pair("old\n", "new\nnext\n"), "within the append");

        let scene = Scene::new();
        scene.intend(&mut scene.journal());
        scene.append("new\n");
        assert_eq!(scene.found(), pair("old\nnew\n", "next\n"), "before the take");

        let scene = Scene::new();
        let mut journal = scene.journal();
        scene.intend(&mut journal);
        scene.append("new\n");
        journal.take(&scene.fifo, 3).unwrap();
        assert_eq!(scene.found(), pair("old\nnew\n", "next\n"), "within the take");

        let scene = Scene::new();
        let mut journal = scene.journal();
        scene.intend(&mut journal);
        scene.append("new\n");
        journal.take(&scene.fifo, 4).unwrap();
        assert_eq!(scene.found(), pair("old\nnew\n", "next\n"), "after it");
    }

    #[test]
    fn without_its_daemon_what_was_written_stays_as_a_whole_line() {
        let mut scene = Scene::new();
        scene.intend(&mut scene.journal());
        scene.append("ne");
        scene.daemon = None;
        assert_eq!(scene.found(), pair("old\nne\n", ""));
    }

    #[test]
    fn a_log_that_somebody_replaced_is_left_alone() {
        let scene = Scene::new();
        scene.intend(&mut scene.journal());
        fs::rename(scene.dir.path().join("a.log"), scene.dir.path().join("elsewhere")).unwrap();
        fs::write(scene.dir.path().join("a.log"), "longer than it was meant to be\n").unwrap();
        assert_eq!(scene.found(), pair("longer than it was meant to be\n", "new\nnext\n"));
    }

    #[test]
    fn it_stays_small_and_garbage_in_it_is_nothing() {
        let scene = Scene::new();
        let path = scene.dir.path().join("logs.journal");
        fs::write(&path, [0xff; 9000]).unwrap();
        let mut journal = scene.journal();
        let mut daemon = scene.daemon.as_ref().unwrap();
        for _ in 0..100 {
            daemon.write_all(&[b'x'; 50_000]).unwrap();
            scene.intend(&mut journal);
            journal.take(&scene.fifo, 50_000).unwrap();
            assert!(fs::metadata(&path).unwrap().len() <= JOURNAL_BYTES_MAX + 50_000 + TAKEN_FROM);
            assert_eq!(scene.fifo.filled().unwrap(), 9);
        }
        journal.relax().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().len(), TAKEN_FROM);
    }
}
