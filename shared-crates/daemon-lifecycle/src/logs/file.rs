//! The log file: appended to away from the runtime's threads, resumed where a write stopped.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open log file. Rotation would come in here.
#[derive(Debug)]
pub(super) struct LogFile {
    file: Arc<File>,
    path: PathBuf,
}

/// Bytes on their way into the file.
#[derive(Debug)]
pub(super) struct Writing {
    bytes: Vec<u8>,
    done: usize,
}

impl Writing {
    pub(super) const fn new(bytes: Vec<u8>) -> Self {
        Self { bytes, done: 0 }
    }
}

impl LogFile {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
        Ok(Self { file: Arc::new(file), path: path.to_owned() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what is still missing. After an error, calling it again goes on where it stopped.
    pub(super) async fn write(&self, mut writing: Writing) -> (Writing, io::Result<()>) {
        let file = Arc::clone(&self.file);
        let job = tokio::task::spawn_blocking(move || {
            let mut result = Ok(());
            while writing.done < writing.bytes.len() {
                match (&*file).write(&writing.bytes[writing.done..]) {
                    Ok(0) => result = Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => writing.done += written,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => result = Err(error),
                }
                if result.is_err() {
                    break;
                }
            }
            (writing, result)
        });
        match job.await {
            Ok(outcome) => outcome,
            // The runtime is going away, and this task with it.
            Err(error) => (Writing::new(Vec::new()), Err(io::Error::other(error))),
        }
    }
}
