//! What a hive is: its program, arguments, socket, files and policy, as `daemon-lifecycle` wants them.
//!
//! Thin by intention: nothing here starts, probes or signals a process. Two parents use it: queen, who
//! supervises hives ([`unit()`]), and keeper, who starts the one hive of a machine without a queen ([`manager`]).

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use daemon_lifecycle::{
    DaemonConfig, DaemonManager, HealthProbe, Launch, Probe, Readiness, Restart, Spec, SupervisorConfig, UnitSpec,
};
use rbee_runtime::binaries;
use rbee_runtime::config::Config;
use rbee_runtime::dirs::Dirs;

/// Name of the hive's program.
pub const BINARY: &str = "rbee-hive";
/// How long it may take to adopt its workers and listen.
pub const STARTUP_TIMEOUT: Duration = Duration::from_secs(30);
/// Restarts in an hour before queen gives up: more than for a worker, since every worker here hangs on it.
const RESTARTS_MAX: u32 = 60;

/// Where queen keeps the files of the hives she supervises.
#[must_use]
pub fn supervisor_config(dirs: &Dirs) -> SupervisorConfig {
    SupervisorConfig::new(dirs.hives_run_dir(), dirs.hives_log_dir())
}

/// This machine's hive as a unit of queen's supervisor, named as the hive is.
///
/// `queen_url`: where the hive finds her, with the real port.
#[must_use]
pub fn unit(config: &Config, config_file: Option<&Path>, queen_url: &str) -> UnitSpec {
    let launch = Launch::new(binaries::locate(BINARY), args(config_file, Some(queen_url)));
    let mut health = HealthProbe::new(Probe::Http { address: None, path: "/health".to_owned() });
    health.timeout = Duration::from_secs(10);
    UnitSpec {
        listen: Some(config.hive.listen),
        readiness: Readiness::Notify,
        health: Some(health),
        policy: Spec {
            start_timeout_ms: millis(STARTUP_TIMEOUT),
            stop_timeout_ms: millis(shutdown_timeout(config)),
            restart: Restart { restarts_max: RESTARTS_MAX, ..Restart::default() },
            ..Spec::default()
        },
        ..UnitSpec::new(&config.hive.name, launch)
    }
}

/// The manager of this machine's hive, for a machine that runs no queen of its own.
#[must_use]
pub fn manager(dirs: &Dirs, config: &Config, config_file: Option<&Path>) -> DaemonManager {
    let daemon = DaemonConfig {
        binary_path: binaries::locate(BINARY),
        args: args(config_file, None),
        pid_file: dirs.hive_pid_file(&config.hive.name),
        working_dir: None,
        env: HashMap::new(),
        startup_timeout_secs: STARTUP_TIMEOUT.as_secs(),
        shutdown_timeout_secs: shutdown_timeout(config).as_secs(),
    };
    DaemonManager::new(daemon)
        .with_listen(config.hive.listen)
        .with_readiness(Readiness::Notify)
        .with_log_file(dirs.hives_log_dir().join(format!("{}.log", config.hive.name)))
}

/// How long a deliberate stop may take: requests are drained, then all workers are stopped side by side.
#[must_use]
pub fn shutdown_timeout(config: &Config) -> Duration {
    let slowest_worker = config.worker.values().map(|worker| worker.stop_timeout).max().unwrap_or_default();
    config.hive.drain_timeout + slowest_worker + Duration::from_secs(10)
}

fn args(config_file: Option<&Path>, queen_url: Option<&str>) -> Vec<String> {
    let mut args = vec!["run".to_owned()];
    if let Some(file) = config_file {
        args.extend(["--config".to_owned(), file.to_string_lossy().into_owned()]);
    }
    if let Some(url) = queen_url {
        args.extend(["--queen".to_owned(), url.to_owned()]);
    }
    args
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queen_tells_the_hive_where_she_is() {
        let config = Config::default();
        let unit = unit(&config, Some(Path::new("/etc/rbee.toml")), "http://127.0.0.1:9");
        assert_eq!(unit.name, "local");
        assert_eq!(unit.launch.args, ["run", "--config", "/etc/rbee.toml", "--queen", "http://127.0.0.1:9"]);
        assert_eq!(unit.listen, Some(config.hive.listen));
        assert_eq!(unit.policy.validate(), Ok(()));
    }

    #[test]
    fn the_slowest_worker_sets_the_time_to_stop() {
        let quick = Config::default();
        let text = "[worker.a]\ncommand = [\"x\"]\nstop_timeout = \"2m\"\n";
        let slow = Config::parse(text, Path::new("rbee.toml")).unwrap();
        assert_eq!(shutdown_timeout(&slow) - shutdown_timeout(&quick), Duration::from_secs(120));
    }
}
