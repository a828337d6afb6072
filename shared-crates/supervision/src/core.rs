//! All units of one supervisor, and the moment at which the next of them wants to be looked at.
//!
//! Order between units (dependencies, cascade) belongs here: the units themselves know only their own life.

use std::collections::{BTreeMap, BTreeSet};

use crate::action::Action;
use crate::event::Event;
use crate::unit::Unit;
use crate::{Incarnation, Now, Phase, UnitName};

/// The state of a supervisor.
#[derive(Debug, Clone)]
pub struct Core {
    units: BTreeMap<UnitName, Unit>,
    /// Every unit's deadline, soonest first.
    deadlines: BTreeSet<(Now, UnitName)>,
    /// Units that leave as soon as nothing of them runs.
    removing: BTreeSet<UnitName>,
    seed: u64,
}

impl Core {
    /// No units yet. `seed` spreads restarts: equal seeds and events give equal actions.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { units: BTreeMap::new(), deadlines: BTreeSet::new(), removing: BTreeSet::new(), seed }
    }

    /// Takes one event and says what to do, in order. An event that names an unknown unit or an old
    /// incarnation changes nothing.
    #[must_use = "an action that is not carried out is a bug"]
    pub fn step(&mut self, now: Now, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        match event {
            Event::Declare { unit, spec, last_incarnation } => {
                let seed = self.seed;
                self.removing.remove(&unit);
                match self.units.get(&unit) {
                    Some(_) => self.with(&unit, |u| u.redeclare(now, spec, &mut out)),
                    None => drop(self.units.insert(unit.clone(), Unit::new(unit, spec, last_incarnation, seed))),
                }
            }
            Event::Remove { unit } => {
                self.with(&unit, |u| u.remove(now, &mut out));
                self.removing.insert(unit);
            }
            Event::Start { unit } => self.with(&unit, |u| u.start(&mut out)),
            Event::Stop { unit, mode } => self.with(&unit, |u| u.stop(now, mode, &mut out)),
            Event::StopAll { mode } => {
                for unit in self.names() {
                    self.with(&unit, |u| u.stop(now, mode, &mut out));
                }
            }
            Event::Restart { unit } => self.with(&unit, |u| u.restart(now, &mut out)),
            Event::Retry { unit, force } => self.with(&unit, |u| u.retry(force, &mut out)),
            Event::Adopted { unit, incarnation, stage, restarts } => {
                self.with(&unit, |u| u.adopted(now, incarnation, stage, restarts, &mut out));
            }
            Event::Spawned { unit, incarnation } => {
                self.report(&unit, incarnation, |u| u.spawned(now, &mut out));
            }
            Event::SpawnFailed { unit, incarnation, kind, reason } => {
                self.report(&unit, incarnation, |u| u.spawn_failed(now, kind, reason, &mut out));
            }
            Event::Ready { unit, incarnation } => self.report(&unit, incarnation, |u| u.ready(now, &mut out)),
            Event::ExtendTimeout { unit, incarnation, by_ms } => {
                self.report(&unit, incarnation, |u| u.extend_timeout(now, by_ms));
            }
            Event::HealthOk { unit, incarnation } => self.report(&unit, incarnation, Unit::health_ok),
            Event::HealthFailed { unit, incarnation, reason } => {
                self.report(&unit, incarnation, |u| u.health_failed(now, reason, &mut out));
            }
            Event::Exited { unit, incarnation, how } => {
                self.report(&unit, incarnation, |u| u.exited(now, how, &mut out));
            }
            Event::Tick => {
                for unit in self.due(now) {
                    self.with(&unit, |u| u.tick(now, &mut out));
                }
            }
        }
        self.forget_removed(&mut out);
        out
    }

    /// Until when the shell may sleep; then it sends [`Event::Tick`].
    #[must_use]
    pub fn deadline(&self) -> Option<Now> {
        self.deadlines.first().map(|(moment, _)| *moment)
    }

    /// A unit by its name.
    #[must_use]
    pub fn unit(&self, name: &UnitName) -> Option<&Unit> {
        self.units.get(name)
    }

    /// Every unit, by name.
    pub fn units(&self) -> impl Iterator<Item = (&UnitName, &Unit)> {
        self.units.iter()
    }

    /// Whether no unit has a process, or waits to get one.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.units.values().all(|unit| !unit.is_live() && unit.phase() != Phase::Restarting)
    }

    fn names(&self) -> Vec<UnitName> {
        self.units.keys().cloned().collect()
    }

    fn due(&self, now: Now) -> Vec<UnitName> {
        self.deadlines.iter().take_while(|(moment, _)| *moment <= now).map(|(_, unit)| unit.clone()).collect()
    }

    /// Runs `change` on a unit and keeps the index of deadlines true.
    fn with(&mut self, name: &UnitName, change: impl FnOnce(&mut Unit)) {
        let Some(unit) = self.units.get_mut(name) else { return };
        let before = unit.deadline();
        change(unit);
        let after = unit.deadline();
        if before != after {
            if let Some(moment) = before {
                self.deadlines.remove(&(moment, name.clone()));
            }
            if let Some(moment) = after {
                self.deadlines.insert((moment, name.clone()));
            }
        }
    }

    /// As [`Core::with`], for a report that counts only while it names the live run.
    fn report(&mut self, name: &UnitName, incarnation: Incarnation, change: impl FnOnce(&mut Unit)) {
        if self.units.get(name).is_some_and(|unit| unit.incarnation() == incarnation && unit.is_live()) {
            self.with(name, change);
        }
    }

    fn forget_removed(&mut self, out: &mut Vec<Action>) {
        let done = |name: &UnitName| self.units.get(name).is_none_or(Unit::is_forgettable);
        let gone: Vec<UnitName> = self.removing.iter().filter(|name| done(name)).cloned().collect();
        for unit in gone {
            self.removing.remove(&unit);
            if self.units.remove(&unit).is_some() {
                out.push(Action::Forget { unit });
            }
        }
    }
}
