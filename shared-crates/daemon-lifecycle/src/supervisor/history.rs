//! Why a unit's runs ended, with times that people know.

use std::fmt;

use supervision::{Episode, Now, Outcome, Why};

/// One fall of a unit: why it went down, and what came of it. Displayed, it is a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fall {
    /// When it began.
    pub at: jiff::Timestamp,
    /// The run that fell.
    pub incarnation: u64,
    /// The whole chain of causes, down to the root.
    pub sentence: String,
    /// The units of that chain; the first is this one, the last is where it began.
    pub chain: Vec<String>,
    /// How its process ended, once it has.
    pub ended: Option<String>,
    /// What came of it.
    pub outcome: FallOutcome,
}

/// What came of a fall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FallOutcome {
    /// Nothing yet: it is ending, waits out its back-off, or waits for what it needs.
    Pending,
    /// It runs again.
    Running {
        /// As which run.
        incarnation: u64,
        /// Since when.
        since: jiff::Timestamp,
    },
    /// It is down.
    Down {
        /// Since when.
        since: jiff::Timestamp,
    },
    /// It fell again, or was told otherwise, before anything was settled.
    Overtaken,
}

/// Why a unit is where it is. Displayed, one sentence a line, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The unit.
    pub unit: String,
    /// Where it stands.
    pub phase: supervision::Phase,
    /// What it waits for, or why it does not run.
    pub reason: Option<String>,
    /// Its last falls, newest first.
    pub falls: Vec<Fall>,
}

impl History {
    /// `clock` says what a moment of the core is for people.
    pub(super) fn of(why: &Why, clock: impl Fn(Now) -> jiff::Timestamp) -> Self {
        Self {
            unit: why.unit.as_str().to_owned(),
            phase: why.phase,
            reason: why.reason.clone(),
            falls: why.episodes.iter().map(|episode| Fall::of(episode, &clock)).collect(),
        }
    }
}

impl Fall {
    fn of(episode: &Episode, clock: impl Fn(Now) -> jiff::Timestamp) -> Self {
        let link = &episode.link;
        Self {
            at: clock(link.at),
            incarnation: link.incarnation.get(),
            sentence: link.to_string(),
            chain: link.chain().map(|link| link.unit.as_str().to_owned()).collect(),
            ended: episode.ended.map(|how| how.to_string()),
            outcome: match episode.outcome {
                Outcome::Pending => FallOutcome::Pending,
                Outcome::Running { incarnation, since } => {
                    FallOutcome::Running { incarnation: incarnation.get(), since: clock(since) }
                }
                Outcome::Down { since } => FallOutcome::Down { since: clock(since) },
                Outcome::Overtaken => FallOutcome::Overtaken,
            },
        }
    }
}

impl fmt::Display for Fall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl fmt::Display for History {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}", self.unit, self.phase)?;
        if let Some(reason) = &self.reason {
            write!(f, ": {reason}")?;
        }
        self.falls.iter().try_for_each(|fall| write!(f, "\n{fall}"))
    }
}
