//! Numbers for `/metrics` (OpenMetrics text, as Prometheus reads it) and for `/health`.
//!
//! Labels have bounded values: a model is one of the config's or `unknown`.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;
use jiff::Timestamp;
use monitoring::{Counts, HistoryFigures};
use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use rbee_api::usage::UsageCounts;
use rbee_api::{FleetStatus, Phase};
use rbee_runtime::process_figures;

const PREFIX: &str = "rbee_queen";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    model: String,
    code: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabel {
    model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyLabels {
    key: String,
    model: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KeyTokenLabels {
    key: String,
    model: String,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: &'static str,
}

/// How many requests wait, by model.
type Depths = dyn Fn() -> Vec<(String, usize)> + Send + Sync;

/// All of queen's numbers.
pub struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    in_flight: Gauge,
    queued: Family<ModelLabel, Gauge>,
    upstream_failures: Family<KindLabel, Counter>,
    first_byte: Family<ModelLabel, Histogram, fn() -> Histogram>,
    uptime: Gauge<f64, AtomicU64>,
    hives: Family<PhaseLabel, Gauge>,
    workers: Family<PhaseLabel, Gauge>,
    resumes: Family<ModelLabel, Counter>,
    key_requests: Family<KeyLabels, Counter>,
    key_tokens: Family<KeyTokenLabels, Counter>,
    queue: OnceLock<Box<Depths>>,
    last_activity_ms: AtomicI64,
    errors: AtomicU64,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// What `/health` says besides being alive.
#[derive(Debug, Clone, Copy)]
pub struct Activity {
    /// The last answer.
    pub last_activity: Option<Timestamp>,
    /// Requests that wait for a worker.
    pub queue_depth: u64,
    /// Answers of 500 and above since the start.
    pub error_count: u64,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Everything at zero.
    #[must_use]
    pub fn new() -> Self {
        // From 1 ms to half a minute, each twice the one before.
        let first_byte: Family<ModelLabel, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 16)));
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Family::default(),
            in_flight: Gauge::default(),
            queued: Family::default(),
            upstream_failures: Family::default(),
            first_byte,
            uptime: Gauge::default(),
            hives: Family::default(),
            workers: Family::default(),
            resumes: Family::default(),
            key_requests: Family::default(),
            key_tokens: Family::default(),
            queue: OnceLock::new(),
            last_activity_ms: AtomicI64::new(0),
            errors: AtomicU64::new(0),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        process_figures::register(&mut self.registry);
        let registry = self.registry.sub_registry_with_prefix(PREFIX);
        registry.register("requests", "Requests answered, by model and status", self.requests.clone());
        registry.register("requests_in_flight", "Requests being answered or waiting", self.in_flight.clone());
        registry.register("requests_queued", "Requests waiting for a worker, by model", self.queued.clone());
        registry.register("key_requests", "Requests of each API key, by model", self.key_requests.clone());
        let help = "Tokens that each API key has used, by model and kind";
        registry.register("key_tokens", help, self.key_tokens.clone());
        let help = "Times that an answer was gone on with by another worker, by model";
        registry.register("streams_resumed", help, self.resumes.clone());
        let help = "Attempts at a worker that came to nothing, by kind";
        registry.register("upstream_failures", help, self.upstream_failures.clone());
        let help = "Time from a request to the first byte of its answer";
        registry.register("time_to_first_byte_seconds", help, self.first_byte.clone());
        registry.register("uptime_seconds", "Time since queen started", self.uptime.clone());
        registry.register("hives", "Hives by phase", self.hives.clone());
        registry.register("workers", "Replicas by phase", self.workers.clone());
    }

    /// Has her history and what happened among them.
    #[must_use]
    pub fn with_history(mut self, figures: HistoryFigures, counts: &Counts) -> Self {
        let registry = self.registry.sub_registry_with_prefix(PREFIX);
        registry.register_collector(Box::new(figures));
        counts.register(registry);
        self
    }

    /// Who tells how many wait, by model; the first call counts.
    pub fn watch_queue(&self, depths: impl Fn() -> Vec<(String, usize)> + Send + Sync + 'static) {
        let _ = self.queue.set(Box::new(depths));
    }

    /// One more answer.
    pub fn answered(&self, model: Option<&str>, status: StatusCode) {
        let model = model.unwrap_or("unknown").to_owned();
        self.requests.get_or_create(&RequestLabels { model, code: status.as_u16() }).inc();
        self.last_activity_ms.store(Timestamp::now().as_millisecond(), Ordering::Relaxed);
        if status.is_server_error() {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request in flight, until the guard is dropped.
    pub fn in_flight(&self) -> InFlightGauge {
        self.in_flight.inc();
        InFlightGauge(self.in_flight.clone())
    }

    /// An attempt that came to nothing.
    pub fn upstream_failure(&self, kind: &'static str) {
        self.upstream_failures.get_or_create(&KindLabel { kind }).inc();
    }

    /// An API key has used something.
    pub fn used(&self, key: &str, model: &str, counts: UsageCounts) {
        let (key, model) = (key.to_owned(), model.to_owned());
        for (kind, tokens) in [("prompt", counts.prompt_tokens), ("completion", counts.completion_tokens)] {
            let labels = KeyTokenLabels { key: key.clone(), model: model.clone(), kind };
            self.key_tokens.get_or_create(&labels).inc_by(tokens);
        }
        self.key_requests.get_or_create(&KeyLabels { key, model }).inc_by(counts.requests);
    }

    /// Another worker goes on with an answer.
    pub fn resumed(&self, model: &str) {
        self.resumes.get_or_create(&ModelLabel { model: model.to_owned() }).inc();
    }

    /// A worker began to answer.
    pub fn first_byte(&self, model: &str, after: Duration) {
        self.first_byte.get_or_create(&ModelLabel { model: model.to_owned() }).observe(after.as_secs_f64());
    }

    /// For `/health`.
    #[must_use]
    pub fn activity(&self) -> Activity {
        let last_ms = self.last_activity_ms.load(Ordering::Relaxed);
        Activity {
            last_activity: Some(last_ms).filter(|ms| *ms > 0).and_then(|ms| Timestamp::from_millisecond(ms).ok()),
            queue_depth: self.queue_depths().iter().map(|(_, depth)| *depth as u64).sum(),
            error_count: self.errors.load(Ordering::Relaxed),
        }
    }

    fn queue_depths(&self) -> Vec<(String, usize)> {
        self.queue.get().map(|depths| depths()).unwrap_or_default()
    }

    /// The text for Prometheus.
    ///
    /// # Errors
    /// When a number cannot be written as text.
    pub fn render(&self, fleet: &FleetStatus) -> Result<String, fmt::Error> {
        for (model, depth) in self.queue_depths() {
            self.queued.get_or_create(&ModelLabel { model }).set(i64::try_from(depth).unwrap_or(i64::MAX));
        }
        self.uptime.set(fleet.queen.as_ref().map_or(0.0, |queen| queen.uptime_s));
        count(&self.hives, &fleet.hives.iter().map(|hive| hive.phase).collect::<Vec<_>>());
        count(&self.workers, &fleet.workers().map(|(_, worker)| worker.phase).collect::<Vec<_>>());
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn count(family: &Family<PhaseLabel, Gauge>, phases: &[Phase]) {
    for phase in Phase::ALL {
        let number = phases.iter().filter(|each| **each == phase).count();
        let label = PhaseLabel { phase: phase.as_str() };
        family.get_or_create(&label).set(i64::try_from(number).unwrap_or(i64::MAX));
    }
}

/// Counts down when dropped.
#[derive(Debug)]
pub struct InFlightGauge(Gauge);

impl Drop for InFlightGauge {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use monitoring::{Bounds, History, NewEvent};
    use rbee_api::EventKind;

    use super::*;

    /// MONI-18
    #[test]
    fn the_dashboard_and_the_alerts_name_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let history = History::open(&dir.path().join("q.sqlite"), &Bounds::default()).history;
        let counts = Counts::default();
        counts.see(&NewEvent::now("queen", EventKind::Running));
        let figures = HistoryFigures { history, samples: std::sync::Arc::default() };
        let metrics = Metrics::new().with_history(figures, &counts);
        metrics.answered(Some("m"), StatusCode::OK);
        metrics.upstream_failure("stall");
        metrics.resumed("m");
        metrics.first_byte("m", Duration::from_millis(1));
        metrics.watch_queue(|| vec![("m".to_owned(), 1)]);
        let text = metrics.render(&FleetStatus { queen: None, hives: Vec::new() }).unwrap();
        dashboard_check::assert_all_named_are_in(&text, "rbee_queen_", 6);
    }
}
