//! The files of one unit's log: `NAME.log` is written to, `NAME.log.1` is the newest put aside, `NAME.log.2` the one before.
//!
//! ```text
//! too large or too old:   .5 goes   .4 → .5   .3 → .4   .2 → .3   .1 → .2   NAME.log → .1   (new NAME.log)
//! ```
//!
//! Only renames: a line is in exactly one file at any moment. A death in between leaves one number unused; the next rotation moves
//! files up to that gap only, so nothing goes before its time. Each file has a generation, counted up with every rotation: by that
//! readers know where they are while numbers shift.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rustix::fs::Access;

use super::lines::written_at;
use super::policy::LogPolicy;

/// First of the current file's generation; those found put aside have the numbers below.
const GENERATION_FIRST: u64 = 1 << 32;
/// Bytes of a line's timestamp, and a little more.
const STAMP_BYTES: usize = 32;

/// A file that is not written to any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Aside {
    number: u32,
    generation: u64,
    /// When its last line was written.
    last: Timestamp,
}

/// All of a unit's log files.
#[derive(Debug)]
pub(super) struct LogFiles {
    path: PathBuf,
    policy: LogPolicy,
    current: Option<File>,
    is_newly_open: bool,
    inode: u64,
    len: u64,
    generation: u64,
    /// When the first and last line of the current file were written.
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    /// Newest first.
    aside: Vec<Aside>,
}

impl LogFiles {
    /// Finds what is there. `aside`: what [`AsideFiles`] knows of it. `prove`: that a file can be made there, by making it;
    /// otherwise it is made by its first line.
    pub(super) fn open(path: PathBuf, policy: LogPolicy, mut aside: Vec<Aside>, prove: bool) -> io::Result<Self> {
        aside.sort_by_key(|file| file.number);
        for (file, below) in aside.iter_mut().zip(1..) {
            file.generation = GENERATION_FIRST - below;
        }
        let (current, inode, len) = (None, 0, 0);
        let (first, last) = (None, None);
        let (is_newly_open, generation) = (false, GENERATION_FIRST);
        let mut files = Self { path, policy, current, is_newly_open, inode, len, generation, first, last, aside };
        files.find(prove)?;
        if files.len > 0 {
            let file = files.opened()?;
            let modified = modified(&file.metadata()?);
            let mut stamp = [0; STAMP_BYTES];
            let read = file.read_at(&mut stamp, 0)?;
            files.first = written_at(&String::from_utf8_lossy(&stamp[..read])).or(Some(modified));
            files.last = Some(modified);
        }
        files.close();
        Ok(files)
    }

    /// Looks whether there is a current file, and whether it or its folder can be written to.
    fn find(&mut self, prove: bool) -> io::Result<()> {
        let writable = match fs::metadata(&self.path) {
            Ok(metadata) if metadata.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Ok(metadata) => {
                (self.inode, self.len) = (metadata.ino(), metadata.len());
                self.path.as_path()
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && prove => return self.look(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.path.parent().unwrap_or(&self.path),
            Err(error) => return Err(error),
        };
        Ok(rustix::fs::access(writable, Access::WRITE_OK)?)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) const fn generation(&self) -> u64 {
        self.generation
    }

    pub(super) const fn inode(&self) -> u64 {
        self.inode
    }

    /// Bytes in the current file.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Whether the current file was opened since this was asked last, and still is.
    pub(super) fn is_newly_open(&mut self) -> bool {
        std::mem::take(&mut self.is_newly_open) && self.current.is_some()
    }

    /// It is opened again when it is needed.
    pub(super) fn close(&mut self) {
        self.current = None;
    }

    pub(super) fn set_policy(&mut self, policy: LogPolicy) {
        self.policy = policy;
    }

    /// Bytes that still fit into the current file.
    pub(super) fn room(&self) -> usize {
        usize::try_from(self.policy.file_bytes_max.saturating_sub(self.len)).unwrap_or(usize::MAX)
    }

    /// The current file as it really is: somebody may have removed or emptied it.
    pub(super) fn look(&mut self) -> io::Result<()> {
        let mut metadata = self.opened()?.metadata()?;
        if metadata.nlink() == 0 {
            self.close();
            metadata = self.opened()?.metadata()?;
        }
        (self.inode, self.len) = (metadata.ino(), metadata.len());
        if self.len == 0 {
            (self.first, self.last) = (None, None);
        }
        Ok(())
    }

    /// All of it or nothing. The caller has looked and made room.
    pub(super) fn append(&mut self, bytes: &[u8], at: Timestamp) -> io::Result<()> {
        let before = self.len;
        let mut file = self.opened()?;
        if let Err(error) = file.write_all(bytes) {
            // What is not whole is taken back: the FIFO still has it.
            if file.metadata()?.len() > before {
                file.set_len(before)?;
            }
            return Err(error);
        }
        self.len += u64::try_from(bytes.len()).unwrap_or(0);
        self.first.get_or_insert(at);
        self.last = Some(at);
        Ok(())
    }

    /// When to call [`keep_policy`](Self::keep_policy) next.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let moments = self.first.into_iter().chain(self.aside.last().map(|file| file.last));
        moments.filter_map(|moment| moment.checked_add(self.policy.age_max).ok()).min()
    }

    /// What is too large, too old or too many, without anything having been written.
    pub(super) fn keep_policy(&mut self, now: Timestamp) -> io::Result<()> {
        let is_old = self.is_expired(self.first, now);
        if self.len > 0 && (is_old || self.len > self.policy.file_bytes_max) {
            self.rotate()?;
        }
        self.drop_excess(now);
        Ok(())
    }

    /// Whether the current file is not to be written to any more.
    pub(super) fn is_too_old(&self, now: Timestamp) -> bool {
        self.len > 0 && self.is_expired(self.first, now)
    }

    fn is_expired(&self, moment: Option<Timestamp>, now: Timestamp) -> bool {
        let end = moment.and_then(|moment| moment.checked_add(self.policy.age_max).ok());
        end.is_some_and(|end| end <= now)
    }

    /// Puts the current file aside; the next append begins a new one.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        let kept = self.policy.files_kept;
        self.close();
        if kept == 0 {
            fs::remove_file(&self.path)?;
        } else {
            self.make_way(kept)?;
            fs::rename(&self.path, numbered(&self.path, 1))?;
            let last = self.last.unwrap_or_else(Timestamp::now);
            self.aside.insert(0, Aside { number: 1, generation: self.generation, last });
        }
        self.generation += 1;
        (self.len, self.first, self.last) = (0, None, None);
        Ok(())
    }

    /// Moves files up until number 1 is unused.
    fn make_way(&mut self, kept: u32) -> io::Result<()> {
        let mut gap = self.gap();
        while gap <= kept && fs::symlink_metadata(numbered(&self.path, gap)).is_ok() {
            // Somebody put it there. It is one of ours from now on, or it would be overwritten.
            let last = modified(&fs::symlink_metadata(numbered(&self.path, gap))?);
            let at = self.aside.partition_point(|file| file.number < gap);
            self.aside.insert(at, Aside { number: gap, generation: 0, last });
            gap = self.gap();
        }
        if gap > kept {
            self.drop_numbers_from(kept);
            gap = kept;
        }
        // Numbers below the gap are all in use, so they are the first ones of the list.
        for index in (0..usize::try_from(gap - 1).unwrap_or(0)).rev() {
            let number = self.aside[index].number;
            fs::rename(numbered(&self.path, number), numbered(&self.path, number + 1))?;
            self.aside[index].number += 1;
        }
        Ok(())
    }

    /// The lowest number that no file has.
    fn gap(&self) -> u32 {
        let mut gap = 1;
        for file in &self.aside {
            if file.number != gap {
                break;
            }
            gap += 1;
        }
        gap
    }

    fn drop_excess(&mut self, now: Timestamp) {
        self.drop_numbers_from(self.policy.files_kept.saturating_add(1));
        while let Some(oldest) = self.aside.last().copied().filter(|file| self.is_expired(Some(file.last), now)) {
            self.drop_numbers_from(oldest.number);
        }
    }

    fn drop_numbers_from(&mut self, number: u32) {
        while let Some(file) = self.aside.pop_if(|file| file.number >= number) {
            let path = numbered(&self.path, file.number);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%error, file = %path.display(), "cannot remove an old log");
                }
                _ => {}
            }
        }
    }

    /// The current file, opened if need be.
    pub(super) fn opened(&mut self) -> io::Result<&File> {
        if self.current.is_none() {
            self.is_newly_open = true;
            self.current = Some(OpenOptions::new().read(true).append(true).create(true).mode(0o640).open(&self.path)?);
        }
        self.current.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Opens the oldest file of this generation or a newer one, for reading.
    pub(super) fn open_from(&self, generation: u64) -> io::Result<(File, u64)> {
        let found = self.aside.iter().rev().find(|file| file.generation >= generation);
        match found {
            Some(file) => Ok((File::open(numbered(&self.path, file.number))?, file.generation)),
            None => Ok((File::open(&self.path)?, self.generation)),
        }
    }

    /// Opens the newest file before this generation, for reading.
    pub(super) fn open_before(&self, generation: u64) -> io::Result<Option<(File, u64)>> {
        let Some(file) = self.aside.iter().find(|file| file.generation < generation) else { return Ok(None) };
        Ok(Some((File::open(numbered(&self.path, file.number))?, file.generation)))
    }

    /// What has to be remembered for when a unit of this name comes again.
    pub(super) fn into_aside(self) -> (PathBuf, Vec<Aside>) {
        (self.path, self.aside)
    }
}

/// The files put aside in a log directory, found in one look at it however many units there are.
#[derive(Debug, Default)]
pub(super) struct AsideFiles(HashMap<OsString, Vec<Aside>>);

impl AsideFiles {
    pub(super) fn find(log_dir: &Path) -> io::Result<Self> {
        let mut found = Self::default();
        for entry in fs::read_dir(log_dir)? {
            let entry = entry?;
            let name = entry.file_name();
            if let Some((log, number)) = name.to_str().and_then(parts_of) {
                let last = modified(&entry.metadata()?);
                found.0.entry(log.into()).or_default().push(Aside { number, generation: 0, last });
            }
        }
        Ok(found)
    }

    pub(super) fn take(&mut self, log: &Path) -> Vec<Aside> {
        log.file_name().and_then(|name| self.0.remove(name)).unwrap_or_default()
    }

    pub(super) fn put_back(&mut self, log: &Path, aside: Vec<Aside>) {
        if let Some(name) = log.file_name().filter(|_| !aside.is_empty()) {
            self.0.insert(OsStr::to_os_string(name), aside);
        }
    }
}

/// `NAME.log` and the number behind it.
fn parts_of(name: &str) -> Option<(&str, u32)> {
    let (log, number) = name.rsplit_once('.')?;
    let number = number.parse().ok().filter(|parsed: &u32| *parsed > 0 && parsed.to_string() == number)?;
    log.ends_with(".log").then_some((log, number))
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn modified(metadata: &fs::Metadata) -> Timestamp {
    Timestamp::from_second(metadata.mtime()).unwrap_or(Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests;
