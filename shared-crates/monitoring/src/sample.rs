//! What is seen of one daemon at one moment, and what many such moments come to.

use std::sync::Arc;

use jiff::Timestamp;
use rbee_api::Figures;

/// One daemon at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// `queen`, `hive`, or `NAME/REPLICA`.
    pub daemon: Arc<str>,
    /// Number of its present run.
    pub incarnation: u64,
    /// Whether it is ready.
    pub running: bool,
    /// What its last health probe said; absent without one.
    pub healthy: Option<bool>,
    /// What its whole tree of processes uses.
    pub figures: Figures,
    /// Seconds since this run started.
    pub uptime_s: u64,
    /// Restarts since the count was last reset.
    pub restarts: u64,
}

impl Sample {
    /// A daemon without a process.
    #[must_use]
    pub fn none(daemon: impl Into<Arc<str>>) -> Self {
        Self {
            daemon: daemon.into(),
            incarnation: 0,
            running: false,
            healthy: None,
            figures: Figures::default(),
            uptime_s: 0,
            restarts: 0,
        }
    }
}

/// Average and peak of a figure.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spread {
    /// Average.
    pub avg: f64,
    /// Peak.
    pub max: f64,
}

/// What the samples of one daemon within a span of time come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The daemon.
    pub daemon: Arc<str>,
    /// Where the span begins.
    pub at: Timestamp,
    /// Samples in it.
    pub samples: u64,
    /// Of them: it was ready.
    pub running: u64,
    /// Of them: its health probe had failed.
    pub unhealthy: u64,
    /// In percent of one core.
    pub cpu_percent: Spread,
    /// Resident memory.
    pub rss_bytes: Spread,
    /// Proportional memory; zero where it is not told.
    pub pss_bytes: Spread,
    /// Most open files.
    pub fds_max: u64,
    /// Most threads.
    pub threads_max: u64,
    /// Read from disks within the span, as far as samples show.
    pub read_bytes: u64,
    /// Written to disks within the span.
    pub written_bytes: u64,
    /// What its logs took at the end.
    pub disk_bytes: u64,
    /// Restarts counted at the end.
    pub restarts: u64,
    /// Number of the run at the end.
    pub incarnation: u64,
    /// Most memory of graphics cards.
    pub gpu_bytes_max: u64,
}

impl Summary {
    pub(crate) fn new(daemon: Arc<str>, at: Timestamp) -> Self {
        Self {
            daemon,
            at,
            samples: 0,
            running: 0,
            unhealthy: 0,
            cpu_percent: Spread::default(),
            rss_bytes: Spread::default(),
            pss_bytes: Spread::default(),
            fds_max: 0,
            threads_max: 0,
            read_bytes: 0,
            written_bytes: 0,
            disk_bytes: 0,
            restarts: 0,
            incarnation: 0,
            gpu_bytes_max: 0,
        }
    }

    /// Adds another span of the same daemon, which follows.
    pub fn add(&mut self, later: &Self) {
        let spread = |mine: Spread, theirs: Spread| {
            let (n, m) = (self.samples as f64, later.samples as f64);
            let avg = if n + m > 0.0 { (mine.avg * n + theirs.avg * m) / (n + m) } else { 0.0 };
            Spread { avg, max: mine.max.max(theirs.max) }
        };
        self.cpu_percent = spread(self.cpu_percent, later.cpu_percent);
        self.rss_bytes = spread(self.rss_bytes, later.rss_bytes);
        self.pss_bytes = spread(self.pss_bytes, later.pss_bytes);
        self.samples += later.samples;
        self.running += later.running;
        self.unhealthy += later.unhealthy;
        self.fds_max = self.fds_max.max(later.fds_max);
        self.threads_max = self.threads_max.max(later.threads_max);
        self.gpu_bytes_max = self.gpu_bytes_max.max(later.gpu_bytes_max);
        self.read_bytes += later.read_bytes;
        self.written_bytes += later.written_bytes;
        self.disk_bytes = later.disk_bytes;
        self.restarts = later.restarts;
        self.incarnation = later.incarnation;
    }
}

/// Adds samples of one daemon up, oldest first.
#[derive(Debug)]
pub(crate) struct Adding {
    summary: Summary,
    /// Counters of the sample before: (incarnation, read, written).
    before: Option<(u64, u64, u64)>,
}

impl Adding {
    /// `before` is what an earlier span ended with.
    pub(crate) const fn new(summary: Summary, before: Option<(u64, u64, u64)>) -> Self {
        Self { summary, before }
    }

    pub(crate) fn add(&mut self, sample: &Sample) {
        let one = |value: f64| Spread { avg: value, max: value };
        let seen = &sample.figures;
        let (read, written) = (seen.read_bytes.unwrap_or(0), seen.written_bytes.unwrap_or(0));
        // A new run counts from zero, and so may a tree of which a process ended.
        let since = |now: u64, before: u64| if now >= before { now - before } else { now };
        let (read_bytes, written_bytes) = match self.before {
            Some((incarnation, r, w)) if incarnation == sample.incarnation => (since(read, r), since(written, w)),
            Some(_) => (read, written),
            // What was read before anybody looked belongs to no span.
            None => (0, 0),
        };
        self.before = Some((sample.incarnation, read, written));
        self.summary.add(&Summary {
            daemon: Arc::clone(&sample.daemon),
            at: self.summary.at,
            samples: 1,
            running: u64::from(sample.running),
            unhealthy: u64::from(sample.healthy == Some(false)),
            cpu_percent: one(seen.cpu_percent),
            rss_bytes: one(seen.rss_bytes as f64),
            pss_bytes: one(seen.pss_bytes.unwrap_or(0) as f64),
            fds_max: seen.fds.unwrap_or(0),
            threads_max: seen.threads,
            read_bytes,
            written_bytes,
            disk_bytes: seen.disk_bytes,
            restarts: sample.restarts,
            incarnation: sample.incarnation,
            gpu_bytes_max: seen.gpu_bytes.unwrap_or(0),
        });
    }

    pub(crate) fn finish(self) -> (Summary, Option<(u64, u64, u64)>) {
        (self.summary, self.before)
    }
}
