//! What each API key has used: `GET /api/v1/usage?since=DAY` of queen.

use serde::{Deserialize, Serialize};

/// Answer to `usage`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageReply {
    /// One a day, key and model; days are UTC, the oldest first.
    pub rows: Vec<UsageRow>,
}

/// Query of `usage`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UsageQuery {
    /// The first day, as `2026-11-21`; absent: all that is kept.
    pub since: Option<String>,
}

/// What one key has used of one model on one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRow {
    /// `2026-11-21`, UTC: the day on which the answers ended.
    pub day: String,
    /// The key's name in the configuration.
    pub key: String,
    /// The model's name.
    pub model: String,
    /// How much.
    #[serde(flatten)]
    pub counts: UsageCounts,
}

/// How much was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageCounts {
    /// Requests answered, in whatever way.
    pub requests: u64,
    /// Those that were not answered as they should.
    pub errors: u64,
    /// Tokens read.
    pub prompt_tokens: u64,
    /// Tokens generated; of an answer that broke off, those that were passed on.
    pub completion_tokens: u64,
}

impl UsageCounts {
    /// More of it.
    pub fn add(&mut self, more: Self) {
        self.requests += more.requests;
        self.errors += more.errors;
        self.prompt_tokens += more.prompt_tokens;
        self.completion_tokens += more.completion_tokens;
    }
}
