//! A folder of its own for every test, and ways to look at processes from outside.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use daemon_lifecycle::{DaemonConfig, DaemonManager};

/// Where a test plays.
pub struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    pub fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Names of the files in a folder of the scene.
    pub fn files(&self, dir: &str) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.path(dir))
            .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
            .unwrap_or_default();
        names.sort();
        names
    }

    /// A manager of `unruly` with these options; its output goes to `out.log`.
    pub fn manager(&self, args: &[&str]) -> DaemonManager {
        DaemonManager::new(self.config(unruly(), args)).with_log_file(self.path("out.log"))
    }

    pub fn config(&self, binary: impl AsRef<Path>, args: &[&str]) -> DaemonConfig {
        DaemonConfig {
            binary_path: binary.as_ref().to_owned(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            pid_file: self.path("run/it.pid"),
            working_dir: None,
            env: HashMap::new(),
            startup_timeout_secs: 30,
            shutdown_timeout_secs: 30,
        }
    }

    /// The pid that `unruly --fork-child` prints, as soon as it stands in this log.
    pub fn child_logged(&self, log: &str) -> u32 {
        loop {
            let text = self.text(log);
            if let Some(pid) = text.lines().find_map(|line| line.rsplit_once("child ")?.1.parse().ok()) {
                return pid;
            }
            std::thread::yield_now();
        }
    }

    /// Every pid that `--count-file` wrote down.
    pub fn counted(&self) -> Vec<u32> {
        self.text("count").lines().map(|line| line.parse().unwrap()).collect()
    }
}

/// The daemon's binary.
pub fn unruly() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_unruly"))
}

/// Whether a process with this number runs (a zombie does not).
pub fn runs(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// Waits until nobody listens there. (A child that another test forks right now may hold a copy of the socket for a moment.)
pub fn refused(address: std::net::SocketAddr) {
    while std::net::TcpStream::connect(address).is_ok() {
        std::thread::yield_now();
    }
}

/// Ends a process of the test by its pid.
pub fn kill9(pid: u32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), nix::sys::signal::Signal::SIGKILL).unwrap();
}
