//! What this machine has.

use std::collections::BTreeMap;
use std::path::Path;

use model_store::{ModelSource, ModelStore};
use nix::sys::resource::{Resource, getrlimit};
use rbee_runtime::config::Config;
use rbee_runtime::dirs::Dirs;

/// The machine as far as the rules ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) cores: u32,
    pub(crate) memory_bytes: u64,
    /// What a process of ours may lock, in bytes.
    pub(crate) memlock_bytes: u64,
    pub(crate) nofile_hard: u64,
    /// Memory can be limited by a cgroup.
    pub(crate) limits_memory: bool,
    /// The models' disk has a head that moves.
    pub(crate) is_rotational: bool,
    /// `always`, `madvise` or `never`; absent where the kernel has none.
    pub(crate) huge_pages: Option<String>,
    /// Size of each model that is here.
    pub(crate) model_bytes: BTreeMap<String, u64>,
}

impl Machine {
    /// This one.
    pub(crate) fn look(dirs: &Dirs, config: &Config) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let pages = read("/sys/kernel/mm/transparent_hugepage/enabled");
        Self {
            cores: u32::try_from(cores).unwrap_or(u32::MAX),
            memory_bytes: memory_bytes(),
            memlock_bytes: memlock_bytes(),
            nofile_hard: getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(_, hard)| hard),
            limits_memory: daemon_lifecycle::inspect::cgroup_reach().controllers.iter().any(|name| name == "memory"),
            is_rotational: is_rotational(dirs.models_dir()),
            huge_pages: chosen(&pages).map(str::to_owned),
            model_bytes: model_bytes(dirs, config),
        }
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// The word in brackets.
fn chosen(text: &str) -> Option<&str> {
    Some(text.split_once('[')?.1.split_once(']')?.0)
}

/// Of the machine, or of the cgroup we are in, whichever is less.
fn memory_bytes() -> u64 {
    let meminfo = read("/proc/meminfo");
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: Option<u64> = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    let limit = read("/sys/fs/cgroup/memory.max").trim().parse().unwrap_or(u64::MAX);
    kib.map_or(u64::MAX, |kib| kib << 10).min(limit)
}

fn memlock_bytes() -> u64 {
    const CAP_IPC_LOCK: u32 = 14;
    let status = read("/proc/self/status");
    let set = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    if set.is_some_and(|set| set >> CAP_IPC_LOCK & 1 == 1) {
        return u64::MAX;
    }
    getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(soft, _)| soft)
}

/// Whether the disk below a directory is one that turns. False where it cannot be told.
fn is_rotational(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let Some(about) = dir.ancestors().find_map(|dir| std::fs::metadata(dir).ok()) else { return false };
    let (major, minor) = (nix::sys::stat::major(about.dev()), nix::sys::stat::minor(about.dev()));
    // A partition has its disk's queue one folder up.
    let queues = [
        format!("/sys/dev/block/{major}:{minor}/queue/rotational"),
        format!("/sys/dev/block/{major}:{minor}/../queue/rotational"),
    ];
    queues.iter().any(|path| read(path).trim() == "1")
}

fn model_bytes(dirs: &Dirs, config: &Config) -> BTreeMap<String, u64> {
    let stored = ModelStore::new(dirs.models_dir()).list().unwrap_or_default();
    let of = |(name, model): (&String, &rbee_runtime::config::ModelConfig)| {
        let bytes = match &model.source {
            ModelSource::File { path } => std::fs::metadata(path).ok()?.len(),
            _ => stored.iter().find(|stored| stored.name == *name)?.size_bytes,
        };
        Some((name.clone(), bytes))
    };
    config.model.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_seen() {
        let home = tempfile::tempdir().unwrap();
        let machine = Machine::look(&Dirs::under(home.path()), &Config::default());
        assert!(machine.cores > 0 && machine.memory_bytes > 1 << 20 && machine.model_bytes.is_empty());
        assert_eq!(chosen("always [madvise] never"), Some("madvise"));
        assert_eq!(chosen(""), None);
    }
}
