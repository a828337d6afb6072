//! A chain of its own: a home in a temporary folder, free ports, keeper's commands, and nothing left at the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use assert_cmd::Command;
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::openai::Client;
use crate::processes::{self, Process};
use crate::{model, ports};

/// No single command of a test takes longer.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

/// The binary of that name, where `cargo xtask` says, else beside the test.
///
/// # Panics
/// When it was not built.
pub fn binary(name: &str) -> PathBuf {
    let path = binaries().join(name);
    assert!(path.is_file(), "{} was not built; run `cargo xtask test`, or `cargo build` first", path.display());
    path
}

/// The folder of our binaries.
pub fn binaries() -> PathBuf {
    match std::env::var_os("RBEE_BIN_DIR") {
        Some(folder) => folder.into(),
        // target/PROFILE/deps/chain-…, or target/PROFILE/e2e.
        None => {
            let exe = std::env::current_exe().unwrap();
            let folder = exe.parent().unwrap();
            if folder.ends_with("deps") { folder.parent().unwrap().to_owned() } else { folder.to_owned() }
        }
    }
}

/// One home and its ports. Dropping it ends what runs in it.
pub struct Home {
    folder: TempDir,
    /// Where our programs are, if not where all are.
    programs: Option<PathBuf>,
    /// Set for every program in this home, and so for all that they start.
    variables: Vec<(String, String)>,
    /// Queen's port.
    pub queen_port: u16,
    /// The hive's port.
    pub hive_port: u16,
}

impl Home {
    /// A home whose configuration has the `[queen]` and `[hive]` tables of its own ports, and then `rest`.
    pub fn with_config(rest: &str) -> Self {
        let home = Self::empty();
        home.write_config(rest);
        home
    }

    /// A home without a configuration.
    pub fn empty() -> Self {
        let folder = TempDir::with_prefix("rbee-test-").unwrap();
        let (queen_port, hive_port) = (ports::free(), ports::free());
        Self { folder, programs: None, variables: Vec::new(), queen_port, hive_port }
    }

    /// A home without a configuration, whose programs are taken from a folder of their own.
    pub fn with_programs(programs: &Path) -> Self {
        let mut home = Self::empty();
        home.programs = Some(programs.to_owned());
        home
    }

    /// Replaces the configuration.
    pub fn write_config(&self, rest: &str) {
        self.write_config_with("", rest);
    }

    /// Replaces the configuration; the `[queen]` table has these lines too.
    pub fn write_config_with(&self, queen_keys: &str, rest: &str) {
        let (queen, hive) = (self.queen_port, self.hive_port);
        let head = format!(
            "role = \"master\"\n\n[queen]\nlisten = \"127.0.0.1:{queen}\"\n{queen_keys}\n\
             [hive]\nname = \"local\"\nlisten = \"127.0.0.1:{hive}\"\nqueen = \"http://127.0.0.1:{queen}\"\nports = \"0\"\n\n"
        );
        fs::write(self.path().join("rbee.toml"), head + rest).unwrap();
    }

    /// Sets a variable for every program in this home.
    pub fn set_env(&mut self, name: &str, value: impl Into<String>) {
        self.variables.push((name.to_owned(), value.into()));
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// One of our programs in this home, with nothing of the developer's own.
    pub fn program(&self, name: &str) -> Command {
        let program = self.programs.as_ref().map_or_else(|| binary(name), |folder| folder.join(name));
        let mut command = Command::new(program);
        command
            .env("RBEE_HOME", self.path())
            .env("RUST_LOG", "info")
            .env("RUST_BACKTRACE", "0")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .timeout(COMMAND_TIMEOUT);
        for name in
            ["RBEE_CONFIG", "RBEE_QUEEN", "RBEE_HIVE", "RBEE_TOKEN", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID"]
        {
            command.env_remove(name);
        }
        command
    }

    /// keeper with these words.
    pub fn keeper(&self, words: &[&str]) -> Command {
        let mut keeper = self.program("rbee-keeper");
        keeper.args(words);
        keeper
    }

    /// keeper with these words and `--json`: the document it printed, and its exit code.
    ///
    /// # Panics
    /// When it printed no JSON.
    pub fn json(&self, words: &[&str]) -> (Value, i32) {
        let output = self.keeper(words).arg("--json").output().unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        let Ok(document) = serde_json::from_str(&stdout) else {
            let stderr = String::from_utf8_lossy(&output.stderr);
            panic!("{words:?} printed no JSON document.\nstdout: {stdout}\nstderr: {stderr}");
        };
        (document, output.status.code().unwrap_or(-1))
    }

    /// `status --json`.
    pub fn status(&self) -> Value {
        self.json(&["status"]).0
    }

    /// The bearer token of this home.
    pub fn token(&self) -> String {
        fs::read_to_string(self.path().join("token")).unwrap().trim().to_owned()
    }

    /// Queen's address.
    pub fn queen_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.queen_port)
    }

    /// A client of queen's gateway.
    pub fn client(&self) -> Client {
        Client::new(&self.queen_url(), model::NAME)
    }

    /// Everything that runs in this home.
    pub fn processes(&self) -> Vec<Process> {
        processes::of_home(self.path())
    }

    /// Files below the run folder that only something running may have: PID and state files, sockets, FIFOs.
    pub fn run_files(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(&self.path().join("run"), &mut found);
        found.sort();
        found
    }

    /// Kills everything that runs in this home, whatever state it is in.
    pub fn end(&self) {
        // Until none is left: a supervisor may be spawning while we look.
        for _ in 0..10 {
            let left = self.processes();
            if left.is_empty() {
                return;
            }
            for process in &left {
                processes::send(process.pid, Signal::KILL);
            }
            for process in left {
                processes::wait_gone(process.pid, Duration::from_secs(10));
            }
        }
    }

    /// The end of every log, for a failure's message.
    pub fn logs(&self) -> String {
        let mut files = Vec::new();
        collect(&self.path().join("state/logs"), &mut files);
        let mut text = String::new();
        for file in files {
            let log = fs::read_to_string(&file).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(15)..];
            text += &format!("--- {file}\n{}\n", tail.join("\n"));
        }
        text
    }
}

fn collect(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { collect(&path, found) } else { found.push(path.display().to_string()) }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Shown by the test runner beside the failure.
            let logs = self.logs();
            #[expect(clippy::print_stderr, reason = "what a failed test needs to be understood")]
            {
                eprintln!("{logs}");
            }
        }
        self.end();
    }
}
