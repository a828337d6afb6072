//! What happened, counted for `/metrics`: events by kind, restarts by cause, failed health probes.
//!
//! ```text
//!   up ──stopping, restarting──▶ fell, for a cause ──starting──▶ a restart of that cause
//!                                        └──stopped, failed──▶ nothing to count
//! ```

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use rbee_api::EventKind;

use crate::History;
use crate::journal::NewEvent;

/// Daemons told apart; of more only their events count.
const DAEMONS_MAX: usize = 16_384;

type Labels = Vec<(&'static str, String)>;

/// Counts from the start of the process on; clones share them.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    events: Family<Labels, Counter>,
    restarts: Family<Labels, Counter>,
    health_failures: Family<Labels, Counter>,
    fell: Arc<Mutex<HashMap<String, Option<&'static str>>>>,
}

impl Counts {
    /// Has them in `/metrics`, below the registry's prefix.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("events", "What happened, by kind", self.events.clone());
        registry.register("restarts", "Starts again after a fall, by cause", self.restarts.clone());
        registry.register("health_failures", "Health probes that failed", self.health_failures.clone());
    }

    /// Counts an event.
    pub fn see(&self, event: &NewEvent) {
        self.events.get_or_create(&vec![("kind", event.kind.to_string())]).inc();
        let cause = event.cause.as_deref().unwrap_or_default();
        let key = match &event.hive {
            Some(hive) => format!("{hive}:{}", event.daemon),
            None => event.daemon.clone(),
        };
        let mut fell = self.fell.lock().unwrap_or_else(PoisonError::into_inner);
        let fell_for = match event.kind {
            EventKind::Stopping | EventKind::Restarting => {
                let known = fell.get(&key).copied().flatten();
                Some(known.unwrap_or_else(|| class_of(cause)))
            }
            EventKind::Starting => {
                if let Some(class) = fell.get(&key).copied().flatten() {
                    let mut labels = labels(event);
                    labels.push(("cause", class.to_owned()));
                    self.restarts.get_or_create(&labels).inc();
                }
                None
            }
            EventKind::Running | EventKind::Stopped | EventKind::Failed | EventKind::Unavailable => None,
            EventKind::HealthFailed => {
                self.health_failures.get_or_create(&labels(event)).inc();
                return;
            }
            _ => return,
        };
        if fell.len() < DAEMONS_MAX || fell.contains_key(&key) {
            fell.insert(key, fell_for);
        }
    }
}

fn labels(event: &NewEvent) -> Labels {
    match (event.daemon.split_once('/'), &event.hive) {
        (Some((worker, replica)), _) => vec![("worker", worker.to_owned()), ("replica", replica.to_owned())],
        (None, Some(hive)) => vec![("hive", hive.clone())],
        (None, None) => vec![("daemon", event.daemon.clone())],
    }
}

/// A word for each kind of cause: what a label may be, where the cause itself is a sentence.
fn class_of(cause: &str) -> &'static str {
    const CLASSES: [(&str, &str); 17] = [
        ("asked for", "order"),
        ("its configuration changed", "configuration"),
        ("ended with code", "exit"),
        ("ended with signal", "signal"),
        ("ended for want of memory", "out-of-memory"),
        ("ended with", "exit"),
        ("not ready within", "start-timeout"),
        ("reload not done", "reload-timeout"),
        ("unhealthy", "health"),
        ("too busy", "health"),
        ("no sign of life", "watchdog"),
        ("could not be started", "spawn"),
        ("its dependency", "dependency"),
        ("taken over", "adopted"),
        ("stopped with", "order"),
        ("the hive was asked to end", "order"),
        ("it was asked", "order"),
    ];
    if cause.starts_with("used ") || cause.starts_with("had ") {
        return if cause.contains("of memory") { "memory" } else { "threshold" };
    }
    if cause.contains("memory") && cause.starts_with("ended") {
        return "out-of-memory";
    }
    CLASSES.iter().find(|(begin, _)| cause.starts_with(begin)).map_or("other", |(_, class)| class)
}

/// How the history is, for `/metrics`.
pub struct HistoryFigures {
    /// The history.
    pub history: History,
    /// Samples taken since the start.
    pub samples: Arc<std::sync::atomic::AtomicU64>,
}

impl fmt::Debug for HistoryFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HistoryFigures")
    }
}

impl Collector for HistoryFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let samples = self.samples.load(std::sync::atomic::Ordering::Relaxed);
        for (name, help, count) in [
            ("samples", "Samples of daemons taken", samples),
            ("history_lost", "Writes of the history that were given up", self.history.lost()),
        ] {
            let counter = ConstCounter::new(count);
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        let is_in_trouble = i64::from(self.history.trouble().is_some());
        let waiting = i64::try_from(self.history.waiting()).unwrap_or(i64::MAX);
        for (name, help, number) in [
            ("history_trouble", "1 while the history cannot be written", is_in_trouble),
            ("history_waiting", "Writes of the history that wait in memory", waiting),
        ] {
            let gauge = ConstGauge::new(number);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use supervision::{Cause, Excess, ExitHow, Resource, UnitName};

    use super::*;

    /// MONI-13: the words of the core are the ones that are known here.
    #[test]
    fn every_cause_has_a_word_for_its_label() {
        let excess = |resource| Excess { resource, used: 2 << 20, limit: 1 << 20, for_ms: 0 };
        let dependency = UnitName::new("a.0");
        for (cause, class) in [
            (Cause::Requested, "order"),
            (Cause::SpecChanged, "configuration"),
            (Cause::Exited(ExitHow::Code(1)), "exit"),
            (Cause::Exited(ExitHow::Signal(9)), "signal"),
            (Cause::Exited(ExitHow::OutOfMemory), "out-of-memory"),
            (Cause::StartTimedOut { after_ms: 1 }, "start-timeout"),
            (Cause::ReloadTimedOut { after_ms: 1 }, "reload-timeout"),
            (Cause::Unhealthy { reason: "used up".into() }, "health"),
            (Cause::Hung { busy_probes: 3 }, "health"),
            (Cause::WatchdogMissed { timeout_ms: 1 }, "watchdog"),
            (Cause::MemoryHigh { bytes: 2, limit: 1 }, "memory"),
            (Cause::OverThreshold(excess(Resource::Memory)), "memory"),
            (Cause::OverThreshold(excess(Resource::Cpu)), "threshold"),
            (Cause::OverThreshold(excess(Resource::OpenFiles)), "threshold"),
            (Cause::SpawnFailed { reason: String::new() }, "spawn"),
            (Cause::DependencyLost { dependency }, "dependency"),
            (Cause::Stopped(ExitHow::Code(0)), "order"),
        ] {
            assert_eq!(class_of(&cause.to_string()), class, "{cause}");
        }
        assert_eq!(class_of(""), "other");
    }

    /// MONI-13
    #[test]
    fn a_restart_counts_once_with_what_it_began_with() {
        let counts = Counts::default();
        let see = |kind, cause: &str| counts.see(&NewEvent::now("w/0", kind).with_cause(cause));
        use EventKind::{HealthFailed, Restarting, Running, Starting, Stopped, Stopping};
        see(Starting, "asked for");
        see(Running, "ready");
        see(HealthFailed, "no answer");
        see(Stopping, "unhealthy: no answer");
        see(Restarting, "ended with signal 15");
        see(Starting, "back-off over");
        see(Running, "ready");
        // A deliberate stop and a start later on is none.
        see(Stopping, "asked for");
        see(Stopped, "stopped with code 0");
        see(Starting, "asked for");
        let mut registry = Registry::with_prefix("t");
        counts.register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "t_restarts_total{worker=\"w\",replica=\"0\",cause=\"health\"} 1",
            "t_health_failures_total{worker=\"w\",replica=\"0\"} 1",
            "t_events_total{kind=\"starting\"} 3",
        ] {
            assert!(text.lines().any(|seen| seen == line), "{line} is not in\n{text}");
        }
        assert_eq!(text.matches("t_restarts_total{").count(), 1, "{text}");
    }
}
