//! The owner of a world: what it wishes, and what else comes from outside.

use super::world::World;
use crate::{Event, ExitHow, Incarnation, StopMode, UnitName};

impl World {
    /// Something from outside: a wish, a death, a jump of the clock.
    pub(super) fn disturb(&mut self) -> Result<(), String> {
        if self.rng.percent(2) && self.core.is_some() {
            return self.supervisor_dies();
        }
        if self.rng.percent(1) {
            let jump_ms = self.rng.between(1_000, 600_000);
            self.note(format!("the clock jumps {jump_ms} ms"));
            // Time stands still for processes and reports while the machine sleeps.
            self.now = self.now.plus_ms(jump_ms);
            for process in &mut self.processes {
                process.ready_at = process.ready_at.map(|at| at.plus_ms(jump_ms));
                process.ends_at = process.ends_at.map(|(at, how)| (at.plus_ms(jump_ms), how));
            }
            for (at, _) in &mut self.mail {
                *at = at.plus_ms(jump_ms);
            }
        }
        if !self.rng.percent(30) {
            return Ok(());
        }
        let names = self.names();
        let Some(unit) = self.rng.pick(&names).cloned() else { return Ok(()) };
        let event = match self.rng.below(12) {
            0..=3 => Event::Start { unit },
            4 => Event::Stop { unit, mode: StopMode::Graceful },
            5 => Event::Stop { unit, mode: StopMode::Within { timeout_ms: self.rng.between(0, 500) } },
            6 => Event::Stop { unit, mode: StopMode::Now },
            7 => Event::Restart { unit },
            8 => Event::Retry { unit, force: self.rng.percent(50) },
            9 => self.redeclaration(unit, true),
            10 => Event::Remove { unit },
            _ => self.stale_report(unit),
        };
        self.wish(event)
    }

    fn wish(&mut self, event: Event) -> Result<(), String> {
        if self.core.is_none() {
            return Ok(());
        }
        match &event {
            Event::Start { unit } => self.want(&unit.clone()),
            Event::Restart { unit } => self.wanted.insert(unit.clone(), true),
            Event::Stop { unit, .. } | Event::Remove { unit } => self.wanted.insert(unit.clone(), false),
            _ => None,
        };
        let removed = if let Event::Remove { unit } = &event { Some(unit.clone()) } else { None };
        self.give(event)?;
        // A removed unit comes back at once: the hardest moment for it.
        if let Some(unit) = removed {
            let again = self.redeclaration(unit, false);
            self.give(again)?;
        }
        Ok(())
    }

    /// A wish for a unit is one for all it needs.
    fn want(&mut self, unit: &UnitName) -> Option<bool> {
        for dependency in self.specs.get(unit).map(|spec| spec.depends_on.clone()).unwrap_or_default() {
            self.want(&dependency);
        }
        self.wanted.insert(unit.clone(), true)
    }

    pub(super) fn redeclaration(&mut self, unit: UnitName, changed: bool) -> Event {
        let spec = self.specs.entry(unit.clone()).or_default();
        spec.launch_fingerprint += u64::from(changed);
        let last_incarnation = self.records.get(&unit).map(|r| r.incarnation).unwrap_or_default();
        Event::Declare { spec: spec.clone(), unit, last_incarnation }
    }

    /// A late report of an old run, or of one that never was.
    fn stale_report(&mut self, unit: UnitName) -> Event {
        let current = self.records.get(&unit).map_or(0, |r| r.incarnation.get());
        let incarnation = Incarnation::new(current.saturating_sub(self.rng.between(1, 3)));
        match self.rng.below(3) {
            0 => Event::Exited { unit, incarnation, how: ExitHow::Code(1) },
            1 => Event::Ready { unit, incarnation },
            _ => Event::Spawned { unit, incarnation },
        }
    }
}
