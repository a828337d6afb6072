//! Counters of this process: `/metrics` prints them, `/health` and the shutdown line read them.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use rbee_runtime::process_figures;

/// Batches that may fail in a row before the engine counts as broken.
const FAILURES_IN_A_ROW_MAX: u32 = 3;

/// All of them. Gauges are set by whoever owns what they count.
#[derive(Debug)]
pub struct Metrics {
    registry: Mutex<Registry>,
    started: Instant,
    /// Requests admitted.
    pub requests: Counter,
    /// Requests whose client went away.
    pub abandoned: Counter,
    /// Requests refused because the queue was full.
    pub refused: Counter,
    /// Answers that failed by our fault.
    pub errors: Counter,
    /// Tokens read.
    pub prompt_tokens: Counter,
    /// Of the tokens read by answers, those that were known already and not computed again.
    pub cached_tokens: Counter,
    /// Prompt tokens of answers: what `cached_tokens` is a share of.
    looked_up_tokens: Counter,
    cache_hit_rate: Gauge<f64, AtomicU64>,
    /// Prefixes written to disk.
    pub prefixes_saved: Counter,
    /// Prefixes taken from disk.
    pub prefixes_restored: Counter,
    /// Prefixes on disk that were wrong.
    pub prefixes_dropped: Counter,
    /// Tokens generated.
    pub completion_tokens: Counter,
    /// Slots in use.
    pub slots_busy: Gauge,
    /// Requests that wait for a slot.
    pub queue_depth: Gauge,
    first_token_seconds: Histogram,
    request_seconds: Histogram,
    queue_seconds: Histogram,
    last_activity_ms: AtomicI64,
    failures_in_a_row: AtomicU32,
    engine_gone: AtomicBool,
}

impl Metrics {
    /// All at zero; every line carries the model's name.
    #[must_use]
    pub fn new(model: &str, slots: usize) -> Self {
        let labels = [("model".into(), model.to_owned().into())];
        let mut root = Registry::default();
        process_figures::register(&mut root);
        let registry = root.sub_registry_with_prefix("rbee_worker").sub_registry_with_labels(labels.into_iter());
        let slots_total = Gauge::<i64>::default();
        slots_total.set(i64::try_from(slots).unwrap_or(i64::MAX));
        registry.register("slots", "Sequences at once", slots_total);
        let metrics = Self {
            registry: Mutex::default(),
            started: Instant::now(),
            requests: Counter::default(),
            abandoned: Counter::default(),
            refused: Counter::default(),
            errors: Counter::default(),
            prompt_tokens: Counter::default(),
            cached_tokens: Counter::default(),
            looked_up_tokens: Counter::default(),
            cache_hit_rate: Gauge::default(),
            prefixes_saved: Counter::default(),
            prefixes_restored: Counter::default(),
            prefixes_dropped: Counter::default(),
            completion_tokens: Counter::default(),
            slots_busy: Gauge::default(),
            queue_depth: Gauge::default(),
            first_token_seconds: Histogram::new(SECONDS),
            request_seconds: Histogram::new(SECONDS),
            queue_seconds: Histogram::new(SECONDS),
            last_activity_ms: AtomicI64::new(0),
            failures_in_a_row: AtomicU32::new(0),
            engine_gone: AtomicBool::new(false),
        };
        metrics.register(registry);
        Self { registry: Mutex::new(root), ..metrics }
    }

    fn register(&self, registry: &mut Registry) {
        registry.register("requests", "Requests admitted", self.requests.clone());
        registry.register("requests_abandoned", "Requests whose client went away", self.abandoned.clone());
        registry.register("requests_refused", "Requests refused with a full queue", self.refused.clone());
        registry.register("errors", "Answers that failed by our fault", self.errors.clone());
        registry.register("prompt_tokens", "Tokens read", self.prompt_tokens.clone());
        let cached = "Prompt tokens that were known already and not computed again";
        registry.register("cached_tokens", cached, self.cached_tokens.clone());
        let rate = "Share of prompt tokens that were known already, 0 to 1";
        registry.register("cache_hit_rate", rate, self.cache_hit_rate.clone());
        registry.register("prefixes_saved", "Prefixes written to disk", self.prefixes_saved.clone());
        registry.register("prefixes_restored", "Prefixes taken from disk", self.prefixes_restored.clone());
        registry.register("prefixes_dropped", "Prefixes on disk that were wrong", self.prefixes_dropped.clone());
        registry.register("completion_tokens", "Tokens generated", self.completion_tokens.clone());
        registry.register("slots_busy", "Slots in use", self.slots_busy.clone());
        registry.register("queue_depth", "Requests that wait for a slot", self.queue_depth.clone());
        let to_first = "Seconds from admission to the first token";
        registry.register("first_token_seconds", to_first, self.first_token_seconds.clone());
        registry.register("request_seconds", "Seconds from admission to the end", self.request_seconds.clone());
        registry.register("queue_seconds", "Seconds from admission to a slot", self.queue_seconds.clone());
    }

    /// Prometheus text.
    ///
    /// # Errors
    /// When formatting fails.
    pub fn render(&self) -> Result<String, std::fmt::Error> {
        let registry = self.registry.lock().map_err(|_| std::fmt::Error)?;
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }

    /// A request got its slot.
    pub fn waited(&self, time: Duration) {
        self.queue_seconds.observe(time.as_secs_f64());
        self.touched();
    }

    /// A prompt of an answer is in the model; the first `known` tokens of it and what was resumed were there before.
    pub fn prompt_read(&self, tokens: usize, known: usize) {
        self.prompt_tokens.inc_by(tokens as u64);
        self.looked_up_tokens.inc_by(tokens as u64);
        self.cached_tokens.inc_by(known.min(tokens) as u64);
        self.cache_hit_rate.set(self.cached_tokens.get() as f64 / self.looked_up_tokens.get().max(1) as f64);
    }

    /// Share of prompt tokens that were known already, 0 to 1.
    #[must_use]
    pub fn hit_rate(&self) -> f64 {
        self.cache_hit_rate.get()
    }

    /// A request got its first token.
    pub fn first_token(&self, time: Duration) {
        self.first_token_seconds.observe(time.as_secs_f64());
    }

    /// A request was answered completely.
    pub fn finished(&self, time: Duration) {
        self.request_seconds.observe(time.as_secs_f64());
    }

    /// There was work just now.
    pub fn touched(&self) {
        self.last_activity_ms.store(Timestamp::now().as_millisecond(), Ordering::Relaxed);
    }

    /// A batch went well.
    pub fn engine_works(&self) {
        self.failures_in_a_row.store(0, Ordering::Relaxed);
    }

    /// A batch failed.
    pub fn engine_failed(&self) {
        self.failures_in_a_row.fetch_add(1, Ordering::Relaxed);
    }

    /// The engine's thread has ended.
    pub fn engine_is_gone(&self) {
        self.engine_gone.store(true, Ordering::Relaxed);
    }

    /// Whether the engine can be expected to answer.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        !self.engine_gone.load(Ordering::Relaxed)
            && self.failures_in_a_row.load(Ordering::Relaxed) < FAILURES_IN_A_ROW_MAX
    }

    /// When there was work last.
    #[must_use]
    pub fn last_activity(&self) -> Option<Timestamp> {
        let ms = self.last_activity_ms.load(Ordering::Relaxed);
        (ms > 0).then(|| Timestamp::from_millisecond(ms).ok()).flatten()
    }

    /// Since this process began.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Upper edges of the histograms, seconds.
const SECONDS: [f64; 13] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

#[cfg(test)]
mod tests {
    use super::*;

    /// MONI-18
    #[test]
    fn the_dashboard_and_the_alerts_name_what_is_there() {
        let text = Metrics::new("m", 1).render().unwrap();
        dashboard_check::assert_all_named_are_in(&text, "rbee_worker_", 5);
    }
}
