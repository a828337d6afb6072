//! The invariants that are looked at before and after each event.

use std::collections::BTreeMap;

use super::invariant::{Invariant, Violation};
use super::os::Process;
use super::states::Seen;
use crate::{
    Action, Cause, Core, EPISODES_MAX, Event, Incarnation, Now, Outcome, Phase, StopMode, Unit, UnitName, why,
};

/// Watches events and actions.
#[derive(Debug, Clone, Default)]
pub(super) struct Checks {
    seen: BTreeMap<UnitName, Seen>,
    starts_max: usize,
    /// The present event is a report that must change nothing.
    is_stale: bool,
    /// What the present event spawned.
    pub(super) spawned: usize,
    /// The units that the present event brought down, and why.
    pub(super) fallen: Vec<(UnitName, Cause)>,
}

impl Checks {
    pub(super) fn new(starts_max: usize) -> Self {
        Self { starts_max, ..Self::default() }
    }

    pub(super) fn supervisor_died(&mut self) {
        self.seen.values_mut().for_each(Seen::supervisor_died);
    }

    pub(super) fn of(&mut self, unit: &UnitName) -> &mut Seen {
        if !self.seen.contains_key(unit) {
            self.seen.insert(unit.clone(), Seen::default());
        }
        // It is there; the fallback is for the compiler.
        self.seen.entry(unit.clone()).or_default()
    }

    /// The phase that the changes told of it make up.
    pub(super) fn told_phase(&self, unit: &UnitName) -> Phase {
        self.seen.get(unit).and_then(|seen| seen.told.phase).unwrap_or(Phase::Stopped)
    }

    /// Before the core takes an event.
    pub(super) fn before(&mut self, now: Now, core: &Core, event: &Event) {
        self.is_stale = false;
        self.spawned = 0;
        self.fallen.clear();
        for seen in self.seen.values_mut() {
            (seen.must_fall, seen.over, seen.unavailable) = (None, None, false);
            seen.told.happened.clear();
        }
        if let Some((name, incarnation)) = report_of(event) {
            let unit = core.unit(name).filter(|unit| unit.is_live() && unit.incarnation() == incarnation);
            self.is_stale = unit.is_none();
            if let Some(unit) = unit {
                self.of(name).reported(now, unit, event);
            }
            return;
        }
        match event {
            Event::Stop { unit, mode } => self.asked_to_stop(now, core, unit, *mode),
            Event::Remove { unit } => self.asked_to_stop(now, core, unit, StopMode::Graceful),
            Event::Restart { unit } => {
                // A restart is a graceful stop for one that is stopping already.
                if core.unit(unit).is_some_and(|unit| unit.phase() == Phase::Stopping) {
                    self.asked_to_stop(now, core, unit, StopMode::Graceful);
                }
                self.forgive_with_needs(core, unit);
            }
            Event::StopAll { mode } => {
                for (name, _) in core.units() {
                    self.asked_to_stop(now, core, name, *mode);
                }
            }
            Event::Start { unit } => self.forgive_with_needs(core, unit),
            Event::Retry { unit, force: true } | Event::Declare { unit, .. } | Event::Adopted { unit, .. } => {
                self.of(unit).restarts.clear();
            }
            Event::Retry { unit, .. } => self.forgive(core, unit),
            Event::Tick => self.seen.values_mut().for_each(|seen| seen.clock_came(now)),
            _ => {}
        }
    }

    fn asked_to_stop(&mut self, now: Now, core: &Core, name: &UnitName, mode: StopMode) {
        if let Some(unit) = core.unit(name).filter(|unit| unit.is_live()) {
            self.of(name).asked_to_stop(now, unit, mode);
        }
    }

    fn forgive(&mut self, core: &Core, name: &UnitName) {
        if core.unit(name).is_some_and(|unit| matches!(unit.phase(), Phase::Failed | Phase::Unavailable)) {
            self.of(name).restarts.clear();
        }
    }

    /// A start is a wish for all the unit needs.
    fn forgive_with_needs(&mut self, core: &Core, name: &UnitName) {
        self.forgive(core, name);
        for dependency in needs(core, name) {
            self.forgive_with_needs(core, dependency);
        }
    }

    /// What the core answers at once.
    pub(super) fn answer(&self, actions: &[Action]) -> Result<(), Violation> {
        Invariant::StaleReport.holds(!self.is_stale || actions.is_empty(), || format!("led to {actions:?}"))
    }

    /// After the actions of one event were carried out.
    pub(super) fn after(
        &mut self,
        now: Now,
        core: &Core,
        processes: &[Process],
        is_end_reported: impl Fn(&UnitName, Incarnation) -> bool,
        ticked: bool,
    ) -> Result<(), Violation> {
        if ticked {
            let is_ahead = core.deadline().is_none_or(|deadline| deadline > now);
            Invariant::NoSpin.holds(is_ahead, || "a deadline has passed and stays".to_owned())?;
        }
        if self.spawned > 0 {
            let starting = core.units().filter(|(_, u)| u.phase() == Phase::Starting && !u.is_waiting()).count();
            Invariant::StartBudget.holds(starting <= self.starts_max, || format!("{starting} on their way up"))?;
        }
        for (name, unit) in core.units() {
            let process = processes.iter().find(|p| p.unit == *name);
            let down = needs(core, name).find(|need| phase(core, need) != Some(Phase::Running));
            let runs = unit.phase() == Phase::Running;
            Invariant::NeedsRun
                .holds(!(runs && down.is_some()), || format!("{name}: runs on while {down:?} does not"))?;
            Invariant::OneProcess.holds(process.is_none() || unit.is_live(), || {
                format!("{name}: has a process and is {}", unit.phase())
            })?;
            let honest = !runs || process.is_some() || is_end_reported(name, unit.incarnation());
            Invariant::HonestPhase.holds(honest, || format!("{name}: running without a process"))?;
            self.told_all(name, unit.phase())?;
            self.look_at(now, name, unit, process.is_some(), ticked)?;
        }
        for process in processes {
            let is_known = core.unit(&process.unit).is_some();
            Invariant::OneProcess.holds(is_known, || format!("{}: forgotten with a process", process.unit))?;
        }
        for (name, cause) in std::mem::take(&mut self.fallen) {
            explains(core, &name, &cause)?;
        }
        Ok(())
    }

    fn look_at(&self, now: Now, name: &UnitName, unit: &Unit, lives: bool, ticked: bool) -> Result<(), Violation> {
        let Some(seen) = self.seen.get(name) else { return Ok(()) };
        let starts = unit.phase() == Phase::Starting && !unit.is_waiting();
        let runs = unit.phase() == Phase::Running;
        let fell = !(seen.must_fall == Some(unit.incarnation()) && (starts || runs));
        Invariant::Answered.holds(fell, || format!("{name}: is {} as if nothing were", unit.phase()))?;
        Invariant::CleanedUp.holds(seen.to_clean.is_none(), || format!("{name}: {:?} was not", seen.to_clean))?;
        if !ticked {
            return Ok(());
        }
        let is_over = |by: Option<Now>| by.is_some_and(|by| by <= now);
        let again_by = seen.killed_at.map(|at| at.plus_ms(crate::unit::KILL_AGAIN_MS));
        let overdue = unit.is_live() && lives && (is_over(seen.kill_by) || is_over(again_by));
        Invariant::KilledInTime.holds(!overdue, || format!("{name}: {:?} has passed", seen.kill_by.or(again_by)))?;
        let late = (starts && is_over(seen.start_by)) || (runs && is_over(seen.reload_by));
        Invariant::Answered.holds(!late, || format!("{name}: not ready in time, and nothing follows"))?;
        let silent = runs && seen.watchdog.is_some_and(|(timeout_ms, heard)| heard.plus_ms(timeout_ms) <= now);
        Invariant::Answered.holds(!silent, || format!("{name}: silent, and nothing follows"))?;
        let longest = unit.spec().restart.backoff_max_ms;
        let waits =
            unit.phase() == Phase::Restarting && seen.restarting.is_some_and(|(at, _)| at.plus_ms(longest) <= now);
        Invariant::Backoff.holds(!waits, || format!("{name}: waits longer than {longest} ms"))?;
        let is_stable = seen.running_since.is_some_and(|at| now.ms_since(at) >= unit.spec().restart.reset_after_ms);
        Invariant::CountReset
            .holds(!(runs && is_stable) || unit.restarts() == 0, || format!("{name}: {}", unit.restarts()))
    }
}

/// The history tells of this fall, down to its root.
fn explains(core: &Core, name: &UnitName, cause: &Cause) -> Result<(), Violation> {
    let Some(why) = core.why(name) else { return Ok(()) };
    let bounded = why.episodes.len() <= EPISODES_MAX;
    Invariant::Why.holds(bounded, || format!("{name}: {} episodes", why.episodes.len()))?;
    let Some(newest) = why.episodes.first() else {
        return Err(Invariant::Why.broken(format!("{name}: nothing is told")));
    };
    let link = &newest.link;
    Invariant::Why.holds(link.cause == *cause, || format!("{name}: {:?}, not {cause:?}", link.cause))?;
    let short = link.chain().count() <= why::CHAIN_MAX;
    Invariant::Why.holds(short, || format!("{name}: a chain of {}", link.chain().count()))?;
    let Cause::DependencyLost { dependency } = cause else { return Ok(()) };
    let theirs = core.why(dependency).map(|why| why.episodes).unwrap_or_default();
    let is_down = theirs.first().is_some_and(|newest| !matches!(newest.outcome, Outcome::Running { .. }));
    let told = link.because.as_ref().is_some_and(|below| below.unit == *dependency);
    Invariant::Why.holds(told || !is_down, || format!("{name}: nothing of {dependency}'s own fall"))
}

/// The unit and run a report is about.
fn report_of(event: &Event) -> Option<(&UnitName, Incarnation)> {
    match event {
        Event::Spawned { unit, incarnation }
        | Event::SpawnFailed { unit, incarnation, .. }
        | Event::Ready { unit, incarnation }
        | Event::ExtendTimeout { unit, incarnation, .. }
        | Event::HealthOk { unit, incarnation }
        | Event::HealthFailed { unit, incarnation, .. }
        | Event::HealthBusy { unit, incarnation }
        | Event::WatchdogArmed { unit, incarnation, .. }
        | Event::WatchdogPing { unit, incarnation }
        | Event::Reloading { unit, incarnation }
        | Event::MemoryHigh { unit, incarnation, .. }
        | Event::OverThreshold { unit, incarnation, .. }
        | Event::Exited { unit, incarnation, .. }
        | Event::Unavailable { unit, incarnation, .. } => Some((unit, *incarnation)),
        _ => None,
    }
}

pub(super) fn needs<'a>(core: &'a Core, unit: &UnitName) -> impl Iterator<Item = &'a UnitName> {
    core.unit(unit).into_iter().flat_map(|unit| &unit.spec().depends_on)
}

pub(super) fn phase(core: &Core, unit: &UnitName) -> Option<Phase> {
    core.unit(unit).map(Unit::phase)
}
