//! Why a unit's runs ended: each fall with its cause, back through its dependencies to where it began.
//!
//! A unit keeps its last [`EPISODES_MAX`] falls. One that fell because of a dependency shares that dependency's own
//! [`Link`], so a cascade through a thousand units costs one link each, and reads "api restarted because its dependency
//! cache restarted because it exited with code 1".

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use crate::{Cause, ExitHow, Incarnation, Now, Phase, UnitName};

/// Falls a unit remembers.
pub const EPISODES_MAX: usize = 8;
/// Longest chain of causes; of a longer one the middle is left out, never the root.
pub const CHAIN_MAX: usize = 16;

/// What became of a unit when it fell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is run again.
    Restarted,
    /// It stays down, as its owner or its policy will have it.
    Stopped,
    /// It gave up.
    Failed,
    /// It cannot be spawned.
    Unavailable,
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Restarted => "restarted",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Unavailable => "became unavailable",
        })
    }
}

/// One fall of one unit. Displayed, it is the whole sentence down to the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Whose.
    pub unit: UnitName,
    /// The run that fell.
    pub incarnation: Incarnation,
    /// When it began to fall.
    pub at: Now,
    /// What became of it, as far as was known then.
    pub fate: Fate,
    /// Why.
    pub cause: Cause,
    /// The fall of the dependency that pulled it down, if one did.
    pub because: Option<Arc<Link>>,
    /// How many links stand below this one.
    depth: usize,
}

impl Link {
    /// This fall, then what caused it, and so on; the last is the root.
    pub fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |link| link.because.as_deref())
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.unit, self.fate)?;
        let mut link = self;
        while let Some(next) = link.because.as_deref() {
            write!(f, " because its dependency {} {}", next.unit, next.fate)?;
            link = next;
        }
        write!(f, " because {}", link.cause.clause())
    }
}

/// How a fall ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing is settled: it is ending, waits out its back-off, or waits for what it needs.
    Pending,
    /// It runs again.
    Running {
        /// The new run.
        incarnation: Incarnation,
        /// Since when.
        since: Now,
    },
    /// It is down, as [`Link::fate`] says.
    Down {
        /// Since when.
        since: Now,
    },
    /// It fell again, or was told otherwise, before anything was settled; the next episode goes on.
    Overtaken,
}

/// One fall and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Episode {
    /// The fall, with its chain of causes.
    pub link: Arc<Link>,
    /// How the process ended in the end; absent while it has not, or if there was none.
    pub ended: Option<ExitHow>,
    /// What came of it.
    pub outcome: Outcome,
}

/// The history of a unit. Displayed, one sentence a line, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// Which unit.
    pub unit: UnitName,
    /// Where it is now.
    pub phase: Phase,
    /// What it waits for, or why it does not run.
    pub reason: Option<String>,
    /// Its last falls, newest first; at most [`EPISODES_MAX`].
    pub episodes: Vec<Episode>,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}", self.unit, self.phase)?;
        if let Some(reason) = &self.reason {
            write!(f, ": {reason}")?;
        }
        for episode in &self.episodes {
            write!(f, "\n{}", episode.link)?;
        }
        Ok(())
    }
}

/// The falls of one unit, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Falls {
    episodes: VecDeque<Episode>,
}

impl Falls {
    /// A fall begins.
    pub(crate) fn push(&mut self, mut link: Link) {
        link.depth = link.because.as_ref().map_or(0, |below| below.depth + 1);
        if link.depth >= CHAIN_MAX {
            // The dependency is named in the cause already; its own cause is what must not be lost.
            link.because = link.because.and_then(|below| below.because.clone());
            link.depth = link.because.as_ref().map_or(0, |below| below.depth + 1);
        }
        if let Some(pending) = self.pending() {
            pending.outcome = Outcome::Overtaken;
        }
        if self.episodes.len() == EPISODES_MAX {
            self.episodes.pop_front();
        }
        self.episodes.push_back(Episode { link: Arc::new(link), ended: None, outcome: Outcome::Pending });
    }

    /// The process of the present fall is gone.
    pub(crate) fn ended(&mut self, how: ExitHow) {
        if let Some(pending) = self.pending() {
            pending.ended = pending.ended.or(Some(how));
        }
    }

    /// The present fall ended in a new run.
    pub(crate) fn runs(&mut self, incarnation: Incarnation, since: Now) {
        if let Some(pending) = self.pending() {
            pending.outcome = Outcome::Running { incarnation, since };
        }
    }

    /// The present fall ended in no run.
    pub(crate) fn is_down(&mut self, fate: Fate, cause: Option<Cause>, since: Now) {
        if let Some(pending) = self.pending() {
            pending.outcome = Outcome::Down { since };
            let link = Arc::make_mut(&mut pending.link);
            link.fate = fate;
            if let Some(cause) = cause {
                link.cause = cause;
            }
        }
    }

    /// Whether a fall is not settled that shall end in a new run.
    pub(crate) fn is_restarting(&self) -> bool {
        let pending = self.episodes.back().filter(|last| last.outcome == Outcome::Pending);
        pending.is_some_and(|last| last.link.fate == Fate::Restarted)
    }

    /// The newest fall, unless the unit runs again since.
    pub(crate) fn last(&self) -> Option<&Arc<Link>> {
        let last = self.episodes.back().filter(|last| !matches!(last.outcome, Outcome::Running { .. }));
        last.map(|episode| &episode.link)
    }

    /// Newest first.
    pub(crate) fn newest_first(&self) -> Vec<Episode> {
        self.episodes.iter().rev().cloned().collect()
    }

    fn pending(&mut self) -> Option<&mut Episode> {
        self.episodes.back_mut().filter(|last| last.outcome == Outcome::Pending)
    }
}

impl Link {
    pub(crate) fn new(unit: UnitName, incarnation: Incarnation, at: Now, fate: Fate, cause: Cause) -> Self {
        Self { unit, incarnation, at, fate, cause, because: None, depth: 0 }
    }

    pub(crate) fn because_of(self, dependency: Option<Arc<Self>>) -> Self {
        Self { because: dependency, ..self }
    }
}
