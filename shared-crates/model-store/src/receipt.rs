//! The note beside a stored model: what it is and what was checked, so that a start need not hash gigabytes again.

use std::fs::{self, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::{ModelError, ModelSource, Sha256Digest};

/// File name of a receipt, in the model's folder.
pub(crate) const FILE_NAME: &str = "receipt.json";

/// What was true of the file when it was checked last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Receipt {
    pub(crate) source: ModelSource,
    pub(crate) path: PathBuf,
    pub(crate) sha256: Sha256Digest,
    pub(crate) size_bytes: u64,
    /// Seconds and nanoseconds of the last change; another value means: hash again.
    pub(crate) modified: (i64, i64),
}

impl Receipt {
    /// Reads the receipt of a folder. A missing or unreadable one is none: the file is then hashed again.
    pub(crate) fn read(folder: &Path) -> Option<Self> {
        let text = fs::read(folder.join(FILE_NAME)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// A receipt of the file as it is now.
    pub(crate) fn of(source: &ModelSource, path: &Path, sha256: Sha256Digest) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self {
            source: source.clone(),
            path: path.to_owned(),
            sha256,
            size_bytes: metadata.len(),
            modified: modified(&metadata),
        })
    }

    /// Writes the receipt into a folder, whole or not at all.
    pub(crate) fn write(&self, folder: &Path) -> Result<(), ModelError> {
        let path = folder.join(FILE_NAME);
        let failed = |source| ModelError::io("write", &path, source);
        let mut file = NamedTempFile::new_in(folder).map_err(failed)?;
        serde_json::to_writer_pretty(&mut file, self).map_err(|error| failed(error.into()))?;
        file.write_all(b"\n").map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// Whether the file has not been touched since the receipt was written.
    pub(crate) fn holds(&self) -> bool {
        fs::metadata(&self.path)
            .is_ok_and(|metadata| metadata.len() == self.size_bytes && modified(&metadata) == self.modified)
    }
}

fn modified(metadata: &Metadata) -> (i64, i64) {
    (metadata.mtime(), metadata.mtime_nsec())
}
