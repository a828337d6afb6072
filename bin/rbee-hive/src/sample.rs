//! Memory and processor share of processes, looked at when somebody asks and never otherwise.

use std::collections::BTreeSet;

use rbee_api::WorkerStatus;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// Keeps the sample before, against which the processor share is measured.
#[derive(Debug)]
pub struct Sampler {
    system: System,
    cores: u32,
    memory_bytes: u64,
}

impl Sampler {
    /// Nothing is sampled yet.
    ///
    /// # Errors
    /// On systems that tell nothing of their processes.
    pub fn new() -> Result<Self, sysinfo::Error> {
        let mut system = System::new()?;
        system.refresh_memory();
        let memory_bytes = system.total_memory();
        let cores = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
        Ok(Self { system, cores, memory_bytes })
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
        let pids: BTreeSet<Pid> = workers.iter().filter_map(|worker| worker.pid).map(Pid::from_u32).collect();
        let pids: Vec<Pid> = pids.into_iter().collect();
        let kind = ProcessRefreshKind::nothing().with_memory().with_cpu();
        self.system.refresh_processes_specifics(ProcessesToUpdate::Some(&pids), true, kind);
        for worker in workers {
            let process = worker.pid.and_then(|pid| self.system.process(Pid::from_u32(pid)));
            worker.rss_bytes = process.map_or(0, sysinfo::Process::memory);
            worker.cpu_percent = process.map_or(0.0, |process| f64::from(process.cpu_usage()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::tests::status;

    #[test]
    fn our_own_process_has_memory_and_a_missing_one_has_none() {
        let mut sampler = Sampler::new().unwrap();
        assert!(sampler.cores() >= 1 && sampler.memory_bytes() > 1 << 20);
        let mut workers = [status(Some(std::process::id())), status(None)];
        sampler.fill(&mut workers);
        assert!(workers[0].rss_bytes > 100_000, "{workers:?}");
        assert_eq!((workers[1].rss_bytes, workers[1].cpu_percent), (0, 0.0));
    }
}
