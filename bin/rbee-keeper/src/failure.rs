//! What went wrong, in the form people and scripts get it: message, causes, what to do, exit code.

use std::error::Error;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use clap::CommandFactory;
use daemon_lifecycle::{DaemonError, SupervisorError};
use model_store::ModelError;
use rbee_api::{ClientError, ErrorCode};
use rbee_runtime::config::ConfigError;
use rbee_runtime::dirs::DirsError;
use rbee_runtime::token::TokenError;
use serde::Serialize;

use crate::exit::Exit;

/// A command that failed. Serializes as the `error` object of `--json`.
#[derive(Debug, Clone, Serialize)]
#[serde(transparent)]
pub(crate) struct Failure(Box<Report>);

/// What a [`Failure`] says.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Report {
    /// Stable code: the server's, or ours in the same style.
    pub(crate) code: String,
    /// What went wrong, with its causes.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
    /// The request's id, where a server refused it.
    pub(crate) correlation_id: Option<String>,
    /// The last lines that the daemon at fault wrote.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) last_log_lines: Vec<String>,
    /// Single problems, where there are several.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) problems: Vec<rbee_runtime::config::Problem>,
    #[serde(skip)]
    pub(crate) exit: Exit,
}

impl Deref for Failure {
    type Target = Report;

    fn deref(&self) -> &Report {
        &self.0
    }
}

impl DerefMut for Failure {
    fn deref_mut(&mut self) -> &mut Report {
        &mut self.0
    }
}

impl Failure {
    /// A failed operation.
    pub(crate) fn new(code: &str, message: impl Into<String>) -> Self {
        Self(Box::new(Report {
            code: code.to_owned(),
            message: message.into(),
            hint: None,
            correlation_id: None,
            last_log_lines: Vec::new(),
            problems: Vec::new(),
            exit: Exit::FAILED,
        }))
    }

    /// Appends the error and everything below it to the message.
    pub(crate) fn because(mut self, error: &(dyn Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            // Some libraries repeat what is below them.
            if !self.message.contains(&text) {
                self.message = format!("{}: {text}", self.message);
            }
            next = error.source();
        }
        self
    }

    /// Says what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Ends the command with this code instead of 1.
    pub(crate) fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// Shows what the daemon said last.
    pub(crate) fn log_lines(mut self, lines: Vec<String>) -> Self {
        self.last_log_lines = lines;
        self
    }

    /// The limit of `--timeout` is over.
    pub(crate) fn timed_out(limit: Duration) -> Self {
        Self::new("timeout", format!("not done within {}", humantime::format_duration(limit)))
            .hint("what was asked for goes on; `rbee-keeper status` shows how far it is")
            .exit(Exit::TRY_AGAIN)
    }

    /// A command line that makes no sense, in clap's words; `words` are what was typed, without the program's name.
    pub(crate) fn usage(error: &clap::Error, words: &[String]) -> Self {
        let text = error.render().to_string();
        let mut paragraphs = text.split("\n\n");
        let first = paragraphs.next().unwrap_or_default().trim().trim_start_matches("error: ").to_owned();
        let rest: Vec<&str> = paragraphs.map(str::trim).collect();
        let line = |prefix: &str| rest.iter().find_map(|part| part.strip_prefix(prefix)).map(str::to_owned);
        let usage = line("Usage: ").map(|usage| format!("usage: {}", usage.lines().next().unwrap_or_default()));
        let hint = line("tip: ").or(usage).unwrap_or_else(|| format!("see `{} --help`", verb_of(words)));
        let is_help = error.kind() == clap::error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
        let first = first.split_whitespace().collect::<Vec<_>>().join(" ");
        let message = if is_help { text.trim().to_owned() } else { first };
        let failure = Self::new("usage", message).exit(Exit::USAGE);
        if is_help { failure } else { failure.hint(hint) }
    }
}

/// The part of a command line that names a verb: `rbee-keeper worker start`.
fn verb_of(words: &[String]) -> String {
    let root = crate::cli::Cli::command();
    let (mut command, mut path) = (&root, root.get_name().to_owned());
    for word in words {
        if let Some(next) = command.find_subcommand(word) {
            command = next;
            path = format!("{path} {word}");
        }
    }
    path
}

fn of(code: &str, error: &(dyn Error + 'static)) -> Failure {
    Failure::new(code, error.to_string()).because(error)
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let hint = match &error {
            ConfigError::Read { .. } => "`rbee-keeper config init` writes a first one",
            _ => "`rbee-keeper config show` prints a sound one when no file is in the way",
        };
        let mut failure = of("config", &error).exit(Exit::CONFIG);
        if let ConfigError::Invalid { problems, .. } = error {
            failure.problems = problems;
        } else {
            failure.hint = Some(hint.to_owned());
        }
        failure
    }
}

impl From<DirsError> for Failure {
    fn from(error: DirsError) -> Self {
        of("directory", &error).hint("set RBEE_HOME to a folder that you may write").exit(Exit::CONFIG)
    }
}

impl From<TokenError> for Failure {
    fn from(error: TokenError) -> Self {
        of("token", &error).exit(Exit::CONFIG)
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Self {
        of("model", &error)
    }
}

impl From<SupervisorError> for Failure {
    fn from(error: SupervisorError) -> Self {
        let locked = matches!(error, SupervisorError::Locked { .. });
        let failure = of("supervisor", &error);
        if locked { failure.hint("`rbee-keeper down` stops it").exit(Exit::TRY_AGAIN) } else { failure }
    }
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Self {
        let failure = match &error {
            DaemonError::StartFailed { unavailable: true, .. } => {
                let beside = rbee_runtime::binaries::own_dir().unwrap_or_default();
                of("unavailable", &error).hint(format!(
                    "put it beside rbee-keeper in {} or on PATH (`cargo xtask up` does)",
                    beside.display()
                ))
            }
            DaemonError::StartFailed { .. } => of("start_failed", &error),
            DaemonError::Timeout { .. } => of("timeout", &error),
            DaemonError::PidFileError { .. } => {
                of("pid_file", &error).hint("look who that process is; remove the file only if it is none of ours")
            }
            DaemonError::PermissionDenied { .. } => of("permission_denied", &error),
            _ => of("stop_failed", &error),
        };
        match error {
            DaemonError::StartFailed { log_tail, .. } | DaemonError::Timeout { log_tail, .. } => {
                failure.log_lines(log_tail)
            }
            _ => failure,
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match &error {
            ClientError::Unreachable { .. } => of("unreachable", &error)
                .hint("`rbee-keeper status` tells what runs, `rbee-keeper up` starts it")
                .exit(Exit::UNAVAILABLE),
            ClientError::TimedOut { .. } => of("timeout", &error).exit(Exit::TRY_AGAIN),
            ClientError::NotRbee { .. } => of("not_rbee", &error)
                .hint("another program has that port; set `listen` in rbee.toml to a free one")
                .exit(Exit::UNAVAILABLE),
            ClientError::Api { detail, .. } => {
                let mut failure = Self::new(&code_text(detail.code), &detail.message);
                failure.correlation_id = detail.correlation_id.clone();
                failure.exit = exit_of(detail.code);
                failure.hint = hint_of(detail.code).map(str::to_owned);
                failure
            }
            ClientError::BrokenAnswer { .. } => of("broken_answer", &error),
        }
    }
}

/// The code's word on the wire.
pub(crate) fn code_text(code: ErrorCode) -> String {
    match serde_json::to_value(code) {
        Ok(serde_json::Value::String(text)) => text,
        _ => "internal".to_owned(),
    }
}

/// The exit code for a server's refusal.
pub(crate) fn exit_of(code: ErrorCode) -> Exit {
    match code {
        ErrorCode::Unavailable | ErrorCode::QueueFull | ErrorCode::ShuttingDown | ErrorCode::Timeout => Exit::TRY_AGAIN,
        ErrorCode::Unauthorized | ErrorCode::ForbiddenHost | ErrorCode::InvalidConfig => Exit::CONFIG,
        _ => Exit::FAILED,
    }
}

fn hint_of(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::Unauthorized => Some("set RBEE_TOKEN to the token of that machine (its token file)"),
        ErrorCode::InvalidConfig => Some("nothing changed; repair the file and reload again"),
        ErrorCode::WorkerNotFound => Some("`rbee-keeper worker list` shows their names"),
        ErrorCode::ModelNotFound => Some("`rbee-keeper worker list` shows which models are served"),
        ErrorCode::HiveNotFound => Some("`rbee-keeper hive list` shows their names"),
        ErrorCode::WorkerFailed => Some("`rbee-keeper worker logs NAME` shows all it wrote"),
        ErrorCode::ManagedByQueen => Some("leave out --hive and RBEE_HIVE to ask queen"),
        ErrorCode::Timeout => Some("what was asked for goes on; `rbee-keeper status` shows how far it is"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::Failure;
    use crate::cli::Cli;

    /// What is printed for a command line that makes no sense.
    fn refusal(words: &[&str]) -> String {
        let error = Cli::try_parse_from([&["rbee-keeper"], words].concat()).unwrap_err();
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let failure = Failure::usage(&error, &words);
        format!("error: {}\nhint: {}", failure.message, failure.hint.as_deref().unwrap_or_default())
    }

    #[test]
    fn usage_errors_say_what_is_wrong_and_what_to_write() {
        insta::assert_snapshot!(refusal(&["statsu"]), @r"
        error: unrecognized subcommand 'statsu'
        hint: a similar subcommand exists: 'status'
        ");
        insta::assert_snapshot!(refusal(&["worker", "start", "a/x"]), @r"
        error: invalid value 'a/x' for '<NAME>': `x` is no replica: replicas are numbers, counted from 0
        hint: see `rbee-keeper worker start --help`
        ");
        insta::assert_snapshot!(refusal(&["worker", "scale", "a", "-1"]), @r"
        error: invalid value '-1' for '<REPLICAS>': must be a whole number from 0 to 256
        hint: see `rbee-keeper worker scale --help`
        ");
        insta::assert_snapshot!(refusal(&["infer", "--max-tokens", "-5", "hi"]), @r"
        error: invalid value '-5' for '--max-tokens <N>': must be a whole number above 0
        hint: see `rbee-keeper infer --help`
        ");
        insta::assert_snapshot!(refusal(&["up", "--timeout", "soon"]), @r"
        error: invalid value 'soon' for '--timeout <DURATION>': expected number at 0; write it like 30s or 5m
        hint: see `rbee-keeper up --help`
        ");
        insta::assert_snapshot!(refusal(&["worker", "start"]), @r"
        error: the following required arguments were not provided: <NAME>
        hint: usage: rbee-keeper worker start <NAME>
        ");
    }

    #[test]
    fn causes_are_told_once() {
        let inner = std::io::Error::other("the disk is full");
        let failure = Failure::new("x", "cannot write a").because(&inner);
        assert_eq!(failure.message, "cannot write a: the disk is full");
        assert_eq!(
            failure.because(&std::io::Error::other("the disk is full")).message,
            "cannot write a: the disk is full"
        );
    }
}
