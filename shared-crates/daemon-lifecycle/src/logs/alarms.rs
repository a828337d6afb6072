//! What age asks for while nobody writes: one deadline a unit, no look before it.

use std::io;
use std::time::{Duration, Instant};

use super::thread::Keeper;

/// An age that could not be enforced is looked at again after this.
const ALARM_PAUSE: Duration = Duration::from_secs(60);
/// The clock that wakes us and the clock of the lines differ by less.
pub(super) const ALARM_PAUSE_MIN: Duration = Duration::from_millis(1);

impl Keeper {
    pub(super) fn ring_alarms(&mut self) {
        let now = Instant::now();
        while let Some((at, id)) = self.alarms.first().copied().filter(|(at, _)| *at <= now) {
            self.alarms.remove(&(at, id));
            if let Some(unit) = self.units.get_mut(&id) {
                unit.alarm = None;
                self.keep_policy(id);
            }
        }
    }

    pub(super) fn keep_policy(&mut self, id: u32) {
        if let Some(unit) = self.units.get_mut(&id) {
            let kept = unit.keep_policy();
            self.after_keeping(id, kept);
        }
    }

    pub(super) fn after_keeping(&mut self, id: u32, kept: io::Result<()>) {
        if let (Err(error), Some(unit)) = (&kept, self.units.get_mut(&id)) {
            tracing::warn!(%error, file = %unit.files().path().display(), "cannot put a log aside");
        }
        self.set_alarm(id, if kept.is_err() { ALARM_PAUSE } else { ALARM_PAUSE_MIN });
    }

    /// When age asks for something, but not before `pause` is over.
    pub(super) fn set_alarm(&mut self, id: u32, pause: Duration) {
        let Some(unit) = self.units.get_mut(&id) else { return };
        let now = Instant::now();
        let next = unit.deadline(now).map(|at| at.max(now + pause));
        if let Some(old) = std::mem::replace(&mut unit.alarm, next) {
            self.alarms.remove(&(old, id));
        }
        if let Some(next) = next {
            self.alarms.insert((next, id));
        }
    }
}
