//! What must hold in every world, by name.

use std::fmt;

/// What must hold after every event; the last three at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// At most one process a unit, and none without a unit that knows it.
    OneProcess,
    /// Every run has a number greater than all before it.
    RunNumbers,
    /// A unit is spawned, and runs, only while all it needs runs.
    NeedsRun,
    /// A unit is asked to end only when nobody who needs it lives.
    StopOrder,
    /// No signal to a run whose end was reported.
    NoLateSignal,
    /// Who does not end is killed in time.
    KilledInTime,
    /// Nobody is killed before the time to end politely is over.
    NotKilledEarly,
    /// Not more restarts within the window than allowed, and no giving up before.
    RestartWindow,
    /// Back-off grows from its minimum to its maximum.
    Backoff,
    /// What ended is run again only where its policy says so.
    Policy,
    /// Not more units on their way up than the budget allows.
    StartBudget,
    /// A unit that runs has a process.
    HonestPhase,
    /// No deadline is left in the past.
    NoSpin,
    /// A cause that is told is what happened.
    TrueCause,
    /// What calls for an end gets one.
    Answered,
    /// Whom nobody wants is not spawned.
    Unwanted,
    /// Every run that ended is cleaned up, once, before the next.
    CleanedUp,
    /// A report of an old run changes nothing.
    StaleReport,
    /// After long enough a unit's restarts are forgotten.
    CountReset,
    /// The history tells each fall with its cause, bounded, and ends at the root.
    Why,
    /// The told changes of a unit, one after the other, lead to its phase; what they follow from is told before them.
    Told,
    /// Equal seeds make equal worlds.
    Deterministic,
    /// When faults cease, everything that is wanted and can run does.
    WantedRuns,
    /// After a stop of everything nothing is left.
    NothingLeft,
}

/// How one was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) invariant: Invariant,
    pub(super) what: String,
}

impl Invariant {
    pub(super) fn broken(self, what: impl Into<String>) -> Violation {
        Violation { invariant: self, what: what.into() }
    }

    /// Fine, if `holds`; the text is made only if not.
    pub(super) fn holds(self, holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), Violation> {
        if holds { Ok(()) } else { Err(self.broken(otherwise())) }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}
