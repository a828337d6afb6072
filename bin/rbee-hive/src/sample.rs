//! Memory and processor share of processes, looked at when somebody asks and never otherwise.
//!
//! One small file of the kernel tells both, in some microseconds. A question spends a bounded time on it: of thousands of
//! workers those not looked at for longest come first, and the others keep what was seen last.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::{Duration, Instant};

use rbee_api::WorkerStatus;

/// A look younger than this is as good as a new one.
const FRESH: Duration = Duration::from_millis(500);
/// What one question may cost.
const BUDGET: Duration = Duration::from_millis(4);

/// Keeps the look before, against which the processor share is measured.
#[derive(Debug)]
pub struct Sampler {
    seen: HashMap<u32, Look>,
    page_bytes: u64,
    ticks_per_s: f64,
    cores: u32,
    memory_bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    usage: Usage,
    cpu_percent: f64,
}

/// What the kernel counts of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Usage {
    cpu_ticks: u64,
    rss_pages: u64,
}

impl Sampler {
    /// Nothing is sampled yet.
    ///
    /// # Errors
    /// On systems that tell nothing of their processes.
    pub fn new() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
        Ok(Self {
            seen: HashMap::new(),
            page_bytes: u64::try_from(rustix::param::page_size()).unwrap_or(4096),
            ticks_per_s: f64::from(u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100)),
            cores,
            memory_bytes: memory_bytes()?,
        })
    }

    /// Cores that we may use.
    #[must_use]
    pub const fn cores(&self) -> u32 {
        self.cores
    }

    /// Memory of the machine.
    #[must_use]
    pub const fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// Fills memory and processor share in for every worker that has a process.
    pub fn fill(&mut self, workers: &mut [WorkerStatus]) {
        let began = Instant::now();
        let mut pids: Vec<(Option<Instant>, u32)> = workers
            .iter()
            .filter_map(|worker| worker.pid)
            .map(|pid| (self.seen.get(&pid).map(|look| look.at), pid))
            .collect();
        if self.seen.len() > 2 * pids.len() + 64 {
            let live: std::collections::HashSet<u32> = pids.iter().map(|(_, pid)| *pid).collect();
            self.seen.retain(|pid, _| live.contains(pid));
        }
        // Those never looked at come first, then the oldest looks.
        pids.sort_unstable();
        for (at, pid) in pids {
            if at.is_some_and(|at| began.duration_since(at) < FRESH) || began.elapsed() > BUDGET {
                break;
            }
            self.look(pid);
        }
        for worker in workers {
            let look = worker.pid.and_then(|pid| self.seen.get(&pid));
            worker.rss_bytes = look.map_or(0, |look| look.usage.rss_pages * self.page_bytes);
            worker.cpu_percent = look.map_or(0.0, |look| look.cpu_percent);
        }
    }

    fn look(&mut self, pid: u32) {
        let Some(usage) = usage(pid) else {
            self.seen.remove(&pid);
            return;
        };
        let at = Instant::now();
        let cpu_percent = self.seen.get(&pid).map_or(0.0, |before| {
            // A pid that was given out again may have used less than the one before.
            let ticks = usage.cpu_ticks.saturating_sub(before.usage.cpu_ticks) as f64;
            ticks / self.ticks_per_s / at.duration_since(before.at).as_secs_f64().max(0.001) * 100.0
        });
        self.seen.insert(pid, Look { at, usage, cpu_percent });
    }
}

fn usage(pid: u32) -> Option<Usage> {
    let mut text = [0; 1024];
    let length = fs::File::open(format!("/proc/{pid}/stat")).and_then(|mut file| file.read(&mut text)).ok()?;
    parse(std::str::from_utf8(text.get(..length)?).ok()?)
}

/// Fields 14, 15 (processor time) and 24 (memory) of proc_pid_stat(5). The name may hold anything, parentheses too.
fn parse(stat: &str) -> Option<Usage> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let mut number = |skip: usize| fields.nth(skip)?.parse::<u64>().ok();
    let cpu_ticks = number(0)? + number(0)?;
    Some(Usage { cpu_ticks, rss_pages: number(8)? })
}

fn memory_bytes() -> io::Result<u64> {
    let text = fs::read_to_string(Path::new("/proc/meminfo"))?;
    let kib =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("/proc/meminfo does not tell the memory of the machine"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::tests::status;

    #[test]
    fn our_own_process_has_memory_and_a_missing_one_has_none() {
        let mut sampler = Sampler::new().unwrap();
        assert!(sampler.cores() >= 1 && sampler.memory_bytes() > 1 << 20);
        let mut workers = [status(Some(std::process::id())), status(None), status(Some(u32::MAX))];
        sampler.fill(&mut workers);
        assert!(workers[0].rss_bytes > 100_000, "{workers:?}");
        for nobody in &workers[1..] {
            assert_eq!((nobody.rss_bytes, nobody.cpu_percent), (0, 0.0));
        }
    }

    #[test]
    fn a_line_of_the_kernel_is_read_whatever_the_name_holds() {
        let line =
            "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 7 5 0 0 20 0 1 0 1000 200000 321 18446744073709551615 1";
        assert_eq!(parse(line), Some(Usage { cpu_ticks: 12, rss_pages: 321 }));
        for broken in ["", "42 (x", "42 (x) S 1 2"] {
            assert_eq!(parse(broken), None, "{broken}");
        }
    }
}
