//! What this machine and its history say about the configuration.
//!
//! ```text
//!   machine ┐
//!   config  ├──propose (pure)──▶ [Proposal] ──apply (pure, toml_edit)──▶ text ──checked──▶ rbee.toml ──▶ reload
//!   history ┘
//! ```
//!
//! Every rule answers with a value that it would not change again: what is applied proposes nothing new.

mod apply;
mod machine;
mod past;
mod rules;

use std::fmt;

use rbee_api::report::Report;
use rbee_runtime::config::Config;
use serde::Serialize;

pub(crate) use apply::apply;
pub(crate) use machine::Machine;
pub(crate) use past::is_known_long;

/// One change of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Proposal {
    /// The key, such as `worker.smollm2.threads`.
    pub(crate) key: String,
    /// What it is now; absent: not set.
    pub(crate) from: Option<Setting>,
    pub(crate) to: Setting,
    /// What was seen.
    pub(crate) reason: String,
    /// What it is expected to do.
    pub(crate) effect: String,
}

/// Something to do that is no key of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Advice {
    pub(crate) what: String,
    pub(crate) reason: String,
    pub(crate) effect: String,
    pub(crate) command: String,
}

/// A value of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Setting {
    Number(i64),
    Flag(bool),
    Text(String),
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Flag(flag) => flag.fmt(f),
            Self::Text(text) => write!(f, "\"{text}\""),
        }
    }
}

impl From<u32> for Setting {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<std::time::Duration> for Setting {
    fn from(duration: std::time::Duration) -> Self {
        Self::Text(humantime::format_duration(duration).to_string())
    }
}

impl From<bytesize::ByteSize> for Setting {
    /// Whole MiB, so that nothing is lost in writing.
    fn from(size: bytesize::ByteSize) -> Self {
        Self::Text(format!("{}MiB", size.as_u64() >> 20))
    }
}

/// Everything worth changing, by key. Without a history only what machine and configuration show.
pub(crate) fn propose(machine: &Machine, config: &Config, history: Option<&Report>) -> Vec<Proposal> {
    let mut proposals = rules::all(machine, config, history);
    proposals.sort_by(|a, b| a.key.cmp(&b.key));
    proposals
}

/// What is to be done outside of the configuration.
pub(crate) fn advise(machine: &Machine, config: &Config) -> Vec<Advice> {
    rules::advice(machine, config)
}
