//! Bugs that can be planted on purpose, one at a time, to see whether the simulator catches them. Only in tests and with
//! the feature `mutants`; in the product every switch is the constant `false`.

/// Whether this bug is planted.
#[cfg(any(test, feature = "mutants"))]
macro_rules! mutant {
    ($name:ident) => {
        crate::mutants::is_planted(crate::mutants::Mutant::$name)
    };
}

/// Nothing is ever planted in the product.
#[cfg(not(any(test, feature = "mutants")))]
macro_rules! mutant {
    ($name:ident) => {
        false
    };
}

pub(crate) use mutant;

#[cfg(any(test, feature = "mutants"))]
pub use planted::{Mutant, with_planted};

#[cfg(any(test, feature = "mutants"))]
pub(crate) use planted::is_planted;

#[cfg(any(test, feature = "mutants"))]
mod planted {
    use std::cell::Cell;

    macro_rules! mutants {
        ($($name:ident: $what:literal,)*) => {
            /// A bug.
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub enum Mutant {
                $(#[doc = $what] $name,)*
            }

            impl Mutant {
                /// Every one, with what it does.
                pub const ALL: &[(Self, &str)] = &[$((Self::$name, $what),)*];
            }
        };
    }

    mutants! {
        StaleReports: "a report of an old run counts for the new one",
        NeedsIgnored: "a unit is spawned before what it needs runs",
        WaitersNotWoken: "a unit that waits for a dependency is not told when it runs",
        HoldersNotReleased: "a stop that waits for dependents never goes on",
        SlotLeaked: "a start slot is not given back",
        BudgetIgnored: "more units start at once than allowed",
        DeadlineKept: "a deadline stays in the list after it was met",
        RunNumberForgotten: "run numbers begin anew with each supervisor",
        StopLengthened: "a second stop gives more time instead of less",
        DependentsIgnored: "a unit is stopped while others need it",
        SpawnNotAborted: "a stop during a spawn is lost",
        CleanupSkipped: "what a crashed run left behind is not cleaned up",
        AdoptionIgnored: "a process of an earlier supervisor is not taken over",
        KillForgotten: "who ignores the polite signal is not killed",
        TickStuck: "a kill does not set the moment of the next",
        HealthNeverGood: "a good health probe does not make up for bad ones",
        BusyForEver: "a unit may be busy for ever",
        PingUnheard: "a sign of life does not feed the watchdog",
        SilenceUnseen: "a missed watchdog has no consequence",
        ReloadForEver: "a reload may take for ever",
        MemoryUnseen: "too much memory has no consequence",
        CountKept: "stability does not reset the restart count",
        UnavailableRetried: "a unit whose binary is missing is tried again and again",
        ExtensionUnheard: "a process that asks for more time gets none",
        StartDuringStopLost: "a start during a stop is lost",
        CascadeStaysDown: "who fell with a dependency is not run again",
        CascadeSkipped: "the end of a dependency leaves its dependents running",
        StartSpawnsTwice: "a start of what is starting spawns once more",
        WindowOffByOne: "one restart more than allowed",
        BackoffFlat: "back-off does not grow",
        NeverRestarts: "a unit that must never restart does",
        CapIgnored: "back-off grows over its maximum",
        DroppedNeedHolds: "a stop waits for one that does not need the unit any more",
        StartPruned: "a start forgets what went down below what it needs",
        ChangeUntold: "a unit goes into its back-off without a word",
        CascadeUntold: "who falls with a dependency is not told of as such",
        ThresholdUnanswered: "a threshold that restarts has no consequence",
        RootForgotten: "the history of a cascade does not lead to its root",
    }

    thread_local! {
        static PLANTED: Cell<Option<Mutant>> = const { Cell::new(None) };
    }

    pub(crate) fn is_planted(mutant: Mutant) -> bool {
        PLANTED.get() == Some(mutant)
    }

    /// Runs `play` on this thread with the bug in place.
    pub fn with_planted<T>(mutant: Mutant, play: impl FnOnce() -> T) -> T {
        let before = PLANTED.replace(Some(mutant));
        let result = play();
        PLANTED.set(before);
        result
    }
}
