//! The mark of a run: what every process of it carries, however it was forked.
//!
//! Twice: as a variable of the environment, for people and for what comes after us, and as a soft limit that no ordinary process ever
//! sets or meets (RLIMIT_RTTIME: time a *real-time* process may run without a pause; ours stands for more than 100,000 years). The
//! limit passes through fork, exec, setsid and a cleared environment, and one system call reads it.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::{BuildHasher as _, Hasher as _};
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The environment variable that marks every process of one run; children inherit it.
pub(crate) const RUN_ID_VARIABLE: &str = "RBEE_RUN_ID";

/// Every mark has this bit and not the one above, so that it is neither "unlimited" nor a number that means something.
const MARK_BIT: u64 = 1 << 62;

/// A run's mark as a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct RunMark(u64);

impl RunMark {
    pub(crate) fn of_run(run_id: &str) -> Self {
        Self(MARK_BIT | (crate::launch::hash_of(run_id.as_bytes()) >> 2))
    }

    /// What the child is to set; `None` where we ourselves are limited, so that it cannot.
    pub(super) fn limit(self) -> Option<libc::rlimit64> {
        let ours = real_time_limit(std::process::id())?;
        (ours.rlim_max == libc::RLIM64_INFINITY)
            .then_some(libc::rlimit64 { rlim_cur: self.0, rlim_max: libc::RLIM64_INFINITY })
    }

    /// The mark a process carries, dead but unreaped ones too.
    pub(crate) fn of_process(pid: u32) -> Option<Self> {
        let limit = match real_time_limit(pid) {
            Some(limit) => limit.rlim_cur,
            // Of another user: only the text is for everybody.
            None => soft_limit_in(&fs::read_to_string(format!("/proc/{pid}/limits")).ok()?)?,
        };
        (limit >> 62 == 1).then_some(Self(limit))
    }
}

#[expect(unsafe_code, reason = "no safe form reads another process's limits")]
fn real_time_limit(pid: u32) -> Option<libc::rlimit64> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: reads into local memory, changes nothing.
    let result =
        unsafe { libc::prlimit64(i32::try_from(pid).ok()?, libc::RLIMIT_RTTIME, std::ptr::null(), &raw mut limit) };
    (result == 0).then_some(limit)
}

fn soft_limit_in(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max realtime timeout"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The run id in a process's environment.
pub(super) fn run_id_of(pid: u32) -> Option<String> {
    let env = fs::read(format!("/proc/{pid}/environ")).ok()?;
    env.split(|byte| *byte == 0).find_map(|entry| {
        let value = entry.strip_prefix(RUN_ID_VARIABLE.as_bytes())?.strip_prefix(b"=")?;
        String::from_utf8(value.to_vec()).ok()
    })
}

/// The run this process itself belongs to, where it was started by one of us.
pub(crate) fn own_run_id() -> Option<String> {
    run_id_of(std::process::id())
}

/// Whether the process carries the mark of some run of this unit.
pub(crate) fn bears_mark_of(pid: u32, unit: &str) -> bool {
    run_id_of(pid).and_then(|run| run.strip_prefix(unit).map(|rest| rest.starts_with(':'))).unwrap_or(false)
}

/// The runs of this unit of which something is alive.
pub(crate) fn runs_of(unit: &str) -> io::Result<BTreeSet<String>> {
    let pids = fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_its = |run: &String| run.strip_prefix(unit).is_some_and(|rest| rest.starts_with(':'));
    Ok(pids.filter_map(run_id_of).filter(is_its).collect())
}

/// A new mark for one run of `unit`: random for this process, counted within it.
pub(crate) fn new_run_id(unit: &str) -> String {
    static OF_THIS_PROCESS: OnceLock<u64> = OnceLock::new();
    // Seeded by the kernel once a process.
    let random = OF_THIS_PROCESS.get_or_init(|| RandomState::new().build_hasher().finish());
    format!("{unit}:{random:016x}-{}-{}", std::process::id(), next_run_number())
}

pub(super) fn next_run_number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed) + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_and_their_marks_differ() {
        let (one, two) = (new_run_id("a.0"), new_run_id("a.0"));
        assert!(one.starts_with("a.0:") && one != two);
        assert_ne!(RunMark::of_run(&one), RunMark::of_run(&two));
        assert_eq!(RunMark::of_run("a:1"), RunMark(8_761_886_142_819_215_258), "the same in every build");
    }

    #[test]
    fn a_limit_is_read_from_its_text() {
        let text =
            "Limit  Soft Limit  Hard Limit  Units\nMax realtime timeout      5000000000000000000  unlimited  us\n";
        assert_eq!(soft_limit_in(text), Some(5_000_000_000_000_000_000));
        assert_eq!(soft_limit_in("Max realtime timeout      unlimited  unlimited  us\n"), None);
    }
}
