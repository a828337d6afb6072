//! What files take on disk, by the daemon they are of.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Files and folders looked at in one go; more are not counted.
const ENTRIES_MAX: usize = 20_000;
/// Rounds between two looks.
const ROUNDS: u64 = 20;

/// Counts again every few rounds.
#[derive(Debug, Default)]
pub struct Disk {
    logs: Option<PathBuf>,
    states: Option<PathBuf>,
    own: Option<(&'static str, Vec<PathBuf>)>,
    bytes: HashMap<String, u64>,
    round: u64,
}

impl Disk {
    /// Of the logs in one folder, `NAME.log` and what follows it, and of the folders `NAME`, or `NAME.N`, in another.
    #[must_use]
    pub fn new(logs: PathBuf, states: PathBuf) -> Self {
        Self { logs: Some(logs), states: Some(states), ..Self::default() }
    }

    /// Also of `daemon`, which looks at itself: of all files whose paths begin with one of these. What is set aside, kept
    /// beside a file, or rotated away counts with it; folders do not.
    #[must_use]
    pub fn with_own(self, daemon: &'static str, beginnings: Vec<PathBuf>) -> Self {
        Self { own: Some((daemon, beginnings)), ..self }
    }

    /// Called each round; looks in some of them.
    pub fn look(&mut self) {
        if self.round.is_multiple_of(ROUNDS) {
            self.bytes.clear();
            let mut left = ENTRIES_MAX;
            if let Some((daemon, beginnings)) = &self.own {
                let bytes = beginnings.iter().map(|beginning| beginning_with(beginning, &mut left)).sum();
                self.bytes.insert((*daemon).to_owned(), bytes);
            }
            if let Some(logs) = &self.logs {
                each(logs, &mut left, |path, _| {
                    let name = path.file_name()?.to_str()?.split_once(".log")?.0.to_owned();
                    *self.bytes.entry(name).or_default() += taken(path);
                    Some(())
                });
            }
            if let Some(states) = &self.states {
                let mut folders = Vec::new();
                each(states, &mut left, |path, is_dir| is_dir.then(|| folders.push(path.to_owned())));
                for folder in folders {
                    let bytes = below(&folder, &mut left);
                    let name = folder.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
                    // `NAME.REPLICA`, and a number more after a clean restart.
                    let unit: Vec<&str> = name.split('.').take(2).collect();
                    *self.bytes.entry(unit.join(".")).or_default() += bytes;
                }
            }
        }
        self.round += 1;
    }

    /// Of one daemon.
    #[must_use]
    pub fn bytes_of(&self, name: &str) -> u64 {
        self.bytes.get(name).copied().unwrap_or(0)
    }
}

fn each(folder: &Path, left: &mut usize, mut entry: impl FnMut(&Path, bool) -> Option<()>) {
    for found in fs::read_dir(folder).into_iter().flatten().flatten() {
        if *left == 0 {
            return;
        }
        *left -= 1;
        // What is none of ours is passed over.
        let _ = entry(&found.path(), found.file_type().is_ok_and(|kind| kind.is_dir()));
    }
}

fn beginning_with(beginning: &Path, left: &mut usize) -> u64 {
    let Some((folder, name)) = beginning.parent().zip(beginning.file_name()) else { return 0 };
    let mut bytes = 0;
    each(folder, left, |path, is_dir| {
        let is_of_it = path.file_name()?.as_encoded_bytes().starts_with(name.as_encoded_bytes());
        (is_of_it && !is_dir).then(|| bytes += taken(path))
    });
    bytes
}

fn below(folder: &Path, left: &mut usize) -> u64 {
    let (mut bytes, mut folders) = (0, vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        each(&folder, left, |path, is_dir| {
            if is_dir {
                folders.push(path.to_owned());
            } else {
                bytes += taken(path);
            }
            Some(())
        });
    }
    bytes
}

/// Blocks, as `du` counts; a link counts as itself.
fn taken(path: &Path) -> u64 {
    fs::symlink_metadata(path).map_or(0, |found| found.blocks() * 512)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_and_what_is_kept_are_counted_together() {
        let dir = tempfile::tempdir().unwrap();
        let (logs, states) = (dir.path().join("logs"), dir.path().join("states"));
        fs::create_dir_all(states.join("w.0.7/deep")).unwrap();
        fs::create_dir(&logs).unwrap();
        for file in ["logs/w.0.log", "logs/w.0.log.1", "logs/w.1.log", "logs/strange", "states/w.0.7/deep/kv"] {
            fs::write(dir.path().join(file), [1; 10_000]).unwrap();
        }
        let mut disk = Disk::new(logs, states);
        disk.look();
        let one = disk.bytes_of("w.1");
        assert!(one >= 10_000, "{one}");
        assert_eq!((disk.bytes_of("w.0"), disk.bytes_of("nobody")), (3 * one, 0));
        fs::remove_file(dir.path().join("logs/w.1.log")).unwrap();
        disk.look();
        assert_eq!(disk.bytes_of("w.1"), one);
        (2..=ROUNDS).for_each(|_| disk.look());
        assert_eq!(disk.bytes_of("w.1"), 0);
    }

    /// MONI-19
    #[test]
    fn what_a_tier_keeps_itself_is_counted_by_how_its_files_begin() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("queen-folder/deep")).unwrap();
        for file in ["queen.log", "queen.log.1", "queen.sqlite-wal", "hive.log", "queen-folder/deep/file"] {
            fs::write(dir.path().join(file), [1; 10_000]).unwrap();
        }
        let one = taken(&dir.path().join("hive.log"));
        let beginnings = ["queen.log", "queen.sqlite", "nobody/file"].map(|name| dir.path().join(name)).to_vec();
        let mut disk = Disk::default().with_own("queen", beginnings);
        disk.look();
        assert_eq!(disk.bytes_of("queen"), 3 * one);
        let mut disk = Disk::default().with_own("queen", vec![dir.path().join("queen")]);
        disk.look();
        assert_eq!((disk.bytes_of("queen"), disk.bytes_of("hive")), (3 * one, 0), "folders are not counted");
    }
}
