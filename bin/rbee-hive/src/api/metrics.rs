//! `/metrics`: what `status` says, for Prometheus.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use rbee_api::{ApiError, ErrorCode, HiveStatus, Phase};
use rbee_runtime::http::HttpError;

use super::Api;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, String)>;
type Numbers = Family<Labels, Gauge>;
type Fractions = Family<Labels, Gauge<f64, AtomicU64>>;

pub(super) async fn metrics(State(api): State<Arc<Api>>) -> Result<Response, HttpError> {
    let text = render(&api.hive_status())
        .map_err(|error| ApiError::new(ErrorCode::Internal, format!("metrics cannot be written: {error}")))?;
    Ok(([(CONTENT_TYPE, OPEN_METRICS)], text).into_response())
}

/// Made anew for each scrape: the status is the truth, and a worker that is gone leaves no series behind.
fn render(hive: &HiveStatus) -> Result<String, std::fmt::Error> {
    let mut registry = Registry::with_prefix("rbee_hive");
    let (up, phases, restarts, incarnations, memory) =
        (Numbers::default(), Numbers::default(), Numbers::default(), Numbers::default(), Numbers::default());
    let (cpu, uptime) = (Fractions::default(), Fractions::default());
    for worker in &hive.workers {
        let labels: Labels = vec![("worker", worker.name.clone()), ("replica", worker.replica.to_string())];
        up.get_or_create(&labels).set(i64::from(worker.phase == Phase::Running));
        restarts.get_or_create(&labels).set(i64::from(worker.restarts));
        incarnations.get_or_create(&labels).set(saturating(worker.incarnation));
        memory.get_or_create(&labels).set(saturating(worker.rss_bytes));
        cpu.get_or_create(&labels).set(worker.cpu_percent / 100.0);
        uptime.get_or_create(&labels).set(worker.uptime_s);
        let phase = vec![("phase", worker.phase.to_string())];
        phases.get_or_create(&phase).inc();
    }
    let hive_uptime = Gauge::<f64, AtomicU64>::default();
    hive_uptime.set(hive.uptime_s);
    registry.register("workers", "Workers by phase", phases);
    registry.register("worker_up", "1 where the worker is ready", up);
    registry.register("worker_restarts", "Restarts since the count was last reset", restarts);
    registry.register("worker_incarnation", "Number of the present run", incarnations);
    registry.register_with_unit("worker_memory", "Resident memory", Unit::Bytes, memory);
    registry.register("worker_cpu_cores", "Cores in use since the sample before", cpu);
    registry.register_with_unit("worker_uptime", "Time since this run started", Unit::Seconds, uptime);
    registry.register_with_unit("uptime", "Time since the hive started", Unit::Seconds, hive_uptime);
    let mut text = String::new();
    encode(&mut text, &registry)?;
    Ok(text)
}

fn saturating(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::tests::status;

    #[test]
    fn every_worker_has_its_series() {
        let mut worker = status(None);
        worker.phase = Phase::Running;
        worker.rss_bytes = 7;
        let hive = HiveStatus {
            usage: None,
            history_trouble: None,
            name: "h".into(),
            phase: Phase::Running,
            pid: None,
            url: String::new(),
            generation: 1,
            uptime_s: 1.5,
            restarts: 0,
            reason: None,
            workers: vec![worker],
        };
        let text = render(&hive).unwrap();
        for line in [
            "rbee_hive_workers{phase=\"running\"} 1",
            "rbee_hive_worker_up{worker=\"w\",replica=\"0\"} 1",
            "rbee_hive_worker_memory_bytes{worker=\"w\",replica=\"0\"} 7",
            "rbee_hive_uptime_seconds 1.5",
        ] {
            assert!(text.lines().any(|seen| seen == line), "{line} is not in\n{text}");
        }
    }
}
