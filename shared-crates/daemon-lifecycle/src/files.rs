//! Small files that appear whole or not at all.
//!
//! No fsync: these files speak of processes, which no power cut survives, and the page cache survives our own death.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// No machine has smaller pages.
const PAGE_BYTES_MIN: usize = 4096;

/// Extension of a file that is not in its place yet.
pub(crate) const NEW_EXTENSION: &str = "new";

/// Writes this content over one of the same length, which differs from it in a few bytes: no file is made and none removed. False,
/// and nothing is changed, where there is none of that length.
///
/// A file this small is written by one copy within the kernel, which our own death does not tear.
pub(crate) fn overwrite(path: &Path, content: &[u8]) -> io::Result<bool> {
    let file = match OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        result => result?,
    };
    if content.len() > PAGE_BYTES_MIN || file.metadata()?.len() != content.len() as u64 {
        return Ok(false);
    }
    file.write_all_at(content, 0).map(|()| true)
}

/// Opens a file of this user's alone, with what it holds; made if it is not there.
pub(crate) fn open_private(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)
}

/// Removes the file; one that is not there is fine.
pub(crate) fn remove_plain(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Replaces the file by one with this content. One writer at a time: whoever calls holds the lock.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let new = beside(path);
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&new)
        .and_then(|mut file| file.write_all(content))
        .and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // Best effort: the error that counts is the first.
        let _ = fs::remove_file(&new);
    }
    written
}

/// Removes the file, and what an interrupted [`replace`] left beside it; one that is not there is fine.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    for path in [&beside(path), path] {
        remove_plain(path)?;
    }
    Ok(())
}

/// Makes the directory and its parents, for this user alone, unless it is there.
pub(crate) fn make_private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Where a file is written before it is moved to its place.
pub(crate) fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(NEW_EXTENSION);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_file_is_whole_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.state");
        replace(&path, b"one", 0o600).unwrap();
        replace(&path, b"two", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_a_file_of_the_same_length_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.state");
        assert!(!overwrite(&path, b"one").unwrap() && !path.exists());
        fs::write(&path, "one").unwrap();
        assert!(!overwrite(&path, b"three").unwrap());
        assert!(overwrite(&path, b"two").unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"two");
    }

    #[test]
    fn a_failed_replacement_keeps_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("occupied");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("kept"), "").unwrap();
        assert!(replace(&path, b"new", 0o600).is_err());
        assert!(path.join("kept").exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
