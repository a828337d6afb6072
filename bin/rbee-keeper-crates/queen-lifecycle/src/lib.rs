//! What a queen is: her program, arguments, socket, files and patience, as `daemon-lifecycle` wants them.
//!
//! Thin by intention: nothing here starts, probes or signals a process.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use daemon_lifecycle::{DaemonConfig, DaemonManager, Readiness};
use rbee_runtime::binaries;
use rbee_runtime::config::Config;
use rbee_runtime::dirs::Dirs;
use rbee_runtime::services::Services;

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
        .with_listen(listen_address(dirs, config))
        .with_readiness(Readiness::Notify)
        .with_log_file(dirs.queen_log_file())
}

/// Where she shall listen: what the configuration says. Where that leaves the port to the system, the one she had
/// last, if it is free: hives know her by it, and would be restarted for another one.
#[must_use]
pub fn listen_address(dirs: &Dirs, config: &Config) -> SocketAddr {
    let configured = config.queen.listen;
    if configured.port() != 0 {
        return configured;
    }
    std::fs::read_to_string(dirs.queen_listen_file())
        .ok()
        .and_then(|text| text.trim().parse::<SocketAddr>().ok())
        .filter(|last| last.ip() == configured.ip() && TcpListener::bind(last).is_ok())
        .unwrap_or(configured)
}

/// Notes where she listens now, for [`listen_address`].
///
/// # Errors
/// When the file cannot be written.
pub fn remember_listen(dirs: &Dirs, address: SocketAddr) -> io::Result<()> {
    std::fs::write(dirs.queen_listen_file(), format!("{address}\n"))
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
    if Services::read(&dirs.services_file()).is_ok_and(|services| services.hive.is_some()) {
        // A service manager starts it.
        args.push("--without-hive".to_owned());
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
    fn a_port_left_to_the_system_is_kept_while_it_is_free() {
        let temp = tempfile::tempdir().unwrap();
        let dirs = Dirs::under(temp.path());
        dirs.create().unwrap();
        let mut config = Config::default();
        assert_eq!(listen_address(&dirs, &config), config.queen.listen);
        config.queen.listen.set_port(0);
        assert_eq!(listen_address(&dirs, &config), config.queen.listen);
        let taken = TcpListener::bind(config.queen.listen).unwrap();
        let last = taken.local_addr().unwrap();
        remember_listen(&dirs, last).unwrap();
        assert_eq!(listen_address(&dirs, &config), config.queen.listen);
        drop(taken);
        assert_eq!(listen_address(&dirs, &config), last);
    }

    #[test]
    fn she_is_told_her_configuration_and_given_time_for_all_below() {
        let dirs = Dirs::under(Path::new("/r"));
        let config = Config::default();
        let without = daemon_config(&dirs, &config, None);
        assert_eq!(without.args, ["run"]);
        assert_eq!(without.pid_file, Path::new("/r/run/queen.pid"));
        let with = daemon_config(&dirs, &config, Some(Path::new("/etc/rbee.toml")));
        assert_eq!(with.args, ["run", "--config", "/etc/rbee.toml"]);
        let temp = tempfile::tempdir().unwrap();
        let dirs = Dirs::under(temp.path());
        dirs.create().unwrap();
        let services = Services { hive: Some("rbee-hive.service".to_owned()), ..Services::default() };
        services.write(&dirs.services_file()).unwrap();
        assert_eq!(daemon_config(&dirs, &config, None).args, ["run", "--without-hive"], "SERV-12: it has a unit");
        let below = hive_lifecycle::shutdown_timeout(&config);
        assert!(Duration::from_secs(with.shutdown_timeout_secs) > below + config.queen.drain_timeout);
    }
}
