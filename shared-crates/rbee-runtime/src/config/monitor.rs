//! `[monitor]` and `thresholds = { … }`: what is watched of the daemons, and how much of it is kept.

use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::document::Document;
use super::schema::Config;
use super::values::duration;

/// The bound of a history below which it would be little more than its own tables.
const SIZE_MIN: ByteSize = ByteSize::mib(2);
const SIZE_MAX: ByteSize = ByteSize::gib(64);
/// Samples more often than this would be felt.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
const EVENTS_MAX: u64 = 10_000_000;

/// `[monitor]`: samples of the daemons, and the history of samples, events and requests; one file for each of queen and
/// hive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MonitorConfig {
    /// Whether samples are taken and kept; thresholds need them. Events are kept in any case. Default true.
    pub enabled: bool,
    /// Time between samples. Default 15 s.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// How long single samples are kept; after that the averages and peaks of their hours. Default 1 day.
    #[serde(with = "duration")]
    pub keep_fine: Duration,
    /// How long the hours are kept. Default 90 days.
    #[serde(with = "duration")]
    pub keep_hourly: Duration,
    /// Largest size of the history's file; the oldest goes before it gets any larger. Default 64 MiB.
    pub max_size: ByteSize,
    /// Events kept. Default 20000.
    pub events_max: u64,
}

impl Default for MonitorConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            interval: Duration::from_secs(15),
            keep_fine: Duration::from_secs(24 * 3600),
            keep_hourly: Duration::from_secs(90 * 24 * 3600),
            max_size: ByteSize::mib(64),
            events_max: 20_000,
        }
    }
}

/// Records what makes no sense.
pub(super) fn check(config: &Config, document: &mut Document<'_>) {
    let monitor = &config.monitor;
    if monitor.interval < INTERVAL_MIN {
        document.problem("monitor.interval", "`monitor.interval` must be at least 100ms", None);
    }
    if monitor.keep_fine < monitor.interval {
        document.problem("monitor.keep_fine", "`monitor.keep_fine` is below `monitor.interval`", None);
    }
    if monitor.keep_hourly < monitor.keep_fine {
        document.problem("monitor.keep_hourly", "`monitor.keep_hourly` is below `monitor.keep_fine`", None);
    }
    if !(SIZE_MIN..=SIZE_MAX).contains(&monitor.max_size) {
        let message = format!("`monitor.max_size` must be {SIZE_MIN} to {SIZE_MAX}, not {}", monitor.max_size);
        document.problem("monitor.max_size", message, None);
    }
    if !(1..=EVENTS_MAX).contains(&monitor.events_max) {
        let message = format!("`monitor.events_max` must be 1 to {EVENTS_MAX}, not {}", monitor.events_max);
        document.problem("monitor.events_max", message, None);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn problems(text: &str) -> Vec<String> {
        match Config::parse(text, Path::new("rbee.toml")) {
            Ok(_) => Vec::new(),
            Err(crate::config::ConfigError::Invalid { problems, .. }) => {
                problems.into_iter().map(|problem| problem.message).collect()
            }
            Err(error) => vec![error.to_string()],
        }
    }

    #[test]
    fn what_is_kept_has_bounds_that_make_sense() {
        assert_eq!(problems(""), Vec::<String>::new());
        assert_eq!(problems("[monitor]\nmax_size = \"2MiB\"\ninterval = \"100ms\""), Vec::<String>::new());
        for (text, expected) in [
            ("interval = \"99ms\"", "at least 100ms"),
            ("keep_fine = \"1s\"", "below `monitor.interval`"),
            ("keep_hourly = \"1h\"", "below `monitor.keep_fine`"),
            ("max_size = \"1MiB\"", "must be 2.0 MiB to"),
            ("events_max = 0", "must be 1 to"),
            ("evry = 1", "evry"),
        ] {
            let found = problems(&format!("[monitor]\n{text}\n"));
            assert!(found.len() == 1 && found[0].contains(expected), "{text}: {found:?}");
        }
    }
}
