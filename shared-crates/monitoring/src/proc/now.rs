//! Memory and processor share of workers at the moment that somebody asks.
//!
//! One small file of the kernel tells both, in some microseconds. A question spends a bounded time on it: of thousands of
//! workers those not looked at for longest come first, and the others keep what was seen last. What costs more (a worker's
//! whole tree, open files, proportional memory) comes from the last round of samples.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rbee_api::{ProcessUsage, WorkerStatus};

use super::files::{Reader, Stat};

/// A look younger than this is as good as a new one.
const FRESH: Duration = Duration::from_millis(500);
/// What one question may cost.
const BUDGET: Duration = Duration::from_millis(4);

/// Keeps the look before, against which the processor share is measured.
#[derive(Debug)]
pub struct Sampler {
    seen: HashMap<u32, Look>,
    /// The last round of samples, by main process.
    round: HashMap<u32, ProcessUsage>,
    reader: Reader,
    page_bytes: u64,
    ticks_per_s: f64,
    cores: u32,
    memory_bytes: u64,
}

#[derive(Debug, Clone, Copy)]
struct Look {
    at: Instant,
    stat: Stat,
    cpu_percent: f64,
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
            round: HashMap::new(),
            reader: Reader::default(),
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

    /// Takes over what a round of samples found, by main process.
    pub fn learn(&mut self, round: HashMap<u32, ProcessUsage>) {
        self.round = round;
    }

    /// What the last round found of a process.
    #[must_use]
    pub fn learned(&self, pid: u32) -> Option<&ProcessUsage> {
        self.round.get(&pid)
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
            worker.rss_bytes = look.map_or(0, |look| look.stat.rss_pages * self.page_bytes);
            worker.cpu_percent = look.map_or(0.0, |look| look.cpu_percent);
            worker.usage = worker.pid.and_then(|pid| self.round.get(&pid)).cloned();
            // Of a whole tree the round knows more than a look at its main process does.
            if let Some(usage) = worker.usage.as_ref().filter(|usage| usage.processes > 1) {
                worker.rss_bytes = usage.figures.rss_bytes;
                worker.cpu_percent = usage.figures.cpu_percent;
            }
        }
    }

    fn look(&mut self, pid: u32) {
        let Some(stat) = self.reader.stat(pid) else {
            self.seen.remove(&pid);
            return;
        };
        let at = Instant::now();
        let before = self.seen.get(&pid).filter(|before| before.stat.start_ticks == stat.start_ticks);
        let cpu_percent = before.map_or(0.0, |before| {
            let ticks = stat.cpu_ticks.saturating_sub(before.stat.cpu_ticks) as f64;
            ticks / self.ticks_per_s / at.duration_since(before.at).as_secs_f64().max(0.001) * 100.0
        });
        self.seen.insert(pid, Look { at, stat, cpu_percent });
    }
}

fn memory_bytes() -> io::Result<u64> {
    let text = fs::read_to_string(Path::new("/proc/meminfo"))?;
    let kib =
        text.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("/proc/meminfo does not tell the memory of the machine"))
}
