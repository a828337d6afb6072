//! The log file: appended to away from the runtime's threads, resumed where a write stopped.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fifo::Taker;

/// An open log file. Rotation would come in here.
#[derive(Debug)]
pub(super) struct LogFile {
    file: Arc<File>,
    path: PathBuf,
}

/// Bytes on their way from a FIFO into the file.
#[derive(Debug)]
pub(super) struct Writing {
    bytes: Vec<u8>,
    done: usize,
    from: Taker,
    /// How many bytes of the FIFO they stand for.
    stands_for: usize,
}

impl Writing {
    pub(super) const fn new(bytes: Vec<u8>, from: Taker, stands_for: usize) -> Self {
        Self { bytes, done: 0, from, stands_for }
    }

    fn finish(&mut self, mut file: &File) -> io::Result<()> {
        while self.done < self.bytes.len() {
            match file.write(&self.bytes[self.done..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => self.done += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // In the same breath: whoever dies in between leaves lines that are written already.
        self.from.take(std::mem::take(&mut self.stands_for))
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

    /// Writes what is still missing, then takes it out of the FIFO. After an error, calling it again goes on where it stopped;
    /// without the bytes, the runtime is going away.
    pub(super) async fn write(&self, mut writing: Writing) -> (Option<Writing>, io::Result<()>) {
        let file = Arc::clone(&self.file);
        let job = tokio::task::spawn_blocking(move || {
            let result = writing.finish(&file);
            (Some(writing), result)
        });
        job.await.unwrap_or_else(|error| (None, Err(io::Error::other(error))))
    }
}
