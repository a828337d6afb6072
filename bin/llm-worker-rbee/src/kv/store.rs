//! The folder of kept prefixes.
//!
//! Files are named by their tokens and written beside, then renamed: a reader sees a whole file or none. They hold what
//! people wrote, so only their owner can read them.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};

use super::file::{self, Prefix};
use crate::engine::Token;

/// Ending of their names.
const ENDING: &str = "kv";
/// Ending while one is written.
const UNFINISHED: &str = "kv-part";

/// Where to keep prefixes, and how many.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The folder; made if it is not there.
    pub folder: PathBuf,
    /// Most bytes of all files together.
    pub bytes_max: u64,
    /// Forgets what is there.
    pub clean: bool,
}

/// A kept prefix that was found whole.
#[derive(Debug)]
struct Entry {
    tokens: Vec<Token>,
    path: PathBuf,
    bytes: u64,
}

/// The folder, and what is in it.
#[derive(Debug)]
pub struct Store {
    config: StoreConfig,
    identity: String,
    /// The one used longest ago first.
    entries: VecDeque<Entry>,
    dropped: u64,
}

impl Store {
    /// Looks through the folder. What is not whole or not of this identity is deleted, with a line in the log.
    ///
    /// # Errors
    /// When the folder cannot be made or read.
    pub fn open(config: StoreConfig, identity: String) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&config.folder)?;
        let mut store = Self { config, identity, entries: VecDeque::new(), dropped: 0 };
        let mut found = Vec::new();
        for entry in fs::read_dir(&store.config.folder)? {
            let (path, metadata) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
            let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
            if ending == UNFINISHED || (ending == ENDING && store.config.clean) {
                fs::remove_file(&path)?;
            } else if ending == ENDING {
                let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                found.push((modified, path, metadata.len()));
            }
        }
        found.sort();
        found.into_iter().for_each(|(_, path, bytes)| store.look_at(path, bytes));
        store.make_room(0);
        Ok(store)
    }

    /// Tokens of all of them.
    pub fn prefixes(&self) -> impl Iterator<Item = &[Token]> {
        self.entries.iter().map(|entry| &*entry.tokens)
    }

    /// Number of files that were deleted because they were wrong.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// The state of number `index` of [`Store::prefixes`], checked again. `None`: it was wrong, and is gone.
    pub fn load(&mut self, index: usize) -> Option<Vec<u8>> {
        let entry = self.entries.remove(index)?;
        let prefix = self.read(&entry.path, entry.bytes)?;
        if prefix.tokens != entry.tokens {
            self.drop_file(&entry.path, "it has other tokens than before");
            return None;
        }
        // Used last, for the next start too. Without it an older one is taken for this one at worst.
        let _ = File::options().append(true).open(&entry.path).and_then(|file| file.set_modified(SystemTime::now()));
        self.entries.push_back(entry);
        Some(prefix.state)
    }

    /// Whether a text is kept, alone or as the beginning of a longer one.
    pub fn covers(&self, tokens: &[Token]) -> bool {
        self.entries.iter().any(|entry| entry.tokens.starts_with(tokens))
    }

    /// Keeps one more; those that are its beginning go, and the oldest that the budget has no room for. Gives whether
    /// there was room.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&mut self, tokens: &[Token], state: &[u8]) -> io::Result<bool> {
        let bytes = file::encode(&self.identity, tokens, state).map_err(io::Error::other)?;
        let size = bytes.len() as u64;
        if size > self.config.bytes_max {
            return Ok(false);
        }
        self.remove_if(|entry| tokens.starts_with(&entry.tokens));
        self.make_room(size);
        let path = self.config.folder.join(format!("{}.{ENDING}", name(tokens)));
        write(&path, &bytes)?;
        self.entries.push_back(Entry { tokens: tokens.to_vec(), path, bytes: size });
        Ok(true)
    }

    fn look_at(&mut self, path: PathBuf, bytes: u64) {
        if let Some(prefix) = self.read(&path, bytes) {
            self.entries.push_back(Entry { tokens: prefix.tokens, path, bytes });
        }
    }

    fn read(&mut self, path: &Path, bytes: u64) -> Option<Prefix> {
        if bytes > self.config.bytes_max {
            self.drop_file(path, "it is larger than all of them may be together");
            return None;
        }
        let result = fs::read(path).map_err(|error| error.to_string());
        let result =
            result.and_then(|bytes| file::decode(&bytes, &self.identity).map_err(|refusal| refusal.to_string()));
        result.map_err(|why| self.drop_file(path, &why)).ok()
    }

    fn drop_file(&mut self, path: &Path, why: &str) {
        tracing::warn!(file = %path.display(), why, "a kept prefix is dropped");
        self.dropped += 1;
        remove(path);
    }

    fn make_room(&mut self, bytes: u64) {
        let mut total: u64 = self.entries.iter().map(|entry| entry.bytes).sum();
        while total + bytes > self.config.bytes_max {
            let Some(oldest) = self.entries.pop_front() else { return };
            total -= oldest.bytes;
            remove(&oldest.path);
        }
    }

    fn remove_if(&mut self, is_superfluous: impl Fn(&Entry) -> bool) {
        self.entries.retain(|entry| {
            let superfluous = is_superfluous(entry);
            if superfluous {
                remove(&entry.path);
            }
            !superfluous
        });
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(file = %path.display(), %error, "a kept prefix cannot be deleted");
    }
}

fn name(tokens: &[Token]) -> String {
    let mut hasher = Sha256::new();
    tokens.iter().for_each(|token| hasher.update(token.0.to_le_bytes()));
    hex::encode(&hasher.finalize()[..16])
}

/// Not synced: what a power cut leaves half written is found by its checksum.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension(UNFINISHED);
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished);
    let written = file.and_then(|mut file| file.write_all(bytes)).and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        remove(&unfinished);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    type Change = fn(&mut Vec<u8>);

    fn open(folder: &Path, identity: &str, bytes_max: u64) -> Store {
        let config = StoreConfig { folder: folder.join("kv"), bytes_max, clean: false };
        Store::open(config, identity.to_owned()).unwrap()
    }

    fn tokens(ids: std::ops::Range<i32>) -> Vec<Token> {
        ids.map(Token).collect()
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        fs::read_dir(folder.join("kv")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    #[test]
    fn what_is_kept_is_there_after_a_restart_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        assert!(open(folder.path(), "a", 10_000).save(&tokens(0..9), b"state").unwrap());
        let mut store = open(folder.path(), "a", 10_000);
        assert_eq!(store.prefixes().collect::<Vec<_>>(), [tokens(0..9)]);
        assert!(store.covers(&tokens(0..4)) && !store.covers(&tokens(1..4)));
        assert_eq!(store.load(0).as_deref(), Some(&b"state"[..]));
        assert_eq!(fs::metadata(&files(folder.path())[0]).unwrap().permissions().mode() & 0o777, 0o600);
    }

    /// WORK-15.
    #[test]
    fn what_is_wrong_is_deleted_at_the_start_and_when_it_is_used() {
        let folder = tempfile::tempdir().unwrap();
        let damage = |change: Change| {
            let path = files(folder.path()).pop().unwrap();
            let mut bytes = fs::read(&path).unwrap();
            change(&mut bytes);
            fs::write(&path, bytes).unwrap();
        };
        let changes: [Change; 3] =
            [|bytes| bytes[60] ^= 1, |bytes| bytes.truncate(50), |bytes| *bytes = b"GGUF".to_vec()];
        for change in changes {
            open(folder.path(), "a", 10_000).save(&tokens(0..9), b"state").unwrap();
            damage(change);
            let store = open(folder.path(), "a", 10_000);
            assert_eq!((store.prefixes().count(), store.dropped(), files(folder.path()).len()), (0, 1, 0));
            // Damaged after it was looked at.
            let mut store = open(folder.path(), "a", 10_000);
            store.save(&tokens(0..9), b"state").unwrap();
            damage(change);
            assert_eq!((store.load(0), store.dropped(), store.prefixes().count()), (None, 1, 0));
            assert_eq!(files(folder.path()).len(), 0);
        }
    }

    /// WORK-15.
    #[test]
    fn another_model_finds_nothing() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path(), "a", 10_000).save(&tokens(0..9), b"state").unwrap();
        assert_eq!(open(folder.path(), "b", 10_000).prefixes().count(), 0);
    }

    /// WORK-16.
    #[test]
    fn over_the_budget_the_one_used_longest_ago_goes() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path(), "a", 1000);
        for first in [0, 100, 200] {
            assert!(store.save(&tokens(first..first + 9), &[0; 300]).unwrap());
            // Used, so the second is older.
            store.load(0).unwrap();
        }
        let first: Vec<i32> = store.prefixes().map(|tokens| tokens[0].0).collect();
        assert_eq!(first, [200, 0]);
        assert!(!store.save(&tokens(0..9), &[0; 2000]).unwrap(), "larger than the budget");
        assert_eq!(open(folder.path(), "a", 500).prefixes().count(), 1, "a smaller budget holds at the next start");
        assert_eq!(files(folder.path()).len(), 1);
    }

    #[test]
    fn a_longer_one_takes_the_place_of_its_beginning() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path(), "a", 10_000);
        store.save(&tokens(0..9), b"short").unwrap();
        store.save(&tokens(0..12), b"long").unwrap();
        assert_eq!(store.prefixes().collect::<Vec<_>>(), [tokens(0..12)]);
        assert_eq!(files(folder.path()).len(), 1);
    }

    #[test]
    fn clean_forgets_all_and_what_was_half_written_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path(), "a", 10_000).save(&tokens(0..9), b"state").unwrap();
        let config = StoreConfig { folder: folder.path().join("kv"), bytes_max: 10_000, clean: true };
        assert_eq!(Store::open(config, "a".to_owned()).unwrap().prefixes().count(), 0);
        fs::write(folder.path().join("kv/x.kv-part"), "half").unwrap();
        open(folder.path(), "a", 10_000);
        assert_eq!(files(folder.path()).len(), 0);
    }
}
