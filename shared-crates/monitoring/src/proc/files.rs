//! The kernel's files about one process, and about one cgroup.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Where the one hierarchy of version 2 is mounted.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// What the kernel counts of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub parent: u32,
    pub session: u32,
    /// Of it and of its children that it has waited for.
    pub cpu_ticks: u64,
    pub threads: u64,
    /// Since the boot: tells a process from another that got its number later.
    pub start_ticks: u64,
    pub rss_pages: u64,
}

/// Reads small files without asking for memory each time.
#[derive(Debug)]
pub(super) struct Reader {
    text: Box<[u8; 4096]>,
}

impl Default for Reader {
    fn default() -> Self {
        Self { text: Box::new([0; 4096]) }
    }
}

impl Reader {
    fn read(&mut self, path: &str) -> Option<&str> {
        let mut length = 0;
        let mut file = File::open(path).ok()?;
        while let Some(free) = self.text.get_mut(length..).filter(|free| !free.is_empty()) {
            match file.read(free).ok()? {
                0 => break,
                read => length += read,
            }
        }
        std::str::from_utf8(self.text.get(..length)?).ok()
    }

    pub(super) fn stat(&mut self, pid: u32) -> Option<Stat> {
        parse_stat(self.read(&format!("/proc/{pid}/stat"))?)
    }

    /// Bytes read from and written to disks; absent for somebody else's process.
    pub(super) fn io(&mut self, pid: u32) -> Option<(u64, u64)> {
        let text = self.read(&format!("/proc/{pid}/io"))?;
        Some((field(text, "read_bytes:")?, field(text, "write_bytes:")?))
    }

    /// Costs the more, the more memory it has.
    pub(super) fn pss_bytes(&mut self, pid: u32) -> Option<u64> {
        field(self.read(&format!("/proc/{pid}/smaps_rollup"))?, "Pss:").map(|kib| kib * 1024)
    }

    /// The cgroup that holds the process's whole run: one that a supervisor of ours made, or `whole`, the process's own.
    pub(super) fn cgroup(&mut self, pid: u32, whole: bool) -> Option<PathBuf> {
        let text = self.read(&format!("/proc/{pid}/cgroup"))?;
        let path = run_cgroup(text.lines().find_map(|line| line.strip_prefix("0::"))?, whole)?;
        let candidates = MOUNTS.iter().map(|mount| Path::new(mount).join(path.trim_start_matches('/')));
        candidates.into_iter().find(|path| path.join("cgroup.procs").exists())
    }

    /// Processor time of all that ever ran in the cgroup, in microseconds.
    pub(super) fn cgroup_cpu_us(&mut self, cgroup: &Path) -> Option<u64> {
        field(self.read(cgroup.join("cpu.stat").to_str()?)?, "usage_usec")
    }
}

/// Open files; absent for somebody else's process.
pub(super) fn fds(pid: u32) -> Option<u64> {
    let path = format!("/proc/{pid}/fd");
    match fs::metadata(&path).ok()?.size() {
        // Kernels before 6.2 do not say how many there are.
        0 => Some(fs::read_dir(path).ok()?.count() as u64),
        count => Some(count),
    }
}

/// Everything in a cgroup and those below it.
pub(super) fn pids_in(cgroup: &Path, pids: &mut Vec<u32>) {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid > 0));
    // Two links are its own and its name's; each folder below adds one.
    if fs::metadata(cgroup).is_ok_and(|found| found.nlink() > 2) {
        for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                pids_in(&entry.path(), pids);
            }
        }
    }
}

/// Every process there is.
pub(super) fn all_pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Of proc_pid_stat(5). The name may hold anything, parentheses too.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // The first one here is field 3.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    // Times of waited-for children may be read as negative on some kernels: then they count nothing.
    let cpu_ticks = number(14)? + number(15)? + number(16).unwrap_or(0) + number(17).unwrap_or(0);
    Some(Stat {
        parent: u32::try_from(number(4)?).ok()?,
        session: u32::try_from(number(6)?).unwrap_or(0),
        cpu_ticks,
        threads: number(20)?,
        start_ticks: number(22)?,
        rss_pages: number(24)?,
    })
}

/// The first number after a word at a line's begin.
fn field(text: &str, word: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(word)?.split_ascii_whitespace().next()?.parse().ok())
}

/// Up to and with the part that a supervisor made for one run; `whole` is content with any that is not the top.
fn run_cgroup(path: &str, whole: bool) -> Option<&str> {
    let mut end = 0;
    for part in path.split_inclusive('/') {
        end += part.len();
        if part.starts_with("rbee-run-") {
            return path.get(..end).map(|path| path.trim_end_matches('/'));
        }
    }
    (whole && path.len() > 1).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_kernel_is_read_whatever_the_name_holds() {
        let line =
            "42 (a) b (c) S 1 42 43 0 -1 4194560 100 0 0 0 7 5 2 1 20 0 3 0 1000 200000 321 18446744073709551615 1";
        let expected = Stat { parent: 1, session: 43, cpu_ticks: 15, threads: 3, start_ticks: 1000, rss_pages: 321 };
        assert_eq!(parse_stat(line), Some(expected));
        for broken in ["", "42 (x", "42 (x) S 1 2"] {
            assert_eq!(parse_stat(broken), None, "{broken}");
        }
    }

    #[test]
    fn the_cgroup_of_a_run_is_found_above_what_is_below_it() {
        for (path, whole, expected) in [
            ("/", true, None),
            ("/user.slice/x.service", false, None),
            ("/user.slice/x.service", true, Some("/user.slice/x.service")),
            ("/x.service/rbee-run-00-1-1-w.0", false, Some("/x.service/rbee-run-00-1-1-w.0")),
            ("/x.service/rbee-run-00-1-1-w.0/inner/deep", false, Some("/x.service/rbee-run-00-1-1-w.0")),
        ] {
            assert_eq!(run_cgroup(path, whole), expected, "{path}");
        }
    }

    #[test]
    fn our_own_files_are_read_and_those_of_nobody_are_not() {
        let (mut reader, own) = (Reader::default(), std::process::id());
        let stat = reader.stat(own).unwrap();
        assert!(stat.rss_pages > 20 && stat.threads >= 1 && stat.start_ticks > 0, "{stat:?}");
        assert!(reader.pss_bytes(own).unwrap() > 10_000);
        assert!(reader.io(own).is_some() && fds(own).unwrap() >= 3);
        let nobody = u32::MAX;
        assert_eq!((reader.stat(nobody), reader.io(nobody), fds(nobody)), (None, None, None));
        assert!(all_pids().any(|pid| pid == own));
    }
}
