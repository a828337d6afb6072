//! Our own engine, `llm-worker-rbee`: where its program is and how many threads it gets.

use std::ffi::OsStr;
use std::path::PathBuf;

/// Name of our engine's program.
pub const ENGINE_PROGRAM: &str = "llm-worker-rbee";
/// A model up to this size decodes fastest on one thread.
const TINY_MODEL_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Where programs of ours are looked for, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Programs {
    folders: Vec<PathBuf>,
}

/// Our engine is not installed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{ENGINE_PROGRAM} was not found; looked in {}", list(looked_in))]
pub struct EngineMissing {
    /// The folders tried.
    pub looked_in: Vec<PathBuf>,
}

impl Programs {
    /// In the folder of our own program first, then in each folder of `PATH`.
    #[must_use]
    pub fn new(own_folder: Option<PathBuf>, path: Option<&OsStr>) -> Self {
        let mut folders: Vec<PathBuf> = own_folder.into_iter().collect();
        for folder in path.into_iter().flat_map(std::env::split_paths).filter(|folder| folder.is_absolute()) {
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
        Self { folders }
    }

    /// The engine's program.
    ///
    /// # Errors
    /// [`EngineMissing`] says where it was looked for.
    pub fn engine(&self) -> Result<PathBuf, EngineMissing> {
        let candidates = self.folders.iter().map(|folder| folder.join(ENGINE_PROGRAM));
        candidates
            .into_iter()
            .find(|candidate| candidate.is_file())
            .ok_or_else(|| EngineMissing { looked_in: self.folders.clone() })
    }
}

/// Threads of an engine whose config does not say: one for a tiny model, else fewer than there are cores, because
/// with all of them busy decoding is many times slower.
#[must_use]
pub fn default_threads(model_bytes: u64, cores: u32) -> u32 {
    if model_bytes <= TINY_MODEL_BYTES_MAX { 1 } else { cores.saturating_sub(1).clamp(1, 16) }
}

fn list(folders: &[PathBuf]) -> String {
    folders.iter().map(|folder| folder.display().to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_beside_us_wins_and_a_missing_one_says_where() {
        let folder = tempfile::tempdir().unwrap();
        let (beside, path) = (folder.path().join("a"), folder.path().join("b"));
        for each in [&beside, &path] {
            std::fs::create_dir(each).unwrap();
        }
        let programs = Programs::new(Some(beside.clone()), Some(path.as_os_str()));
        let missing = programs.engine().unwrap_err().to_string();
        assert!(missing.contains(&beside.display().to_string()) && missing.contains(&path.display().to_string()));
        std::fs::write(path.join(ENGINE_PROGRAM), "").unwrap();
        assert_eq!(programs.engine().unwrap(), path.join(ENGINE_PROGRAM));
        std::fs::write(beside.join(ENGINE_PROGRAM), "").unwrap();
        assert_eq!(programs.engine().unwrap(), beside.join(ENGINE_PROGRAM));
    }

    #[test]
    fn threads_are_fewer_than_cores_and_at_least_one() {
        const GB: u64 = 1 << 30;
        for (bytes, cores, threads) in
            [(GB / 10, 64, 1), (GB, 1, 1), (GB, 2, 1), (GB, 8, 7), (40 * GB, 128, 16), (0, 0, 1)]
        {
            assert_eq!(default_threads(bytes, cores), threads, "{bytes} B on {cores} cores");
        }
    }
}
