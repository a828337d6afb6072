//! All units of one supervisor: what each may do because of the others, and when the next wants to be looked at.
//!
//! A unit runs while its owner wants it *and* all it depends on runs. So a start goes up the dependencies first; a stop
//! holds until the dependents are gone; the end of a dependency, whatever its cause, ends its dependents, which then
//! wait for it. At most `starts_max` units are on their way up at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::action::Action;
use crate::dependencies::Dependencies;
use crate::event::{Event, StopMode};
use crate::unit::{Gate, Unit};
use crate::why::Why;
use crate::{Incarnation, Now, Phase, Spec, UnitName};

/// The state of a supervisor.
#[derive(Debug, Clone)]
pub struct Core {
    units: BTreeMap<UnitName, Unit>,
    dependencies: Dependencies,
    /// Every unit's deadline, soonest first.
    deadlines: BTreeSet<(Now, UnitName)>,
    /// Units that leave as soon as nothing of them runs.
    removing: BTreeSet<UnitName>,
    /// Units that wait for a dependency or a start slot, longest first.
    waiting: VecDeque<UnitName>,
    /// Units that hold a start slot.
    starting: usize,
    starts_max: usize,
    /// Units that changed in this step and whether they were running before: their neighbours have to look.
    touched: VecDeque<(UnitName, bool)>,
    seed: u64,
}

impl Core {
    /// No units yet. `seed` spreads restarts: equal seeds and events give equal actions.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            units: BTreeMap::new(),
            dependencies: Dependencies::new(),
            deadlines: BTreeSet::new(),
            removing: BTreeSet::new(),
            waiting: VecDeque::new(),
            starting: 0,
            starts_max: usize::MAX,
            touched: VecDeque::new(),
            seed,
        }
    }

    /// Lets at most so many units (at least one) be on their way up at once.
    #[must_use]
    pub const fn with_starts_max(mut self, starts_max: usize) -> Self {
        self.starts_max = if starts_max == 0 { 1 } else { starts_max };
        self
    }

    /// Takes one event and says what to do, in order. An event that names an unknown unit or an old
    /// incarnation changes nothing.
    #[must_use = "an action that is not carried out is a bug"]
    pub fn step(&mut self, now: Now, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        self.take(now, event, &mut out);
        self.settle(now, &mut out);
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

    /// Why a unit's last runs ended, cascades back to their root; [`Why`] displays it.
    #[must_use]
    pub fn why(&self, name: &UnitName) -> Option<Why> {
        self.units.get(name).map(Unit::why)
    }

    /// Every unit, by name.
    pub fn units(&self) -> impl Iterator<Item = (&UnitName, &Unit)> {
        self.units.iter()
    }

    /// Whether no unit has a process, or waits to get one.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.units.values().all(|unit| {
            let waits = unit.phase() == Phase::Restarting || unit.is_waiting();
            !unit.is_live() && !waits
        })
    }

    fn take(&mut self, now: Now, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Declare { unit, spec, last_incarnation } => self.declare(now, unit, spec, last_incarnation, out),
            Event::Remove { unit } => {
                self.with(&unit, |u| u.remove(now, out));
                self.removing.insert(unit);
            }
            Event::Start { unit } => self.start(&unit, out),
            Event::Stop { unit, mode } => self.with(&unit, |u| u.stop(now, mode, out)),
            Event::StopAll { mode } => self.stop_all(now, mode, out),
            Event::Restart { unit } => self.with(&unit, |u| u.restart(now, out)),
            Event::Retry { unit, force } => self.with(&unit, |u| u.retry(force, out)),
            Event::Adopted { unit, incarnation, stage, restarts } => {
                self.with(&unit, |u| u.adopted(now, incarnation, stage, restarts, out));
            }
            Event::AdoptionDone => self.touched.extend(self.units.keys().map(|name| (name.clone(), true))),
            Event::Spawned { unit, incarnation } => self.report(&unit, incarnation, |u| u.spawned(now, out)),
            Event::SpawnFailed { unit, incarnation, kind, reason } => {
                self.report(&unit, incarnation, |u| u.spawn_failed(now, kind, reason, out));
            }
            Event::Ready { unit, incarnation } => self.report(&unit, incarnation, |u| u.ready(now, out)),
            Event::ExtendTimeout { unit, incarnation, by_ms } => {
                self.report(&unit, incarnation, |u| u.extend_timeout(now, by_ms));
            }
            Event::HealthOk { unit, incarnation } => self.report(&unit, incarnation, Unit::health_ok),
            Event::HealthFailed { unit, incarnation, reason } => {
                self.report(&unit, incarnation, |u| u.health_failed(now, reason, out));
            }
            Event::HealthBusy { unit, incarnation } => self.report(&unit, incarnation, |u| u.health_busy(now, out)),
            Event::WatchdogArmed { unit, incarnation, timeout_ms } => {
                self.report(&unit, incarnation, |u| u.watchdog_armed(now, timeout_ms));
            }
            Event::WatchdogPing { unit, incarnation } => self.report(&unit, incarnation, |u| u.watchdog_ping(now)),
            Event::Reloading { unit, incarnation } => self.report(&unit, incarnation, |u| u.reloading(now)),
            Event::MemoryHigh { unit, incarnation, bytes, limit } => {
                self.report(&unit, incarnation, |u| u.memory_high(now, bytes, limit, out));
            }
            Event::Exited { unit, incarnation, how } => self.report(&unit, incarnation, |u| u.exited(now, how, out)),
            Event::Tick => {
                let due = self.deadlines.iter().take_while(|(moment, _)| *moment <= now);
                for unit in due.map(|(_, unit)| unit.clone()).collect::<Vec<_>>() {
                    self.with(&unit, |u| u.tick(now, out));
                }
            }
        }
    }

    fn declare(&mut self, now: Now, unit: UnitName, spec: Spec, last: Incarnation, out: &mut Vec<Action>) {
        self.removing.remove(&unit);
        self.dependencies.set(&unit, &spec.depends_on);
        if self.units.contains_key(&unit) {
            return self.with(&unit, |u| u.redeclare(now, spec, out));
        }
        self.units.insert(unit.clone(), Unit::new(unit, spec, last, self.seed));
    }

    /// Starts a unit, and before it what it needs.
    fn start(&mut self, unit: &UnitName, out: &mut Vec<Action>) {
        for name in self.dependencies.closure(unit) {
            let is_down = |u: &Unit| matches!(u.phase(), Phase::Stopped | Phase::Failed | Phase::Unavailable);
            if name == *unit || self.units.get(&name).is_some_and(|u| !u.is_wanted() || is_down(u)) {
                self.with(&name, |u| u.start(out));
            }
        }
    }

    fn stop_all(&mut self, now: Now, mode: StopMode, out: &mut Vec<Action>) {
        for unit in self.units.keys().cloned().collect::<Vec<_>>() {
            self.with(&unit, |u| u.stop(now, mode, out));
        }
    }

    /// Lets the neighbours of every unit that changed look, until nothing changes any more. Ends, because going down
    /// only follows dependents and going up only dependencies, and the graph has no cycle.
    fn settle(&mut self, now: Now, out: &mut Vec<Action>) {
        while let Some((name, was_running)) = self.touched.pop_front() {
            let (runs, live) =
                self.units.get(&name).map_or((false, false), |u| (u.phase() == Phase::Running, u.is_live()));
            let fall = self.units.get(&name).and_then(|unit| unit.last_fall().cloned());
            let dependents: Vec<UnitName> = self.dependencies.dependents(&name).cloned().collect();
            for dependent in dependents {
                if was_running && !runs {
                    self.with(&dependent, |u| u.dependency_lost(now, &name, fall.clone(), out));
                }
                self.with(&dependent, |u| u.gate_moved(out));
            }
            if !live {
                let needs = self.dependencies.of(&name).to_vec();
                for dependency in needs {
                    if self.is_free_to_stop(&dependency) {
                        self.with(&dependency, |u| u.dependents_gone(now, out));
                    }
                }
            }
            self.hand_out_start_slots(out);
        }
    }

    fn is_free_to_stop(&self, name: &UnitName) -> bool {
        self.units.get(name).is_some_and(Unit::is_holding) && !self.has_live_dependents(name)
    }

    fn has_live_dependents(&self, name: &UnitName) -> bool {
        self.dependencies.dependents(name).any(|dependent| self.units.get(dependent).is_some_and(Unit::is_live))
    }

    fn hand_out_start_slots(&mut self, out: &mut Vec<Action>) {
        let mut next = 0;
        while self.starting < self.starts_max {
            let Some(name) = self.waiting.get(next).cloned() else { return };
            self.with(&name, |u| u.gate_moved(out));
            // One that went up has left the queue: the next one stands in its place.
            if self.waiting.get(next) == Some(&name) {
                next += 1;
            }
        }
    }

    /// What a spawn of this unit would have to wait for.
    fn gate(&self, name: &UnitName) -> Gate {
        let down = self.dependencies.of(name).iter().find_map(|dependency| match self.units.get(dependency) {
            Some(unit) if unit.phase() == Phase::Running => None,
            Some(unit) => Some(format!("`{dependency}`, which is {}", unit.phase())),
            None => Some(format!("`{dependency}`, which does not exist")),
        });
        let no_slot = || (self.starting >= self.starts_max).then(|| "a start slot".to_owned());
        Gate { waits_for: down.or_else(no_slot), has_live_dependents: self.has_live_dependents(name) }
    }

    /// Runs `change` on a unit and keeps everything that is derived from it true.
    fn with(&mut self, name: &UnitName, change: impl FnOnce(&mut Unit)) {
        let gate = self.gate(name);
        let Some(unit) = self.units.get_mut(name) else { return };
        let before = (unit.deadline(), unit.phase(), unit.is_live(), unit.is_waiting(), unit.holds_start_slot());
        unit.set_gate(gate);
        change(unit);
        let after = (unit.deadline(), unit.phase(), unit.is_live(), unit.is_waiting(), unit.holds_start_slot());
        if before == after {
            return;
        }
        if before.0 != after.0 {
            before.0.map(|moment| self.deadlines.remove(&(moment, name.clone())));
            after.0.map(|moment| self.deadlines.insert((moment, name.clone())));
        }
        match (before.3, after.3) {
            (false, true) => self.waiting.push_back(name.clone()),
            (true, false) => self.waiting.retain(|waiting| waiting != name),
            _ => {}
        }
        self.starting = self.starting + usize::from(after.4) - usize::from(before.4);
        self.touched.push_back((name.clone(), before.1 == Phase::Running));
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
            self.dependencies.set(&unit, &[]);
            if self.units.remove(&unit).is_some() {
                out.push(Action::Forget { unit });
            }
        }
    }
}
