//! `/metrics`: what `status` says and what has happened, for Prometheus.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use monitoring::{Counts, HistoryFigures};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use rbee_api::{ApiError, ErrorCode, HiveStatus, Phase, WorkerStatus};
use rbee_runtime::http::HttpError;
use rbee_runtime::process_figures;

use super::Api;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;
type Numbers = Family<Labels, Gauge>;
type Fractions = Family<Labels, Gauge<f64, AtomicU64>>;

/// A number of each worker, where it is known.
type Figure = (&'static str, &'static str, Option<Unit>, fn(&WorkerStatus) -> Option<u64>);

const FIGURES: [Figure; 10] = [
    ("worker_up", "1 where the worker is ready", None, |worker| Some(u64::from(worker.phase == Phase::Running))),
    ("worker_incarnation", "Number of the present run", None, |worker| Some(worker.incarnation)),
    ("worker_memory", "Resident memory", Some(Unit::Bytes), |worker| Some(worker.rss_bytes)),
    ("worker_proportional_memory", "Memory, with shared pages in part", Some(Unit::Bytes), |worker| {
        worker.usage.as_ref()?.figures.pss_bytes
    }),
    ("worker_gpu_memory", "Memory of graphics cards", Some(Unit::Bytes), |worker| {
        worker.usage.as_ref()?.figures.gpu_bytes
    }),
    ("worker_disk", "What logs and state take", Some(Unit::Bytes), |worker| {
        Some(worker.usage.as_ref()?.figures.disk_bytes)
    }),
    ("worker_open_fds", "Open files", None, |worker| worker.usage.as_ref()?.figures.fds),
    ("worker_threads", "Threads", None, |worker| Some(worker.usage.as_ref()?.figures.threads)),
    ("worker_processes", "Processes", None, |worker| Some(worker.usage.as_ref()?.processes)),
    ("worker_healthy", "1 where the last health probe found nothing wrong", None, |worker| {
        Some(u64::from(worker.health.as_ref()?.healthy))
    }),
];

/// As [`Figure`], of what only grows within a run.
const COUNTERS: [Figure; 2] = [
    ("worker_read", "Read from disks in the present run", Some(Unit::Bytes), |worker| {
        worker.usage.as_ref()?.figures.read_bytes
    }),
    ("worker_written", "Written to disks in the present run", Some(Unit::Bytes), |worker| {
        worker.usage.as_ref()?.figures.written_bytes
    }),
];

pub(super) async fn metrics(State(api): State<Arc<Api>>) -> Result<Response, HttpError> {
    let text = render(&api)
        .map_err(|error| ApiError::new(ErrorCode::Internal, format!("metrics cannot be written: {error}")))?;
    Ok(([(CONTENT_TYPE, OPEN_METRICS)], text).into_response())
}

fn render(api: &Api) -> Result<String, std::fmt::Error> {
    let figures = HistoryFigures { history: api.history.clone(), samples: Arc::clone(&api.samples) };
    text(&api.hive_status(), api.events.journal().counts(), figures)
}

fn text(hive: &HiveStatus, counts: &Counts, figures: HistoryFigures) -> Result<String, std::fmt::Error> {
    let mut root = Registry::default();
    process_figures::register(&mut root);
    let registry = root.sub_registry_with_prefix("rbee_hive");
    counts.register(registry);
    registry.register_collector(Box::new(figures));
    present(hive, registry);
    let mut text = String::new();
    encode(&mut text, &root)?;
    Ok(text)
}

/// Made anew for each scrape: the status is the truth, and a worker that is gone leaves no series behind.
fn present(hive: &HiveStatus, registry: &mut Registry) {
    let labels = |worker: &WorkerStatus| vec![("worker", worker.name.clone()), ("replica", worker.replica.to_string())];
    for (name, help, unit, figure) in FIGURES {
        let family = Numbers::default();
        for (worker, number) in hive.workers.iter().filter_map(|worker| Some((worker, figure(worker)?))) {
            family.get_or_create(&labels(worker)).set(saturating(number));
        }
        match unit {
            Some(unit) => registry.register_with_unit(name, help, unit, family),
            None => registry.register(name, help, family),
        }
    }
    for (name, help, unit, figure) in COUNTERS {
        let family = Family::<Labels, Counter>::default();
        for (worker, number) in hive.workers.iter().filter_map(|worker| Some((worker, figure(worker)?))) {
            family.get_or_create(&labels(worker)).inc_by(number);
        }
        registry.register_with_unit(name, help, unit.unwrap_or(Unit::Bytes), family);
    }
    let (phases, recent) = (Numbers::default(), Numbers::default());
    let (cpu, uptime) = (Fractions::default(), Fractions::default());
    for worker in &hive.workers {
        recent.get_or_create(&labels(worker)).set(i64::from(worker.restarts));
        cpu.get_or_create(&labels(worker)).set(worker.cpu_percent / 100.0);
        uptime.get_or_create(&labels(worker)).set(worker.uptime_s);
        phases.get_or_create(&vec![("phase", worker.phase.to_string())]).inc();
    }
    let hive_uptime = Gauge::<f64, AtomicU64>::default();
    hive_uptime.set(hive.uptime_s);
    registry.register("workers", "Workers by phase", phases);
    registry.register("worker_restarts", "Restarts since the count was last reset", recent);
    registry.register("worker_cpu_cores", "Cores in use since the sample before", cpu);
    registry.register_with_unit("worker_uptime", "Time since this run started", Unit::Seconds, uptime);
    registry.register_with_unit("uptime", "Time since the hive started", Unit::Seconds, hive_uptime);
}

fn saturating(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use monitoring::{Bounds, History, NewEvent};
    use rbee_api::{EventKind, Figures, Health, ProcessUsage};

    use super::*;
    use crate::view::tests::status;

    fn hive(worker: WorkerStatus) -> HiveStatus {
        HiveStatus {
            name: "h".into(),
            phase: Phase::Running,
            pid: None,
            url: String::new(),
            generation: 1,
            uptime_s: 1.5,
            restarts: 0,
            reason: None,
            usage: None,
            history_trouble: None,
            workers: vec![worker],
        }
    }

    #[test]
    fn every_worker_has_its_series() {
        let mut worker = status(None);
        worker.phase = Phase::Running;
        worker.rss_bytes = 7;
        let mut registry = Registry::with_prefix("rbee_hive");
        present(&hive(worker), &mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        for line in [
            "rbee_hive_workers{phase=\"running\"} 1",
            "rbee_hive_worker_up{worker=\"w\",replica=\"0\"} 1",
            "rbee_hive_worker_memory_bytes{worker=\"w\",replica=\"0\"} 7",
            "rbee_hive_uptime_seconds 1.5",
        ] {
            assert!(text.lines().any(|seen| seen == line), "{line} is not in\n{text}");
        }
        // What is not known is not said to be 0.
        assert!(!text.contains("worker_open_fds{"), "{text}");
    }

    /// MONI-18
    #[test]
    fn the_dashboard_and_the_alerts_name_what_is_there() {
        let mut worker = status(None);
        worker.usage = Some(ProcessUsage {
            at: jiff::Timestamp::now(),
            processes: 1,
            figures: Figures {
                cpu_percent: 1.0,
                rss_bytes: 1,
                pss_bytes: Some(1),
                fds: Some(1),
                threads: 1,
                read_bytes: Some(1),
                written_bytes: Some(1),
                disk_bytes: 1,
                gpu_bytes: Some(1),
            },
        });
        let healthy = (true, None, 0, 0, None);
        let (healthy, last_activity, queue_depth, error_count, cache_hit_rate) = healthy;
        worker.health = Some(Health { healthy, last_activity, queue_depth, error_count, cache_hit_rate });
        let counts = Counts::default();
        for kind in [EventKind::HealthFailed, EventKind::Restarting, EventKind::Starting] {
            counts.see(&NewEvent::now("w/0", kind));
        }
        let dir = tempfile::tempdir().unwrap();
        let history = History::open(&dir.path().join("h.sqlite"), &Bounds::default()).history;
        let text = text(&hive(worker), &counts, HistoryFigures { history, samples: Arc::default() }).unwrap();
        dashboard_check::assert_all_named_are_in(&text, "rbee_hive_", 15);
    }
}
