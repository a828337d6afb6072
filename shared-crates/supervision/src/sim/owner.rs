//! The owner of a world: what it wishes, and what else comes from outside.

use super::invariant::Violation;
use super::specs;
use super::world::World;
use crate::{Event, ExitHow, Incarnation, StopMode, UnitName};

impl World {
    /// Something from outside: a wish, a death, a jump of the clock.
    pub(super) fn disturb(&mut self) -> Result<(), Violation> {
        if self.rng.percent(2) && self.core.is_some() {
            self.supervisor_dies();
            return Ok(());
        }
        if self.rng.percent(1) {
            self.jump();
        }
        if !self.rng.percent(30) || self.core.is_none() {
            return Ok(());
        }
        let names = self.names();
        let Some(unit) = self.rng.pick(&names).cloned() else { return Ok(()) };
        let mode = match self.rng.below(3) {
            0 => StopMode::Graceful,
            1 => StopMode::Within { timeout_ms: self.rng.between(0, 1_500) },
            _ => StopMode::Now,
        };
        match self.rng.below(24) {
            0..=8 => {
                self.want(&unit);
                self.give(Event::Start { unit })
            }
            9..=13 => {
                self.wanted.insert(unit.clone(), false);
                self.give(Event::Stop { unit, mode })
            }
            14..=15 => {
                // One that is down is started, with what it needs.
                if self.core.as_ref().and_then(|core| core.unit(&unit)).is_some_and(crate::Unit::is_live) {
                    self.wanted.insert(unit.clone(), true);
                } else {
                    self.want(&unit);
                }
                self.give(Event::Restart { unit })
            }
            16..=17 => {
                // One that its owner stopped is not tried: `retry` is for those that gave up.
                let force = self.rng.percent(50);
                self.give(Event::Retry { unit, force })
            }
            18 => {
                self.specs.entry(unit.clone()).or_default().launch_fingerprint += 1;
                let declaration = self.declaration(unit);
                self.give(declaration)
            }
            19 => self.redeclare_with_other_needs(unit),
            20 => self.remove_and_declare_again(unit),
            21 => {
                self.wanted.values_mut().for_each(|wanted| *wanted = false);
                self.give(Event::StopAll { mode })
            }
            _ => {
                let report = self.stale_report(unit);
                self.give(report)
            }
        }
    }

    fn jump(&mut self) {
        self.stats.jumps += 1;
        if self.rng.percent(50) {
            let jump_ms = self.rng.between(1_000, 600_000);
            self.note(|| format!("the machine sleeps {jump_ms} ms"));
            self.now = self.now.plus_ms(jump_ms);
            self.faults_until = self.faults_until.plus_ms(jump_ms);
            self.processes.iter_mut().for_each(|process| process.shift(jump_ms));
            self.mail.iter_mut().for_each(|(at, _)| *at = at.plus_ms(jump_ms));
        } else {
            let jump_ms = self.rng.between(100, 10_000);
            self.note(|| format!("the supervisor stands still for {jump_ms} ms"));
            self.now = self.now.plus_ms(jump_ms);
        }
    }

    /// A wish for a unit is one for all it needs.
    pub(super) fn want(&mut self, unit: &UnitName) {
        for dependency in self.specs.get(unit).map(|spec| spec.depends_on.clone()).unwrap_or_default() {
            self.want(&dependency);
        }
        self.wanted.insert(unit.clone(), true);
    }

    fn redeclare_with_other_needs(&mut self, unit: UnitName) -> Result<(), Violation> {
        let needs = specs::random_needs(&mut self.rng, self.specs.keys().filter(|name| **name < unit));
        self.specs.entry(unit.clone()).or_default().depends_on = needs;
        let declaration = self.declaration(unit);
        self.unfinished = true;
        self.give(declaration)?;
        self.unfinished = false;
        self.give(Event::AdoptionDone)
    }

    /// At once: the hardest moment for it.
    fn remove_and_declare_again(&mut self, unit: UnitName) -> Result<(), Violation> {
        self.wanted.insert(unit.clone(), false);
        self.give(Event::Remove { unit: unit.clone() })?;
        if self.rng.percent(30) {
            // Too late: it is to be forgotten.
            self.give(Event::Restart { unit: unit.clone() })?;
        }
        let again = self.declaration(unit);
        self.give(again)
    }

    /// A late report of an old run, or of one that never was.
    fn stale_report(&mut self, unit: UnitName) -> Event {
        let current = self.records.get(&unit).map_or(0, |r| r.incarnation.get());
        let incarnation = Incarnation::new(current.saturating_sub(self.rng.between(1, 3)));
        match self.rng.below(4) {
            0 => Event::Exited { unit, incarnation, how: ExitHow::Code(1) },
            1 => Event::Ready { unit, incarnation },
            2 => Event::MemoryHigh { unit, incarnation, bytes: 2, limit: 1 },
            _ => Event::Spawned { unit, incarnation },
        }
    }
}
