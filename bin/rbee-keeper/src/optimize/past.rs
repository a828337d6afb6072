//! What a report says about one worker, all its replicas on this machine together.

use std::time::Duration;

use rbee_api::report::DaemonReport;
use rbee_api::report::Report;

/// What is known less long is no history.
const KNOWN_MIN: Duration = Duration::from_secs(3600);

/// Whether any worker is known long enough to judge by.
pub(crate) fn is_known_long(report: &Report) -> bool {
    report.daemons.iter().any(|daemon| daemon.name.contains('/') && known(daemon) >= KNOWN_MIN)
}

fn known(daemon: &DaemonReport) -> Duration {
    Duration::from_millis(daemon.availability.up_ms)
}

/// A worker's history.
#[derive(Debug, Clone, Copy)]
pub(super) struct Past<'r> {
    report: &'r Report,
    hive: &'r str,
    name: &'r str,
}

impl<'r> Past<'r> {
    pub(super) fn of(report: &'r Report, hive: &'r str, name: &'r str) -> Self {
        Self { report, hive, name }
    }

    /// Replicas of which enough is known.
    fn replicas(self) -> impl Iterator<Item = &'r DaemonReport> {
        let (hive, name) = (self.hive, self.name);
        self.report.daemons.iter().filter(move |daemon| {
            let of_worker = daemon.name.split_once('/').is_some_and(|(worker, _)| worker == name);
            of_worker && daemon.hive.as_deref().is_none_or(|on| on == hive) && known(daemon) >= KNOWN_MIN
        })
    }

    /// Highest share of a core of any replica, in percent.
    pub(super) fn cpu_peak(self) -> Option<f64> {
        self.replicas().filter_map(|daemon| Some(daemon.cpu_percent?.peak)).reduce(f64::max)
    }

    /// Most memory of any replica, in bytes.
    pub(super) fn memory_peak(self) -> Option<u64> {
        let peak = self.replicas().filter_map(|daemon| Some(daemon.memory_bytes?.peak)).reduce(f64::max)?;
        Some(peak as u64)
    }

    /// The slowest start of any replica. One start is enough to know it.
    pub(super) fn slowest_start(self) -> Option<Duration> {
        let (hive, name) = (self.hive, self.name);
        let daemons = self.report.daemons.iter().filter(move |daemon| {
            daemon.name.split_once('/').is_some_and(|(worker, _)| worker == name)
                && daemon.hive.as_deref().is_none_or(|on| on == hive)
        });
        daemons.flat_map(|daemon| &daemon.slowest_starts).map(|start| Duration::from_millis(start.took_ms)).max()
    }

    /// Restarts that nobody ordered, of all replicas; and the most frequent cause.
    pub(super) fn crashes(self) -> (u64, Option<&'r str>) {
        let causes = self.report.daemons.iter().filter(|daemon| {
            daemon.name.split_once('/').is_some_and(|(worker, _)| worker == self.name)
                && daemon.hive.as_deref().is_none_or(|on| on == self.hive)
        });
        let causes = causes.flat_map(|daemon| &daemon.restarts.causes).filter(|cause| is_crash(&cause.cause));
        let causes: Vec<_> = causes.collect();
        let most = causes.iter().max_by_key(|cause| cause.count).map(|cause| cause.cause.as_str());
        (causes.iter().map(|cause| cause.count).sum(), most)
    }
}

/// Whether a cause speaks of a worker that failed by itself, as `supervision` words it.
fn is_crash(cause: &str) -> bool {
    const WORDS: [&str; 7] = [
        "exited with",
        "ended with",
        "signal",
        "want of memory",
        "not ready within",
        "could not be started",
        "unhealthy",
    ];
    WORDS.iter().any(|word| cause.contains(word))
}
