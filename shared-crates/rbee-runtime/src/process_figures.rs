//! What this process itself uses, for `/metrics`, under the names that every Prometheus client gives these figures.

use std::fmt;
use std::fs;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

/// Has `process_…` in `/metrics`; `registry` must have no prefix.
pub fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(ProcessFigures));
}

#[derive(Debug)]
struct ProcessFigures;

impl Collector for ProcessFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(seen) = look() else { return Ok(()) };
        let cpu = ConstCounter::new(seen.cpu_s);
        let help = "Processor time used, user and system";
        cpu.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, cpu.metric_type())?)?;
        for (name, help, number) in [
            ("process_resident_memory_bytes", "Resident memory", seen.rss_bytes as f64),
            ("process_threads", "Threads", seen.threads as f64),
            ("process_open_fds", "Open files", seen.fds as f64),
            ("process_start_time_seconds", "Start of the process, as Unix time", seen.started_s),
        ] {
            let gauge = ConstGauge::new(number);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        Ok(())
    }
}

struct Seen {
    cpu_s: f64,
    rss_bytes: u64,
    threads: u64,
    fds: u64,
    started_s: f64,
}

fn look() -> Option<Seen> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    // The first one here is field 3 of proc_pid_stat(5).
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let ticks_per_s = rustix::param::clock_ticks_per_second() as f64;
    let page_bytes = u64::try_from(rustix::param::page_size()).ok()?;
    Some(Seen {
        cpu_s: (number(14)? + number(15)?) as f64 / ticks_per_s,
        threads: number(20)?,
        rss_bytes: number(24)? * page_bytes,
        fds: fs::read_dir("/proc/self/fd").ok()?.count() as u64,
        started_s: started_s(number(22)? as f64 / ticks_per_s)?,
    })
}

/// Told once: a clock that is put right later moves no start.
fn started_s(after_boot_s: f64) -> Option<f64> {
    static STARTED: OnceLock<Option<f64>> = OnceLock::new();
    *STARTED.get_or_init(|| {
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let uptime_s: f64 = uptime.split_whitespace().next()?.parse().ok()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs_f64();
        Some(now - uptime_s + after_boot_s)
    })
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    /// MONI-13
    #[test]
    fn this_process_has_figures() {
        let mut registry = Registry::default();
        register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).expect(name);
            line.parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 100_000.0 && value("process_open_fds") >= 3.0, "{text}");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        assert!((now - value("process_start_time_seconds")).abs() < 3600.0 && value("process_threads") >= 1.0);
        assert!(value("process_cpu_seconds_total") >= 0.0);
    }
}
