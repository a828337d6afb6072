//! The folder of models: one fetch at a time for each, nothing half-done under a final name.
//!
//! ```text
//!   models/NAME/FILE           the model, renamed here when it is whole and its digest is right
//!   models/NAME/receipt.json   source, digest, size, time of change
//!   models/.NAME.lock          held while one process fetches; never removed, so that it means the same to all
//!   models/.NAME.part/         staging, on the same filesystem; emptied by whoever holds the lock
//!
//!   ensure: receipt holds? ──yes──▶ path
//!              └─no─▶ lock ─▶ receipt holds now? ─▶ file here, digest right? ─▶ fetch into .part ─▶ rename ─▶ receipt
//! ```

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use tokio::sync::oneshot;

use crate::fetch::{self, Fetcher};
use crate::progress::{self, Progress, Reporter, Stage};
use crate::receipt::{self, Receipt};
use crate::{ModelError, ModelSource, Sha256Digest};

/// The models of this machine, in one folder that several processes may share.
#[derive(Debug, Clone)]
pub struct ModelStore {
    folder: PathBuf,
    fetcher: Fetcher,
}

/// A model that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredModel {
    /// The name it was fetched under.
    pub name: String,
    /// Where its file is.
    pub path: PathBuf,
    /// Where it came from.
    pub source: ModelSource,
    /// Digest of the file when it was checked last.
    pub sha256: Sha256Digest,
    /// Size of the file when it was checked last.
    pub size_bytes: u64,
}

impl ModelStore {
    /// A store in that folder, which is made when the first model comes. Reads `HF_ENDPOINT` and `HF_TOKEN`;
    /// proxies are taken from the environment too.
    pub fn new(models_dir: impl Into<PathBuf>) -> Self {
        Self { folder: models_dir.into(), fetcher: Fetcher::from_env() }
    }

    /// The same store with another hub for `hf:` sources.
    #[must_use]
    pub fn with_hf_endpoint(mut self, url: impl Into<String>) -> Self {
        self.fetcher.hf_endpoint = url.into();
        self
    }

    /// The same store with another Python for `pypi:` sources.
    #[must_use]
    pub fn with_python(mut self, program: impl Into<String>) -> Self {
        self.fetcher.python = program.into();
        self
    }

    /// Makes sure the model is here and is the right one, and returns its path.
    ///
    /// `progress` is called with the newest state, not with every one. Of several callers, in this process or in
    /// others, one fetches and the rest wait for it. Dropping the future calls the fetch off.
    ///
    /// # Errors
    /// See [`ModelError`]. Nothing that failed is left under the model's name.
    pub async fn ensure(
        &self,
        name: &str,
        source: &ModelSource,
        sha256: Option<&Sha256Digest>,
        mut progress: impl FnMut(Progress),
    ) -> Result<PathBuf, ModelError> {
        let (reporter, mut news, _cancel_on_drop) = progress::channel();
        let (answer, mut answered) = oneshot::channel();
        let (store, name, source, sha256) = (self.clone(), name.to_owned(), source.clone(), sha256.copied());
        // A plain thread, not the runtime's pool: a download called off must not hold up the runtime's end.
        std::thread::Builder::new()
            .name("model-fetch".into())
            .spawn(move || {
                // Nobody listens any more after a cancel.
                let _ = answer.send(store.ensure_blocking(&name, &source, sha256.as_ref(), &reporter));
            })
            .map_err(|error| ModelError::io("start a thread for", &self.folder, error))?;
        loop {
            tokio::select! {
                biased;
                Ok(()) = news.changed() => {
                    let newest = *news.borrow_and_update();
                    if let Some(newest) = newest {
                        progress(newest);
                    }
                }
                result = &mut answered => return result.unwrap_or(Err(ModelError::Panicked)),
            }
        }
    }

    /// The file of a model that is here, untouched since it was checked.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        check_name(name).ok()?;
        Receipt::read(&self.folder.join(name)).filter(Receipt::holds).map(|receipt| receipt.path)
    }

    /// All models that are here, by name.
    ///
    /// # Errors
    /// When the folder cannot be read; one that does not exist holds no models.
    pub fn list(&self) -> Result<Vec<StoredModel>, ModelError> {
        let failed = |source| ModelError::io("read", &self.folder, source);
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut models = Vec::new();
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Some(receipt) = Receipt::read(&entry.path()).filter(Receipt::holds) else { continue };
            let Receipt { source, path, sha256, size_bytes, .. } = receipt;
            models.push(StoredModel { name, path, source, sha256, size_bytes });
        }
        models.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(models)
    }

    /// Removes a model's file and receipt; the file of a `file:` source stays where it is. Waits for a fetch of the
    /// same model to end. Returns whether there was anything.
    ///
    /// # Errors
    /// When the name is no name, or something cannot be removed.
    pub fn remove(&self, name: &str) -> Result<bool, ModelError> {
        check_name(name)?;
        let folder = self.folder.join(name);
        if !folder.exists() {
            return Ok(false);
        }
        let lock = self.open_lock(name)?;
        lock.lock().map_err(|error| ModelError::io("lock", &self.lock_path(name), error))?;
        fs::remove_dir_all(&folder).map_err(|error| ModelError::io("remove", &folder, error))?;
        Ok(true)
    }

    fn ensure_blocking(
        &self,
        name: &str,
        source: &ModelSource,
        sha256: Option<&Sha256Digest>,
        reporter: &Reporter,
    ) -> Result<PathBuf, ModelError> {
        check_name(name)?;
        if let ModelSource::File { path } = source
            && !path.is_file()
        {
            return Err(ModelError::FileMissing { path: path.clone() });
        }
        let folder = self.folder.join(name);
        if let Some(path) = fresh(&folder, source, sha256) {
            return Ok(path);
        }
        if let ModelSource::File { path } = source {
            return self.ensure_in_place(name, source, path, sha256, reporter);
        }
        fs::create_dir_all(&folder).map_err(|error| ModelError::io("create", &folder, error))?;
        let _held = self.lock(name, reporter)?;
        reporter.check()?;
        // Whoever held the lock may have done the work.
        if let Some(path) = fresh(&folder, source, sha256) {
            return Ok(path);
        }
        let target = folder.join(source.file_name());
        if let Some(expected) = sha256.filter(|_| target.is_file())
            && fetch::digest_of(&target, reporter)? == *expected
        {
            return finish(&folder, source, &target, *expected);
        }
        let staging = Staging::new(self.folder.join(format!(".{name}.part")))?;
        let (fetched, actual) = self.fetcher.fetch(source, &staging.0, reporter)?;
        if let Some(expected) = sha256.filter(|expected| **expected != actual) {
            return Err(ModelError::WrongDigest { name: name.to_owned(), expected: *expected, actual });
        }
        // A receipt of the old file must not vouch for the new one, nor stay when another file takes its place.
        clear(&folder)?;
        fs::rename(&fetched, &target).map_err(|error| ModelError::io("move the model to", &target, error))?;
        finish(&folder, source, &target, actual)
    }

    /// A file of the user's: looked at, never touched. The store may be read-only then.
    fn ensure_in_place(
        &self,
        name: &str,
        source: &ModelSource,
        path: &Path,
        sha256: Option<&Sha256Digest>,
        reporter: &Reporter,
    ) -> Result<PathBuf, ModelError> {
        let Some(expected) = sha256 else { return Ok(path.to_owned()) };
        let actual = fetch::digest_of(path, reporter)?;
        if actual != *expected {
            return Err(ModelError::WrongDigest { name: name.to_owned(), expected: *expected, actual });
        }
        let folder = self.folder.join(name);
        let noted = fs::create_dir_all(&folder)
            .map_err(|error| ModelError::io("create", &folder, error))
            .and_then(|()| finish(&folder, source, path, actual));
        if let Err(error) = noted {
            tracing::warn!(model = name, %error, "no receipt written; the file will be hashed again next time");
        }
        Ok(path.to_owned())
    }

    fn lock_path(&self, name: &str) -> PathBuf {
        self.folder.join(format!(".{name}.lock"))
    }

    fn open_lock(&self, name: &str) -> Result<File, ModelError> {
        let path = self.lock_path(name);
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| ModelError::io("create", &path, error))
    }

    fn lock(&self, name: &str, reporter: &Reporter) -> Result<File, ModelError> {
        let lock = self.open_lock(name)?;
        let failed = |error| ModelError::io("lock", &self.lock_path(name), error);
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                reporter.tell(Stage::Waiting, 0, None)?;
                lock.lock().map_err(failed)?;
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        Ok(lock)
    }
}

/// The path, if the receipt is about this source and digest and the file is as it was.
fn fresh(folder: &Path, source: &ModelSource, sha256: Option<&Sha256Digest>) -> Option<PathBuf> {
    let receipt = Receipt::read(folder)?;
    // The same digest is the same file, wherever it came from; without one the source must be the same.
    let wanted = match (sha256, source) {
        (_, ModelSource::File { path }) if receipt.path != *path => false,
        (Some(expected), _) => receipt.sha256 == *expected,
        (None, _) => receipt.source == *source,
    };
    (wanted && receipt.holds()).then_some(receipt.path)
}

fn finish(folder: &Path, source: &ModelSource, path: &Path, sha256: Sha256Digest) -> Result<PathBuf, ModelError> {
    let receipt = Receipt::of(source, path, sha256).map_err(|error| ModelError::io("read", path, error))?;
    receipt.write(folder)?;
    Ok(path.to_owned())
}

fn clear(folder: &Path) -> Result<(), ModelError> {
    let failed = |error| ModelError::io("clear", folder, error);
    // The receipt first: what has none is hashed before it is believed.
    match fs::remove_file(folder.join(receipt::FILE_NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    for entry in fs::read_dir(folder).map_err(failed)? {
        fs::remove_file(entry.map_err(failed)?.path()).map_err(failed)?;
    }
    Ok(())
}

fn check_name(name: &str) -> Result<(), ModelError> {
    let good = name.len() <= 128
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if good { Ok(()) } else { Err(ModelError::BadName { name: name.to_owned() }) }
}

/// The staging folder: empty at first, gone at last. What a killed process left is removed by the next.
struct Staging(PathBuf);

impl Staging {
    fn new(path: PathBuf) -> Result<Self, ModelError> {
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ModelError::io("clear", &path, error));
            }
            _ => {}
        }
        fs::create_dir_all(&path).map_err(|error| ModelError::io("create", &path, error))?;
        Ok(Self(path))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "staging folder not removed");
        }
    }
}
