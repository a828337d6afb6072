//! `on = { KIND = "COMMAND" }`, `[on]` and `[hooks]`: what is run when something happens, and how much of it.

use std::collections::BTreeMap;
use std::time::Duration;

use rbee_api::EventKind;
use serde::{Deserialize, Serialize};

use super::document::Document;
use super::schema::Config;
use super::values::duration;

const AT_ONCE_MAX: usize = 64;
const WAITING_MAX: usize = 10_000;
/// What never happens to a worker.
const NOT_OF_WORKERS: [EventKind; 4] = [EventKind::Lease, EventKind::Reloaded, EventKind::Upgraded, EventKind::Gap];

/// Commands by the kind of event that they are run for, with `sh -c`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OnConfig(BTreeMap<EventKind, Commands>);

/// One command or several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "a command or a list of commands")]
enum Commands {
    One(String),
    Several(Vec<String>),
}

impl Commands {
    fn lines(&self) -> &[String] {
        match self {
            Self::One(command) => std::slice::from_ref(command),
            Self::Several(commands) => commands,
        }
    }
}

impl OnConfig {
    /// The commands by kind, in their order.
    #[must_use]
    pub fn commands(&self) -> BTreeMap<EventKind, Vec<String>> {
        self.0.iter().map(|(kind, commands)| (*kind, commands.lines().to_vec())).collect()
    }
}

/// `[hooks]`: bounds of the commands of `on`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HooksConfig {
    /// How long one may take before it is killed with all it started. Default 30 s.
    #[serde(with = "duration")]
    pub timeout: Duration,
    /// How many may run at once; those of one daemon run one after the other. Default 4.
    pub at_once: usize,
    /// How many may wait; the oldest goes when there are more. Default 64.
    pub waiting_max: usize,
}

impl Default for HooksConfig {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(30), at_once: 4, waiting_max: 64 }
    }
}

/// Records what makes no sense.
pub(super) fn check(config: &Config, document: &mut Document<'_>) {
    let hooks = &config.hooks;
    if hooks.timeout.is_zero() {
        document.problem("hooks.timeout", "`hooks.timeout` must not be 0", None);
    }
    for (key, value, max) in
        [("hooks.at_once", hooks.at_once, AT_ONCE_MAX), ("hooks.waiting_max", hooks.waiting_max, WAITING_MAX)]
    {
        if !(1..=max).contains(&value) {
            document.problem(key, format!("`{key}` must be 1 to {max}, not {value}"), None);
        }
    }
    check_on(&config.on, "on", document);
    for (name, worker) in &config.worker {
        let key = format!("worker.{name}.on");
        check_on(&worker.on, &key, document);
        for kind in worker.on.0.keys().filter(|kind| NOT_OF_WORKERS.contains(kind)) {
            let hint = Some("write it into the table `[on]`, which is for queen and hives, too".to_owned());
            document.problem(&format!("{key}.{kind}"), format!("`{kind}` does not happen to workers"), hint);
        }
    }
}

fn check_on(on: &OnConfig, key: &str, document: &mut Document<'_>) {
    for (kind, commands) in &on.0 {
        if commands.lines().is_empty() || commands.lines().iter().any(|command| command.trim().is_empty()) {
            document.problem(&format!("{key}.{kind}"), format!("`{key}.{kind}` names no command"), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::ConfigError;

    fn problems(text: &str) -> String {
        match Config::parse(text, Path::new("rbee.toml")) {
            Ok(_) => String::new(),
            Err(ConfigError::Invalid { problems, .. }) => {
                problems.into_iter().map(|p| format!("{}{}\n", p.message, p.hint.unwrap_or_default())).collect()
            }
            Err(error) => error.to_string(),
        }
    }

    /// HOOK-01
    #[test]
    fn a_command_or_several_for_a_kind() {
        let text = "[on]\nlease = \"a\"\n[worker.w]\ncommand = [\"x\"]\non = { failed = \"b\", health-failed = [\"c\", \"d\"] }\n";
        let config = Config::parse(text, Path::new("rbee.toml")).unwrap();
        assert_eq!(config.on.commands(), [(EventKind::Lease, vec!["a".to_owned()])].into());
        let of_worker = &config.worker["w"].to_spec().on;
        assert_eq!(of_worker[&EventKind::HealthFailed], ["c", "d"]);
        assert_eq!(of_worker[&EventKind::Failed], ["b"]);
    }

    /// HOOK-01
    #[test]
    fn what_cannot_be_meant_is_refused_with_what_was_meant() {
        let worker = |on: &str| format!("[worker.w]\ncommand = [\"x\"]\non = {{ {on} }}\n");
        for (text, expected) in [
            (worker("faild = \"x\""), "failed"),
            (worker("failed = \"\""), "names no command"),
            (worker("failed = []"), "names no command"),
            (worker("failed = 7"), "a command or a list"),
            (worker("lease = \"x\""), "[on]"),
            ("[hooks]\ntimeout = \"0s\"\n".to_owned(), "must not be 0"),
            ("[hooks]\nat_once = 65\n".to_owned(), "1 to 64"),
            ("[hooks]\nwaiting_max = 0\n".to_owned(), "1 to 10000"),
            ("[hooks]\ntimout = \"1s\"\n".to_owned(), "timeout"),
        ] {
            let found = problems(&text);
            assert!(found.contains(expected), "{text}: {found}");
        }
    }
}
