//! systemd as this machine has it: asked and told by `systemctl`, believed only after it was looked at.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use daemon_lifecycle::{ExitHow, Launch, Said, try_out};
use rbee_runtime::services::ServiceScope;
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Failure;

/// What one of its commands says at most.
const SAID_BYTES_MAX: u64 = 256 * 1024;
/// How long a question may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(20);
/// Its own folder while it runs.
const RUNS: &str = "/run/systemd/system";
/// Lines of a unit's log that are shown when it fails.
const LOG_LINES: &str = "12";

/// The machine's, or this user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Systemd {
    scope: ServiceScope,
}

/// What it says of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct UnitState {
    pub(crate) unit: String,
    /// Whether it knows the unit.
    pub(crate) installed: bool,
    /// Whether it is started at boot, or at login.
    pub(crate) enabled: bool,
    /// `active`, `activating`, `inactive`, `failed`, …
    pub(crate) active: String,
    /// More of the same: `running`, `auto-restart`, …
    pub(crate) sub: String,
    pub(crate) pid: Option<u32>,
    /// Restarts by systemd since it was started.
    pub(crate) restarts: u32,
    /// How it ended last: `success`, `watchdog`, `timeout`, …
    pub(crate) result: String,
}

impl UnitState {
    pub(crate) fn is_active(&self) -> bool {
        self.active == "active"
    }

    /// Whether nothing of it runs, nor is about to.
    pub(crate) fn is_down(&self) -> bool {
        matches!(self.active.as_str(), "inactive" | "failed")
    }
}

impl Systemd {
    pub(crate) const fn of(scope: ServiceScope) -> Self {
        Self { scope }
    }

    /// Whether the machine was started by systemd, and this user's runs where that is meant.
    pub(crate) fn runs(self) -> bool {
        let of_user =
            || std::env::var_os("XDG_RUNTIME_DIR").is_some_and(|dir| Path::new(&dir).join("systemd").is_dir());
        Path::new(RUNS).is_dir() && (self.scope == ServiceScope::System || of_user())
    }

    /// Why it cannot be used here, and what to do.
    pub(crate) fn missing(self) -> Failure {
        let show = "`rbee-keeper service show` prints the units; --manager says for which service manager";
        let (what, hint) = match self.scope {
            ServiceScope::System => ("no systemd runs here".to_owned(), show.to_owned()),
            ServiceScope::User if !Path::new(RUNS).is_dir() => ("no systemd runs here".to_owned(), show.to_owned()),
            ServiceScope::User => (
                "no systemd of this user runs here, or XDG_RUNTIME_DIR does not say where".to_owned(),
                "log in as this user, or `sudo loginctl enable-linger USER` and set XDG_RUNTIME_DIR=/run/user/UID"
                    .to_owned(),
            ),
        };
        Failure::new("no_service_manager", what).hint(hint).exit(Exit::UNAVAILABLE)
    }

    /// Its number, if it tells.
    pub(crate) async fn version(self) -> Option<u32> {
        let said = self.ask(&["--version"]).await.ok()?;
        String::from_utf8_lossy(&said.stdout).split_whitespace().nth(1)?.parse().ok()
    }

    /// A command of it that must succeed.
    pub(crate) async fn tell(self, words: &[&str], timeout: Duration) -> Result<(), Failure> {
        let said = self.run("systemctl", words, timeout).await?;
        if said.how == ExitHow::Code(0) {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&said.stderr).trim().to_owned();
        let failure = Failure::new("service_manager", format!("systemctl {} failed: {text}", words.join(" ")));
        Err(if text.contains("uthentication required") || text.contains("Access denied") {
            failure.hint("that needs root: call it with sudo")
        } else {
            failure
        })
    }

    /// Starts a unit; returns when it says that it is ready.
    pub(crate) async fn start(self, unit: &str, timeout: Duration) -> Result<UnitState, Failure> {
        // One that was given up before starts afresh.
        let _ = self.ask(&["reset-failed", unit]).await;
        let started = self.tell(&["start", unit], timeout).await;
        let state = self.state(unit).await?;
        match started {
            Ok(()) if state.is_active() => Ok(state),
            Ok(()) => {
                let what = format!("{unit} was started, but it is {} ({}): {}", state.active, state.sub, state.result);
                Err(Failure::new("start_failed", what).log_lines(self.log(unit).await))
            }
            Err(failure) => {
                let failure = failure.log_lines(self.log(unit).await);
                Err(if failure.hint.is_some() { failure } else { failure.hint(self.log_hint(unit)) })
            }
        }
    }

    /// Stops a unit; returns when it is down.
    pub(crate) async fn stop(self, unit: &str, timeout: Duration) -> Result<(), Failure> {
        self.tell(&["stop", unit], timeout).await
    }

    /// What it says of a unit.
    pub(crate) async fn state(self, unit: &str) -> Result<UnitState, Failure> {
        const PROPERTIES: &str = "LoadState,UnitFileState,ActiveState,SubState,MainPID,NRestarts,Result";
        let said = self.ask(&["show", "--property", PROPERTIES, "--", unit]).await?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        let of: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let word = |key: &str| of.get(key).copied().unwrap_or_default().to_owned();
        if of.is_empty() {
            let why = String::from_utf8_lossy(&said.stderr).trim().to_owned();
            return Err(Failure::new("service_manager", format!("systemctl says nothing of {unit}: {why}")));
        }
        Ok(UnitState {
            unit: unit.to_owned(),
            installed: word("LoadState") != "not-found",
            enabled: word("UnitFileState") == "enabled",
            active: word("ActiveState"),
            sub: word("SubState"),
            pid: word("MainPID").parse().ok().filter(|pid| *pid > 0),
            restarts: word("NRestarts").parse().unwrap_or(0),
            result: word("Result"),
        })
    }

    /// Whether it is about to stop the unit, by somebody's wish.
    pub(crate) async fn is_stopping(self, unit: &str) -> bool {
        let Ok(said) = self.ask(&["list-jobs", "--no-legend", "--no-pager"]).await else { return false };
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        text.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.get(1) == Some(&unit) && matches!(words.get(2), Some(&"stop" | &"restart"))
        })
    }

    /// How to read its log.
    pub(crate) fn log_hint(self, unit: &str) -> String {
        match self.scope {
            ServiceScope::System => format!("`journalctl -u {unit}` shows its log"),
            ServiceScope::User => format!("`journalctl --user -u {unit}` shows its log"),
        }
    }

    async fn log(self, unit: &str) -> Vec<String> {
        let of_user = if self.scope == ServiceScope::User { "--user-unit" } else { "--unit" };
        let words = [of_user, unit, "-n", LOG_LINES, "-o", "cat", "--no-pager", "-q"];
        let Ok(said) = run("journalctl", &words, ASK_TIMEOUT).await else { return Vec::new() };
        String::from_utf8_lossy(&said.stdout).lines().map(str::to_owned).collect()
    }

    async fn ask(self, words: &[&str]) -> Result<Said, Failure> {
        self.run("systemctl", words, ASK_TIMEOUT).await
    }

    async fn run(self, program: &str, words: &[&str], timeout: Duration) -> Result<Said, Failure> {
        let scope: &[&str] = if self.scope == ServiceScope::User { &["--user"] } else { &[] };
        run(program, &[scope, words].concat(), timeout).await
    }
}

/// A program of the system, run to its end.
pub(super) async fn run(program: &str, words: &[&str], timeout: Duration) -> Result<Said, Failure> {
    let launch = Launch::new(program, words.iter().copied());
    try_out(&launch, timeout, SAID_BYTES_MAX).await.map_err(|error| {
        Failure::new("service_manager", format!("cannot ask {program} {}", words.join(" "))).because(&error)
    })
}

/// Has this user's services start without a login, and go on after it; whether that was new.
pub(crate) async fn linger(user: &str) -> Result<bool, Failure> {
    let said = run("loginctl", &["show-user", user, "--property", "Linger", "--value"], ASK_TIMEOUT).await?;
    if said.stdout.starts_with(b"yes") || Path::new("/var/lib/systemd/linger").join(user).exists() {
        return Ok(false);
    }
    let said = run("loginctl", &["enable-linger", user], ASK_TIMEOUT).await?;
    if said.how == ExitHow::Code(0) {
        return Ok(true);
    }
    let why = String::from_utf8_lossy(&said.stderr).trim().to_owned();
    Err(Failure::new("linger", format!("cannot have them start without a login: {why}"))
        .hint(format!("`sudo loginctl enable-linger {user}`")))
}

/// The reverse.
pub(crate) async fn linger_no_more(user: &str) -> Result<(), Failure> {
    run("loginctl", &["disable-linger", user], ASK_TIMEOUT).await.map(drop)
}
