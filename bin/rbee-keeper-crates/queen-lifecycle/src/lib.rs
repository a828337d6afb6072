//! What a queen is: her program, arguments, socket, files and patience, as `daemon-lifecycle` wants them.
//!
//! Thin by intention: nothing here starts, probes or signals a process.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use daemon_lifecycle::{DaemonConfig, DaemonManager, Readiness};
use rbee_runtime::binaries;
use rbee_runtime::config::Config;
use rbee_runtime::dirs::Dirs;

/// Name of queen's program.
pub const BINARY: &str = "queen-rbee";
/// How long she may take to open her store and listen.
pub const STARTUP_TIMEOUT: Duration = Duration::from_secs(30);

/// The manager of this machine's queen.
///
/// `config_file`: the file she reads; absent, she finds it as we do. Nothing is touched yet.
#[must_use]
pub fn manager(dirs: &Dirs, config: &Config, config_file: Option<&Path>) -> DaemonManager {
    DaemonManager::new(daemon_config(dirs, config, config_file))
        .with_listen(config.queen.listen)
        .with_readiness(Readiness::Notify)
        .with_log_file(dirs.queen_log_file())
}

/// How long her deliberate stop may take: she drains, then stops hives, which drain and stop workers.
#[must_use]
pub fn shutdown_timeout(config: &Config) -> Duration {
    config.queen.drain_timeout + hive_lifecycle::shutdown_timeout(config) + Duration::from_secs(5)
}

fn daemon_config(dirs: &Dirs, config: &Config, config_file: Option<&Path>) -> DaemonConfig {
    let mut args = vec!["run".to_owned()];
    if let Some(file) = config_file {
        args.extend(["--config".to_owned(), file.to_string_lossy().into_owned()]);
    }
    DaemonConfig {
        binary_path: binaries::locate(BINARY),
        args,
        pid_file: dirs.queen_pid_file(),
        working_dir: None,
        env: HashMap::new(),
        startup_timeout_secs: STARTUP_TIMEOUT.as_secs(),
        shutdown_timeout_secs: shutdown_timeout(config).as_secs(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn she_is_told_her_configuration_and_given_time_for_all_below() {
        let dirs = Dirs::under(Path::new("/r"));
        let config = Config::default();
        let without = daemon_config(&dirs, &config, None);
        assert_eq!(without.args, ["run"]);
        assert_eq!(without.pid_file, Path::new("/r/run/queen.pid"));
        let with = daemon_config(&dirs, &config, Some(Path::new("/etc/rbee.toml")));
        assert_eq!(with.args, ["run", "--config", "/etc/rbee.toml"]);
        let below = hive_lifecycle::shutdown_timeout(&config);
        assert!(Duration::from_secs(with.shutdown_timeout_secs) > below + config.queen.drain_timeout);
    }
}
