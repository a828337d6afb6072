//! All units of one supervisor: what each may do because of the others, and when the next wants to be looked at.
//!
//! A unit runs while its owner wants it *and* all it depends on runs. So a start goes up the dependencies first; a stop
//! holds until the dependents are gone; the end of a dependency, whatever its cause, ends its dependents, which then
//! wait for it. At most `starts_max` units are on their way up at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::action::Action;
use crate::event::{Event, StopMode};
use crate::graph::Graph;
use crate::mutants::mutant;
use crate::slots::Slots;
use crate::unit::{Gate, Unit, WaitsFor};
use crate::why::Why;
use crate::{Incarnation, Now, Phase, Spec, UnitName};

/// The state of a supervisor.
#[derive(Debug, Clone)]
pub struct Core {
    /// Boxed: the map's nodes are half empty at most times.
    units: BTreeMap<UnitName, Box<Unit>>,
    graph: Graph,
    slots: Slots,
    /// Every unit's deadline, soonest first.
    deadlines: BTreeSet<(Now, UnitName)>,
    /// Units that leave as soon as nothing of them runs.
    removing: BTreeSet<UnitName>,
    /// Units that have a process, or wait to get one.
    unquiet: usize,
    /// Units that changed in this step and whether they were running before: their neighbours have to look.
    touched: VecDeque<(UnitName, bool)>,
    /// Units that may look different since somebody asked.
    changed: BTreeSet<UnitName>,
    seed: u64,
}

/// What others derive from a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Outline {
    phase: Phase,
    is_live: bool,
    is_waiting: bool,
    holds_slot: bool,
    is_wanted: bool,
}

impl Outline {
    fn of(unit: &Unit) -> Self {
        Self {
            phase: unit.phase(),
            is_live: unit.is_live(),
            is_waiting: unit.is_waiting(),
            holds_slot: unit.holds_start_slot(),
            is_wanted: unit.is_wanted(),
        }
    }

    const fn is_unquiet(self) -> bool {
        self.is_live || self.is_waiting || matches!(self.phase, Phase::Restarting)
    }

    /// Whether a start has something to do here.
    const fn is_down(self) -> bool {
        !self.is_wanted || matches!(self.phase, Phase::Stopped | Phase::Failed | Phase::Unavailable)
    }
}

impl Core {
    /// No units yet. `seed` spreads restarts: equal seeds and events give equal actions.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self {
            units: BTreeMap::new(),
            graph: Graph::new(),
            slots: Slots::new(usize::MAX),
            deadlines: BTreeSet::new(),
            removing: BTreeSet::new(),
            unquiet: 0,
            touched: VecDeque::new(),
            changed: BTreeSet::new(),
            seed,
        }
    }

    /// Lets at most so many units (at least one) be on their way up at once. For a core without units.
    #[must_use]
    pub fn with_starts_max(mut self, starts_max: usize) -> Self {
        self.slots = Slots::new(starts_max);
        self
    }

    /// Takes one event and says what to do, in order. An event that names an unknown unit or an old
    /// incarnation changes nothing.
    #[must_use = "an action that is not carried out is a bug"]
    pub fn step(&mut self, now: Now, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        self.take(now, event, &mut out);
        self.settle(now, &mut out);
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
        self.units.get(name).map(Box::as_ref)
    }

    /// Why a unit's last runs ended, cascades back to their root; [`Why`] displays it.
    #[must_use]
    pub fn why(&self, name: &UnitName) -> Option<Why> {
        self.unit(name).map(Unit::why)
    }

    /// Every unit, by name.
    pub fn units(&self) -> impl Iterator<Item = (&UnitName, &Unit)> {
        self.units.iter().map(|(name, unit)| (name, &**unit))
    }

    /// Every unit that may look different since the last call, forgotten ones too: what a status has to be made anew of.
    pub fn take_changed(&mut self) -> BTreeSet<UnitName> {
        std::mem::take(&mut self.changed)
    }

    /// Whether no unit has a process, or waits to get one.
    #[must_use]
    pub const fn is_quiet(&self) -> bool {
        self.unquiet == 0
    }

    fn take(&mut self, now: Now, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Declare { unit, spec, last_incarnation } => self.declare(now, unit, spec, last_incarnation, out),
            Event::Remove { unit } => self.remove(now, unit, out),
            Event::Start { unit } => self.start(&unit, out),
            Event::Stop { unit, mode } => self.with(&unit, |u| u.stop(now, mode, out)),
            Event::StopAll { mode } => self.stop_all(now, mode, out),
            Event::Restart { unit } => self.restart(now, &unit, out),
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
            Event::OverThreshold { unit, incarnation, excess, restarts } => {
                self.report(&unit, incarnation, |u| u.over_threshold(now, excess, restarts, out));
            }
            Event::Exited { unit, incarnation, how } => self.report(&unit, incarnation, |u| u.exited(now, how, out)),
            Event::Unavailable { unit, incarnation, how, reason } => {
                self.report(&unit, incarnation, |u| u.unavailable(now, how, reason, out));
            }
            Event::Tick => self.tick(now, out),
        }
    }

    fn declare(&mut self, now: Now, unit: UnitName, spec: Spec, last: Incarnation, out: &mut Vec<Action>) {
        self.removing.remove(&unit);
        let former = if mutant!(DroppedNeedHolds) { Vec::new() } else { self.graph.needs(&unit).to_vec() };
        self.graph.set_needs(&unit, &spec.depends_on);
        if self.units.contains_key(&unit) {
            self.with(&unit, |u| {
                u.redeclare(now, spec, out);
                u.gate_moved(out);
            });
            // It may have waited for one that it does not need any more, and such a one for it.
            self.touched.push_back((unit, false));
            return self.release(now, &former, out);
        }
        self.changed.insert(unit.clone());
        let last = if mutant!(RunNumberForgotten) { Incarnation::NONE } else { last };
        self.units.insert(unit.clone(), Box::new(Unit::new(unit, spec, last, self.seed)));
    }

    fn remove(&mut self, now: Now, unit: UnitName, out: &mut Vec<Action>) {
        self.with(&unit, |u| u.remove(now, out));
        self.touched.push_back((unit.clone(), false));
        self.removing.insert(unit);
    }

    /// Starts a unit, and before it what it needs.
    fn start(&mut self, unit: &UnitName, out: &mut Vec<Action>) {
        let units = self.graph.to_start(unit);
        for name in &units {
            if name == unit || self.units.get(name).is_some_and(|u| Outline::of(u).is_down()) {
                self.with(name, |u| u.start(out));
            }
        }
        self.graph.settled(&units);
    }

    /// One that is down is started, with what it needs.
    fn restart(&mut self, now: Now, unit: &UnitName, out: &mut Vec<Action>) {
        if self.unit(unit).is_some_and(Unit::is_live) {
            return self.with(unit, |u| u.restart(now, out));
        }
        self.start(unit, out);
    }

    fn stop_all(&mut self, now: Now, mode: StopMode, out: &mut Vec<Action>) {
        for unit in self.units.keys().cloned().collect::<Vec<_>>() {
            self.with(&unit, |u| u.stop(now, mode, out));
        }
    }

    /// Who has to go goes first, so that nobody is spawned who would have to go with it.
    fn tick(&mut self, now: Now, out: &mut Vec<Action>) {
        let due = self.deadlines.iter().take_while(|(moment, _)| *moment <= now).map(|(_, unit)| unit.clone());
        let is_spawn = |unit: &UnitName| self.units.get(unit).is_some_and(|u| u.phase() == Phase::Restarting);
        let (spawns, others): (Vec<UnitName>, Vec<UnitName>) = due.partition(is_spawn);
        for unit in others {
            self.with(&unit, |u| u.tick(now, out));
        }
        self.settle(now, out);
        for unit in spawns {
            self.with(&unit, |u| u.tick(now, out));
        }
    }

    /// Lets the neighbours of every unit that changed look, until nothing changes any more. First all go down that have
    /// to, and only then somebody up: who goes up in the middle of a cascade might have to go down with it. Ends, because
    /// going down only follows dependents and going up only dependencies, and the graph has no cycle.
    fn settle(&mut self, now: Now, out: &mut Vec<Action>) {
        let (mut gone, mut waiting) = (Vec::new(), Vec::new());
        while !self.touched.is_empty() {
            while let Some((name, was_running)) = self.touched.pop_front() {
                self.pull_down_from(now, &name, was_running, &mut waiting, out);
                if self.removing.contains(&name) {
                    gone.push(name);
                }
            }
            for name in waiting.drain(..).filter(|_| !mutant!(WaitersNotWoken)) {
                self.with(&name, |u| u.gate_moved(out));
            }
            self.hand_out_start_slots(out);
        }
        for unit in gone {
            self.forget(unit, out);
        }
    }

    /// What the change of a unit means for who needs it, and for what it needs. `waiting`: those that shall look whether
    /// they may go up.
    fn pull_down_from(
        &mut self,
        now: Now,
        name: &UnitName,
        was_running: bool,
        waiting: &mut Vec<UnitName>,
        out: &mut Vec<Action>,
    ) {
        let unit = self.units.get(name);
        let (runs, live) = unit.map_or((false, false), |u| (u.phase() == Phase::Running, u.is_live()));
        let fell = was_running && !runs;
        let fall = unit.filter(|_| fell).and_then(|unit| unit.last_fall().cloned());
        for dependent in self.graph.dependents(name).cloned().collect::<Vec<_>>() {
            if fell {
                self.with(&dependent, |u| u.dependency_lost(now, name, fall.clone(), out));
            }
            if self.unit(&dependent).is_some_and(Unit::is_waiting) {
                waiting.push(dependent);
            }
        }
        if !live {
            let needed = self.graph.needs(name).to_vec();
            self.release(now, &needed, out);
        }
    }

    /// Lets those go on with their stop that waited for the last of their dependents to be gone.
    fn release(&mut self, now: Now, needed: &[UnitName], out: &mut Vec<Action>) {
        for name in needed.iter().filter(|_| !mutant!(HoldersNotReleased)) {
            if self.unit(name).is_some_and(Unit::is_holding) && !self.graph.has_live_dependents(name) {
                self.with(name, |u| u.dependents_gone(now, out));
            }
        }
    }

    fn hand_out_start_slots(&mut self, out: &mut Vec<Action>) {
        while self.slots.is_one_free() {
            let Some(name) = self.slots.next().cloned() else { return };
            // It goes up, or turns out to wait for something else: in both cases it leaves the queue.
            self.with(&name, |u| u.gate_moved(out));
        }
    }

    /// What a spawn of this unit would have to wait for.
    fn gate(&self, name: &UnitName) -> Gate {
        let down = self.graph.first_down(name).map(|dependency| {
            let phase = self.unit(dependency).map(Unit::phase);
            WaitsFor::Dependency(dependency.clone(), phase)
        });
        let is_one_free = self.slots.is_one_free() || mutant!(BudgetIgnored);
        let no_slot = || (!is_one_free).then_some(WaitsFor::Slot);
        Gate {
            waits_for: down.filter(|_| !mutant!(NeedsIgnored)).or_else(no_slot),
            has_live_dependents: self.graph.has_live_dependents(name),
        }
    }

    /// Runs `change` on a unit and keeps everything that is derived from it true.
    fn with(&mut self, name: &UnitName, change: impl FnOnce(&mut Unit)) {
        let gate = self.gate(name);
        let Some(unit) = self.units.get_mut(name) else { return };
        let (before, deadline_before) = (Outline::of(unit), unit.deadline());
        unit.set_gate(gate);
        change(unit);
        let (after, deadline) = (Outline::of(unit), unit.deadline());
        self.changed.insert(name.clone());
        if deadline_before != deadline {
            deadline_before
                .filter(|_| !mutant!(DeadlineKept))
                .map(|moment| self.deadlines.remove(&(moment, name.clone())));
            deadline.map(|moment| self.deadlines.insert((moment, name.clone())));
        }
        if after.is_waiting {
            self.slots.waits(name, self.graph.first_down(name).is_none());
        }
        if before != after {
            self.moved(name, before, after);
        }
    }

    /// A unit changed in a way that matters to others.
    fn moved(&mut self, name: &UnitName, before: Outline, after: Outline) {
        if before.is_waiting && !after.is_waiting {
            self.slots.left(name);
        }
        match (before.holds_slot, after.holds_slot) {
            (false, true) => self.slots.took(),
            (true, false) if !mutant!(SlotLeaked) => self.slots.gave_back(),
            _ => {}
        }
        if after.is_down() {
            self.graph.unsettle();
        }
        self.unquiet = self.unquiet + usize::from(after.is_unquiet()) - usize::from(before.is_unquiet());
        self.graph.moved(name, after.phase == Phase::Running, after.is_live);
        self.touched.push_back((name.clone(), before.phase == Phase::Running));
    }

    /// As [`Core::with`], for a report that counts only while it names the live run.
    fn report(&mut self, name: &UnitName, incarnation: Incarnation, change: impl FnOnce(&mut Unit)) {
        if self
            .units
            .get(name)
            .is_some_and(|unit| (unit.incarnation() == incarnation || mutant!(StaleReports)) && unit.is_live())
        {
            self.with(name, change);
        }
    }

    fn forget(&mut self, unit: UnitName, out: &mut Vec<Action>) {
        if self.units.get(&unit).is_some_and(|known| !known.is_forgettable()) {
            return;
        }
        self.removing.remove(&unit);
        self.graph.forget(&unit);
        self.changed.insert(unit.clone());
        if self.units.remove(&unit).is_some() {
            out.push(Action::Forget { unit });
        }
    }
}
