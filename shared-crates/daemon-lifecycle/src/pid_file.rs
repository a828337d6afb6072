//! `NAME.pid`: the pid as plain text, for people and their tools. What we trust is the state file beside it.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use crate::files;
use crate::process::{Piece, Record};

/// Longer than any pid: a file that is bigger is not one of ours.
const LEN_MAX: u64 = 32;

/// For everybody to read.
const MODE: u32 = 0o644;

/// What a PID file says.
#[derive(Debug)]
pub(crate) enum PidFile {
    /// There is none.
    Missing,
    /// This process.
    Pid(u32),
    /// Something that is no pid; its beginning.
    Garbage(String),
    /// It cannot be read.
    Unreadable(io::Error),
}

impl PidFile {
    pub(crate) fn read(path: &Path) -> Self {
        let mut text = Vec::new();
        match File::open(path).and_then(|file| file.take(LEN_MAX).read_to_end(&mut text)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::Missing,
            Err(error) => return Self::Unreadable(error),
            Ok(_) => {}
        }
        let text = String::from_utf8_lossy(&text);
        match text.trim().parse::<u32>() {
            Ok(pid) if pid > 0 => Self::Pid(pid),
            _ => Self::Garbage(text.into_owned()),
        }
    }

    pub(crate) fn write(path: &Path, pid: u32) -> io::Result<()> {
        files::replace(path, format!("{pid}\n").as_bytes(), MODE)
    }

    /// The file of a process that does not exist yet.
    pub(crate) fn record(path: &Path) -> Record<'_> {
        Record { path, mode: MODE, pieces: vec![Piece::Pid, Piece::Text(b"\n".to_vec())] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pid");
        assert!(matches!(PidFile::read(&path), PidFile::Missing));
        PidFile::write(&path, 4711).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "4711\n");
        assert!(matches!(PidFile::read(&path), PidFile::Pid(4711)));
    }

    #[test]
    fn garbage_and_unreadable_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pid");
        for garbage in ["", "0", "-5", "12 13", "x", "99999999999", "\u{fffd}"] {
            std::fs::write(&path, garbage).unwrap();
            assert!(matches!(PidFile::read(&path), PidFile::Garbage(_)), "{garbage:?}");
        }
        assert!(matches!(PidFile::read(dir.path()), PidFile::Unreadable(_)), "a directory");
    }
}
