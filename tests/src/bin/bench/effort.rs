//! What processes take: memory, processor time, context switches; and as many files as we may have.

use std::fs;

use anyhow::{Context, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the processes really take: shared pages count by share.
pub fn pss_kib(pids: &[u32]) -> Result<u64> {
    let mut sum = 0;
    for pid in pids {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).context("the kernel tells no PSS")?;
        sum += line.trim().trim_end_matches(" kB").parse::<u64>()?;
    }
    Ok(sum)
}

/// Processor time and context switches of some processes up to now.
#[derive(Debug, Clone, Copy, Default)]
pub struct Effort {
    pub cpu_ns: u64,
    pub switches: u64,
}

impl Effort {
    /// A thread that ends is forgotten by the kernel: its part is missing then.
    pub fn of(pids: &[u32]) -> Self {
        let mut effort = Self::default();
        for pid in pids {
            for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let schedstat = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
                effort.cpu_ns += schedstat.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or_default();
                let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
                effort.switches += status
                    .lines()
                    .filter(|line| line.contains("ctxt_switches"))
                    .filter_map(|line| line.rsplit('\t').next()?.parse::<u64>().ok())
                    .sum::<u64>();
            }
        }
        effort
    }

    pub fn since(self, before: Self) -> Self {
        Self {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            switches: self.switches.saturating_sub(before.switches),
        }
    }
}

/// A thousand children are thousands of pidfds, a thousand streams thousands of sockets.
pub fn allow_many_files() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    Ok(())
}
