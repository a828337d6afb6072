//! The supervised program, compiled once a run, and what it tells through its FIFO.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::stat::Mode;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;

const SOURCE: &str = include_str!("child.c");
const RECORD_BYTES: usize = 32;
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Compiles the child: static, so that its own start costs as little as a start can.
#[expect(clippy::disallowed_methods, reason = "a compiler is no daemon")]
pub fn compile(folder: &Path) -> Result<PathBuf> {
    let (source, program) = (folder.join("child.c"), folder.join("child"));
    fs::write(&source, SOURCE)?;
    let output = Command::new("cc").args(["-O2", "-static", "-o"]).arg(&program).arg(&source).output();
    let output = output.context("the bench's child needs a C compiler, cc")?;
    ensure!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
    Ok(program)
}

/// What a child tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It runs.
    Born,
    /// It has written all lines it was to write.
    Written,
    /// It ends; its number is how many lines it wrote.
    Ended,
    /// A relative of it runs.
    Relative,
}

/// One thing a child told.
#[derive(Debug, Clone, Copy)]
pub struct Told {
    pub kind: Kind,
    pub index: usize,
    pub pid: u32,
    pub number: i64,
    pub at_ns: i64,
}

impl Told {
    fn parse(bytes: &[u8]) -> Option<Self> {
        let small = |at: usize| Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let large = |at: usize| Some(i64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let kind = match small(0)? {
            1 => Kind::Born,
            2 => Kind::Written,
            3 => Kind::Ended,
            4 => Kind::Relative,
            _ => return None,
        };
        let (index, pid) = (usize::try_from(small(4)?).ok()?, u32::try_from(small(8)?).ok()?);
        Some(Self { kind, index, pid, number: large(16)?, at_ns: large(24)? })
    }
}

/// Where all children of a scene tell.
pub struct Ear {
    fifo: File,
    pub path: PathBuf,
}

impl Ear {
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("told");
        nix::unistd::mkfifo(&path, Mode::S_IRWXU)?;
        let flags = i32::try_from(OFlags::NONBLOCK.bits())?;
        let fifo = OpenOptions::new().read(true).write(true).custom_flags(flags).open(&path)?;
        Ok(Self { fifo, path })
    }

    /// Everything that was told, waiting for something until `deadline`; nothing is left in the FIFO.
    pub fn hear(&mut self, deadline: Instant) -> Result<Vec<Told>> {
        let left = deadline.saturating_duration_since(Instant::now());
        poll(&mut [PollFd::new(&self.fifo, PollFlags::IN)], Some(&Timespec::try_from(left)?))?;
        let mut told = Vec::new();
        let mut bytes = [0; RECORD_BYTES * 128];
        loop {
            match self.fifo.read(&mut bytes) {
                Ok(read) => told.extend(bytes[..read].chunks(RECORD_BYTES).filter_map(Told::parse)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(told),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Waits for something of this kind from each of `count` children; the newest of each. Whether it is in vain is asked now and
    /// then.
    pub fn hear_all(
        &mut self,
        kind: Kind,
        count: usize,
        timeout: Duration,
        mut is_in_vain: impl FnMut() -> bool,
    ) -> Result<HashMap<usize, Told>> {
        let deadline = Instant::now() + timeout;
        let mut heard = HashMap::new();
        while heard.len() < count {
            let now = Instant::now();
            let told = self.hear(deadline.min(now + ASK_EVERY))?;
            ensure!(
                now < deadline && (!told.is_empty() || !is_in_vain()),
                "only {} of {count} children: {kind:?}",
                heard.len()
            );
            heard.extend(told.into_iter().filter(|told| told.kind == kind).map(|told| (told.index, told)));
        }
        Ok(heard)
    }
}
