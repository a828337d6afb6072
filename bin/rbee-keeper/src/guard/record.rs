//! How the guard is, in a file: for `monitor status`, also after the guard has gone.

use std::io::{self, Write as _};
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What the guard does at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Doing {
    /// It watches a daemon that runs.
    Watches,
    /// The daemon was stopped by intention, or never started: there is nothing to guard.
    Rests,
    /// The daemon fell; it is about to be started.
    Waits,
    /// It was started too often; somebody else must start it.
    GaveUp,
}

/// The guard as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// `queen`, or `hive`.
    pub(crate) guards: String,
    /// What it does.
    pub(crate) doing: Doing,
    /// Since when.
    pub(crate) since: Timestamp,
    /// The daemon's process.
    pub(crate) watched_pid: Option<u32>,
    /// Whether it answered when it was asked last.
    pub(crate) healthy: Option<bool>,
    /// Restarts since the count was last reset.
    pub(crate) restarts: u32,
    /// The last fall, or why it gave up.
    pub(crate) cause: Option<String>,
}

impl Record {
    /// What is in the file; nothing where there is none that can be read.
    pub(crate) fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    pub(super) fn write(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let mut file = atomic_write_file::AtomicWriteFile::open(path)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.commit()
    }
}
