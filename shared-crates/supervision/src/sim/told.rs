//! What is told of a unit, taken at its word: its changes make up its phase, and what happened stands before what follows.

use super::checks::{Checks, phase};
use super::invariant::{Invariant, Violation};
use crate::{Cause, Change, Core, Happening, Now, Phase, UnitName, What};

/// What somebody knows of a unit who only listens.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    /// Absent before its first change: stopped, as every unit begins.
    pub(super) phase: Option<Phase>,
    /// What the present event was said to be about.
    pub(super) happened: Vec<What>,
}

impl Checks {
    pub(super) fn tells_change(&mut self, change: &Change) -> Result<(), Violation> {
        let Change { unit, from, to, cause, .. } = change;
        let told = &mut self.of(unit).told;
        let before = told.phase.replace(*to).unwrap_or(Phase::Stopped);
        Invariant::Told.holds(before == *from, || format!("{unit}: was {before}, and goes from {from} to {to}"))?;
        Invariant::Told.holds(from != to, || format!("{unit}: from {from} to itself"))?;
        if *to == Phase::Restarting {
            // The end it was told to wait for, or one of its own: what led there was told when that began.
            return Ok(());
        }
        let was_told = match cause {
            Cause::Adopted => told.happened.contains(&What::Adopted),
            Cause::DependencyLost { dependency } if *to == Phase::Stopping => {
                told.happened.contains(&What::Cascade { dependency: dependency.clone() })
            }
            Cause::Unhealthy { .. } | Cause::Hung { .. } | Cause::WatchdogMissed { .. } if *to == Phase::Stopping => {
                told.happened.iter().any(|what| matches!(what, What::HealthFailed { cause: is, .. } if is == cause))
            }
            Cause::MemoryHigh { .. } | Cause::OverThreshold(_) if *to == Phase::Stopping => {
                told.happened.contains(&What::Threshold { cause: cause.clone(), restarts: true })
            }
            _ => true,
        };
        Invariant::Told.holds(was_told, || format!("{unit}: {to} ({cause}) without a word before"))
    }

    /// What is told is so.
    pub(super) fn tells(&mut self, now: Now, core: &Core, happening: &Happening) -> Result<(), Violation> {
        let Happening { unit, what, .. } = happening;
        let seen = self.of(unit);
        let is_so = match what {
            What::Adopted => seen.told.phase.is_none(),
            What::Cascade { dependency } => phase(core, dependency) != Some(Phase::Running),
            What::HealthFailed { cause: Cause::WatchdogMissed { .. }, .. } => {
                seen.watchdog.is_some_and(|(timeout_ms, heard)| heard.plus_ms(timeout_ms) <= now)
            }
            What::HealthFailed { cause: Cause::Hung { .. }, in_a_row, .. } => seen.busy == *in_a_row,
            What::HealthFailed { in_a_row, .. } => seen.failures == *in_a_row,
            What::Threshold { restarts, .. } => seen.over == Some(*restarts),
        };
        let is_new = !seen.told.happened.contains(what);
        seen.told.happened.push(what.clone());
        Invariant::Told.holds(is_so && is_new, || format!("{unit}: {what:?}"))
    }

    /// Who only listened knows how it is.
    pub(super) fn told_all(&self, name: &UnitName, is: Phase) -> Result<(), Violation> {
        let told = self.told_phase(name);
        Invariant::Told.holds(told == is, || format!("{name}: is {is}, and was told to be {told}"))
    }
}
