//! One queen a home: a lock held for life, in a file that says who holds it.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The held lock. It ends with the process, however that ends.
#[derive(Debug)]
pub struct LifeLock {
    path: PathBuf,
    /// Closed on exec: no child can hold it on.
    _file: File,
}

/// The lock was not obtained.
#[derive(Debug, thiserror::Error)]
pub enum LifeLockError {
    /// Another queen lives.
    #[error("a queen runs here already{}", holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default())]
    Held {
        /// Her pid, as she wrote it down.
        holder: Option<u32>,
    },
    /// The file cannot be used.
    #[error("cannot use the lock file {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl LifeLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// [`LifeLockError::Held`] at once when another process has it.
    pub fn take(path: &Path) -> Result<Self, LifeLockError> {
        let failed = |source| LifeLockError::File { path: path.to_owned(), source };
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)
                .map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(LifeLockError::Held { holder: holder(&mut file) }),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
            // Its last holder may have removed it since it was opened: then it locks nothing.
            if is_file_at(&file, path) {
                file.set_len(0).map_err(failed)?;
                writeln!(file, "{}", std::process::id()).map_err(failed)?;
                return Ok(Self { path: path.to_owned(), _file: file });
            }
        }
    }

    /// Removes the file and lets go.
    ///
    /// # Errors
    /// When the file cannot be removed.
    pub fn release(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn is_file_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(named)) => (held.dev(), held.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_queen_is_told_who_the_first_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = LifeLock::take(&path).unwrap();
        let error = LifeLock::take(&path).unwrap_err();
        assert!(matches!(error, LifeLockError::Held { holder: Some(pid) } if pid == std::process::id()));
        first.release().unwrap();
        assert!(!path.exists());
        drop(LifeLock::take(&path).unwrap());
        assert!(LifeLock::take(&path).is_ok(), "what a dead queen left behind is no lock");
    }
}
