//! What anybody may see of the units, made anew of those that changed.

use std::sync::Arc;
use std::time::Duration;

use supervision::{Now, Phase, UnitName};

use super::history::History;
use super::owner::Owner;
use super::status::UnitStatus;

/// A clock that differs by more was set.
const CLOCK_JUMP_MIN: Duration = Duration::from_secs(1);

impl Owner {
    pub(super) fn why(&self, unit: &UnitName) -> Option<History> {
        let wall_clock = |at: Now| self.epoch_for_people + Duration::from_millis(at.as_ms());
        self.core.why(unit).map(|why| History::of(&why, wall_clock))
    }

    /// People's clocks may be put right meanwhile. Otherwise a moment of the past keeps its name.
    fn look_at_the_clock(&mut self) {
        let epoch = jiff::Timestamp::now() - self.epoch.elapsed();
        if epoch.duration_since(self.epoch_for_people).unsigned_abs() > CLOCK_JUMP_MIN {
            self.epoch_for_people = epoch;
        }
    }

    /// Tells what changed: to the snapshot's readers, and to those who wait for one unit.
    pub(super) fn publish(&mut self) {
        let mut changed = self.core.take_changed();
        changed.append(&mut self.changed);
        if changed.is_empty() {
            return;
        }
        self.look_at_the_clock();
        let new: Vec<(UnitName, Option<UnitStatus>)> =
            changed.into_iter().map(|unit| (unit.clone(), self.status(&unit))).collect();
        for (unit, status) in &new {
            let Some(status) = status.as_ref().filter(|status| is_settled(status.phase)) else { continue };
            let Some(entry) = self.units.get_mut(unit) else { continue };
            for reply in entry.waiting.drain(..) {
                let _ = reply.send(Ok(status.clone()));
            }
        }
        self.snapshot.send_if_modified(|old| {
            let mut is_changed = false;
            for (unit, status) in new {
                let before = old.get(unit.as_str());
                if before.map(Arc::as_ref) == status.as_ref() {
                    continue;
                }
                is_changed = true;
                // A copy only while a reader holds the last one.
                let units = Arc::make_mut(old);
                match status {
                    Some(status) => drop(units.insert(unit.as_str().to_owned(), Arc::new(status))),
                    None => drop(units.remove(unit.as_str())),
                }
            }
            is_changed
        });
    }

    fn status(&self, unit: &UnitName) -> Option<UnitStatus> {
        let entry = self.units.get(unit)?;
        let history = self.why(unit).map(|history| history.falls).unwrap_or_default();
        Some(entry.status(self.core.unit(unit)?, history))
    }
}

const fn is_settled(phase: Phase) -> bool {
    matches!(phase, Phase::Running | Phase::Stopped | Phase::Failed | Phase::Unavailable)
}
