//! Where a supervisor keeps its files, and the bound of everything it holds.

use std::path::PathBuf;
use std::time::Duration;

use crate::logs::LogBounds;

/// Configuration of a [`Supervisor`](crate::Supervisor).
#[derive(Debug, Clone)]
pub struct SupervisorConfig {
    /// PID, state, lock and FIFO files; made with mode 0700 when missing. Short enough that `run_dir/notify.sock` fits a unix
    /// socket address (107 bytes).
    pub run_dir: PathBuf,
    /// `NAME.log` files; made when missing.
    pub log_dir: PathBuf,
    /// Limits.
    pub bounds: Bounds,
    /// Whether each run gets a cgroup of its own, where the machine lets us; else its processes are known by their marks.
    pub cgroups: bool,
}

impl SupervisorConfig {
    /// A supervisor with the default bounds.
    pub fn new(run_dir: impl Into<PathBuf>, log_dir: impl Into<PathBuf>) -> Self {
        Self { run_dir: run_dir.into(), log_dir: log_dir.into(), bounds: Bounds::default(), cgroups: true }
    }
}

/// Everything a supervisor holds has a bound.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Units that may be declared at once.
    pub units_max: usize,
    /// Units that may be on their way up at once, from spawn to ready, so that the machine is not asked for everything in the
    /// same second. One that is ready once it is started needs its place for a moment only.
    pub starts_max: usize,
    /// Threads that start processes, and as many that bury them.
    pub threads_max: usize,
    /// Commands and reports that may wait for the owner task.
    pub queue_max: usize,
    /// Log lines kept in memory a unit, for errors.
    pub tail_lines: usize,
    /// A log line longer than this is broken.
    pub line_bytes_max: usize,
    /// Size a busy unit's FIFOs grow to, where the kernel allows it: what it may write while no supervisor reads.
    pub fifo_bytes: usize,
    /// First pause between two readiness probes; it doubles up to `ready_interval_max`.
    pub ready_interval_min: Duration,
    /// Longest pause between two readiness probes.
    pub ready_interval_max: Duration,
    /// Most of an HTTP probe's answer that is read.
    pub probe_body_bytes_max: usize,
    /// Time between two looks at how much memory the units use that shall be restarted above a threshold.
    pub memory_interval: Duration,
    /// Events that may wait for one listener; what comes above is lost, and said to be.
    pub events_max: usize,
    /// How long the rest of a process tree may take to disappear after SIGKILL.
    pub kill_wait: Duration,
}

impl Bounds {
    pub(super) const fn logs(&self) -> LogBounds {
        let Self { line_bytes_max, tail_lines, fifo_bytes, .. } = *self;
        LogBounds { line_bytes_max, tail_lines, fifo_bytes }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            units_max: 4096,
            starts_max: 2 * cores(),
            threads_max: cores().clamp(2, 8),
            queue_max: 256,
            tail_lines: 40,
            line_bytes_max: 64 * 1024,
            fifo_bytes: 256 * 1024,
            ready_interval_min: Duration::from_millis(50),
            ready_interval_max: Duration::from_secs(1),
            probe_body_bytes_max: 64 * 1024,
            memory_interval: Duration::from_secs(5),
            events_max: 4096,
            kill_wait: Duration::from_secs(5),
        }
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
