//! `[monitor]` and `thresholds = { … }`: what is watched of the daemons, and how much of it is kept.

use std::time::Duration;

use bytesize::ByteSize;
use rbee_api::assignment::ThresholdsSpec;
use serde::{Deserialize, Serialize};

use super::document::Document;
use super::restart::{RestartConfig, RestartPolicy};
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
    /// How `rbee-keeper monitor` guards queen, or the hive of a machine without a queen.
    pub guard: GuardConfig,
}

/// `guard = { … }`: what `rbee-keeper monitor` does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuardConfig {
    /// Time between questions whether she is well. Default 30 s.
    #[serde(with = "duration")]
    pub interval: Duration,
    /// How long an answer may take. Default 5 s.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// Questions in a row without an answer until she is ended and started again. Default 3.
    pub failures: u32,
    /// When she is started again after she ended by herself. `policy` may be `always` or `never`.
    pub restart: RestartConfig,
}

impl Default for GuardConfig {
    fn default() -> Self {
        let (interval, timeout) = (Duration::from_secs(30), Duration::from_secs(5));
        Self { interval, timeout, failures: 3, restart: RestartConfig::default() }
    }
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
            guard: GuardConfig::default(),
        }
    }
}

/// `thresholds = { … }`: what a worker may use before somebody is told, or it is restarted; absent keys are not looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ThresholdsConfig {
    /// Percent of one core, of all its processes together; 250 is two and a half cores.
    pub cpu_percent: Option<u64>,
    /// Resident memory of all its processes.
    pub memory: Option<ByteSize>,
    /// Open files of all its processes.
    pub fds: Option<u64>,
    /// How long it must be above in every sample. Default 1 min.
    #[serde(rename = "for", with = "duration")]
    pub lasting: Duration,
    /// What is done then. Default `warn`.
    pub action: ThresholdAction,
}

impl Default for ThresholdsConfig {
    fn default() -> Self {
        let (cpu_percent, memory, fds) = (None, None, None);
        Self { cpu_percent, memory, fds, lasting: Duration::from_secs(60), action: ThresholdAction::Warn }
    }
}

/// What is done about a worker above a threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ThresholdAction {
    /// It is told, as a `threshold` event.
    Warn,
    /// It is told, and the worker is restarted.
    Restart,
}

impl ThresholdsConfig {
    pub(super) fn to_spec(&self) -> ThresholdsSpec {
        ThresholdsSpec {
            cpu_percent: self.cpu_percent,
            memory_bytes: self.memory.map(|size| size.as_u64()),
            fds: self.fds,
            for_ms: u64::try_from(self.lasting.as_millis()).unwrap_or(u64::MAX),
            restarts: self.action == ThresholdAction::Restart,
        }
    }
}

/// Records what makes no sense in the thresholds of the worker at `key`.
pub(super) fn check_thresholds(thresholds: &ThresholdsConfig, key: &str, document: &mut Document<'_>) {
    let ThresholdsConfig { cpu_percent, memory, fds, .. } = thresholds;
    let numbers = [("cpu_percent", *cpu_percent), ("memory", memory.map(|size| size.as_u64())), ("fds", *fds)];
    if numbers.iter().all(|(_, number)| number.is_none()) {
        let hint = Some("give it `cpu_percent`, `memory` or `fds`".to_owned());
        document.problem(key, format!("`{key}` looks at nothing"), hint);
    }
    for (field, _) in numbers.into_iter().filter(|(_, number)| *number == Some(0)) {
        let key = format!("{key}.{field}");
        document.problem(&key, format!("`{key}` must not be 0: it would always be above"), None);
    }
}

fn check_guard(guard: &GuardConfig, document: &mut Document<'_>) {
    for (field, value) in [
        ("interval", guard.interval),
        ("timeout", guard.timeout),
        ("restart.backoff_max", guard.restart.backoff_max),
        ("restart.within", guard.restart.within),
        ("restart.reset_after", guard.restart.reset_after),
    ] {
        if value.is_zero() {
            let key = format!("monitor.guard.{field}");
            document.problem(&key, format!("`{key}` must not be 0"), None);
        }
    }
    if guard.restart.backoff_min > guard.restart.backoff_max {
        let message = "`backoff_min` of `monitor.guard.restart` is above `backoff_max`";
        document.problem("monitor.guard.restart.backoff_min", message, None);
    }
    if guard.restart.policy == RestartPolicy::OnFailure {
        let message =
            "`monitor.guard.restart.policy` is `always` or `never`: how a daemon ended is its parent's to know";
        document.problem("monitor.guard.restart.policy", message, None);
    }
    if !(1..=1000).contains(&guard.failures) {
        let message = format!("`monitor.guard.failures` must be 1 to 1000, not {}", guard.failures);
        document.problem("monitor.guard.failures", message, None);
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
    check_guard(&monitor.guard, document);
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
            ("guard = { failures = 0 }", "must be 1 to"),
            ("guard = { interval = \"0s\" }", "must not be 0"),
            ("guard = { restart = { policy = \"on-failure\" } }", "`always` or `never`"),
            ("evry = 1", "evry"),
        ] {
            let found = problems(&format!("[monitor]\n{text}\n"));
            assert!(found.len() == 1 && found[0].contains(expected), "{text}: {found:?}");
        }
    }

    fn worker(thresholds: &str) -> String {
        format!("[worker.w]\ncommand = [\"x\"]\nthresholds = {{ {thresholds} }}\n")
    }

    /// MONI-10
    #[test]
    fn thresholds_say_what_they_look_at_and_are_told_in_full() {
        for (text, expected) in [
            ("", "looks at nothing"),
            ("for = \"1m\", action = \"restart\"", "looks at nothing"),
            ("fds = 0", "must not be 0"),
            ("memory = \"1GiB\", action = \"kill\"", "kill"),
            ("fds = 1, cpu = 5", "cpu"),
        ] {
            let found = problems(&worker(text));
            assert!(found.len() == 1 && found[0].contains(expected), "{text}: {found:?}");
        }
        let text = worker("cpu_percent = 90, memory = \"1MiB\", fds = 7, for = \"2s\", action = \"restart\"");
        let config = Config::parse(&text, Path::new("rbee.toml")).unwrap();
        let (cpu_percent, memory_bytes, fds) = (Some(90), Some(1 << 20), Some(7));
        let expected = ThresholdsSpec { cpu_percent, memory_bytes, fds, for_ms: 2000, restarts: true };
        assert_eq!(config.worker["w"].to_spec().thresholds, Some(expected));
        assert!(config.not_in_force().is_empty());
        // Without samples nobody looks.
        let config = Config::parse(&format!("[monitor]\nenabled = false\n{text}"), Path::new("rbee.toml")).unwrap();
        let keys: Vec<String> = config.not_in_force().into_iter().map(|found| found.key).collect();
        assert_eq!(keys, ["worker.w.thresholds"]);
    }
}
