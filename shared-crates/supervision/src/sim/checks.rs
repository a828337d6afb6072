//! The invariants, each checked after every event.

use std::collections::BTreeMap;

use super::os::Process;
use crate::{Action, Change, Core, Event, Incarnation, Now, Phase, StopMode, UnitName};

/// What the checker remembers of one unit.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// Newest run ordered.
    spawned: Incarnation,
    /// Newest run whose end was reported to the core.
    ended: Incarnation,
    /// Moment by which the live process must have been killed or be gone.
    kill_by: Option<Now>,
    /// Whether the live process was sent the kill.
    killed: bool,
    /// Since when it runs.
    running_since: Option<Now>,
    /// Automatic restarts since the owner last asked for anything.
    restarts: Vec<Now>,
}

/// Watches events and actions.
#[derive(Debug, Clone, Default)]
pub(super) struct Checks {
    seen: BTreeMap<UnitName, Seen>,
}

impl Checks {
    /// A supervisor died: what it had promised died with it, what it had done did not.
    pub(super) fn supervisor_died(&mut self) {
        for seen in self.seen.values_mut() {
            seen.kill_by = None;
            seen.killed = false;
            seen.restarts.clear();
        }
    }

    /// Before the core takes an event.
    pub(super) fn before(&mut self, now: Now, core: &Core, event: &Event) {
        match event {
            Event::Stop { unit, mode } => {
                let Some(known) = core.unit(unit).filter(|u| u.is_live()) else { return };
                // Until its dependents are gone it is held; their own bounds count meanwhile.
                if core.units().any(|(_, other)| other.is_live() && other.spec().depends_on.contains(unit)) {
                    return;
                }
                let patience_ms = match mode {
                    StopMode::Graceful => known.spec().stop_timeout_ms,
                    StopMode::Within { timeout_ms } => *timeout_ms,
                    StopMode::Now => 0,
                };
                let by = now.plus_ms(patience_ms);
                let seen = self.of(unit);
                if seen.killed {
                    return;
                }
                seen.kill_by = Some(seen.kill_by.map_or(by, |earlier| earlier.min(by)));
            }
            Event::Start { unit } => self.forgive(core, unit),
            Event::Restart { unit } | Event::Retry { unit, .. } => self.of(unit).restarts.clear(),
            Event::Declare { unit, .. } | Event::Adopted { unit, .. } => self.of(unit).restarts.clear(),
            Event::Exited { unit, incarnation, .. } | Event::SpawnFailed { unit, incarnation, .. } => {
                let seen = self.of(unit);
                seen.ended = seen.ended.max(*incarnation);
            }
            _ => {}
        }
    }

    /// One action, before it is carried out.
    pub(super) fn action(
        &mut self,
        now: Now,
        core: &Core,
        processes: &[Process],
        action: &Action,
    ) -> Result<(), String> {
        match action {
            Action::Spawn { unit, incarnation } => {
                let seen = self.of(unit);
                if *incarnation <= seen.spawned {
                    return Err(format!("{unit}: run {incarnation} ordered after {}", seen.spawned));
                }
                seen.spawned = *incarnation;
                seen.killed = false;
                seen.kill_by = None;
                if let Some(live) = processes.iter().find(|p| p.unit == *unit) {
                    return Err(format!("{unit}: {incarnation} ordered while {} lives", live.incarnation));
                }
                if let Some(down) = dependencies(core, unit).find(|name| phase(core, name) != Some(Phase::Running)) {
                    return Err(format!("{unit}: {incarnation} ordered while {down} does not run"));
                }
            }
            Action::Terminate { unit, incarnation } | Action::Kill { unit, incarnation } => {
                let seen = self.of(unit);
                let polite = matches!(action, Action::Terminate { .. });
                let mut others = core.units();
                if let Some((other, _)) =
                    others.find(|(_, u)| polite && u.is_live() && u.spec().depends_on.contains(unit))
                {
                    return Err(format!("{unit}: asked to end while {other}, which needs it, lives"));
                }
                if *incarnation <= seen.ended {
                    return Err(format!("{unit}: signal for {incarnation}, whose end was reported"));
                }
                if matches!(action, Action::Kill { .. }) {
                    seen.kill_by = None;
                    seen.killed = true;
                }
            }
            Action::Changed(Change { unit, to: Phase::Restarting, .. }) => {
                let Some(spec) = core.unit(unit).map(|u| u.spec().restart.clone()) else { return Ok(()) };
                let seen = self.of(unit);
                let stable = seen.running_since.take().is_some_and(|since| now.ms_since(since) >= spec.reset_after_ms);
                if stable {
                    seen.restarts.clear();
                }
                seen.restarts.retain(|moment| now.ms_since(*moment) < spec.within_ms);
                seen.restarts.push(now);
                if seen.restarts.len() > spec.restarts_max as usize {
                    return Err(format!("{unit}: {} restarts in its window", seen.restarts.len()));
                }
            }
            Action::Changed(Change { unit, to: Phase::Running, .. }) => self.of(unit).running_since = Some(now),
            Action::Changed(Change { unit, to: Phase::Starting, .. }) => self.of(unit).running_since = None,
            _ => {}
        }
        Ok(())
    }

    /// After the actions of one event were carried out. `reports_pending`: ends on their way to the core.
    pub(super) fn after(
        &mut self,
        now: Now,
        core: &Core,
        processes: &[Process],
        reports_pending: &[(UnitName, Incarnation)],
        ticked: bool,
    ) -> Result<(), String> {
        if ticked && core.deadline().is_some_and(|deadline| deadline <= now) {
            return Err("a tick left a deadline that has passed: the shell would spin".to_owned());
        }
        for (name, unit) in core.units() {
            let down = dependencies(core, name).find(|dependency| phase(core, dependency) != Some(Phase::Running));
            if let (Phase::Running, Some(down)) = (unit.phase(), down) {
                return Err(format!("{name}: runs on while {down} does not"));
            }
            let process = processes.iter().find(|p| p.unit == *name);
            if let Some(process) = process
                && !unit.is_live()
            {
                return Err(format!("{name}: {} lives, but the unit is {}", process.incarnation, unit.phase()));
            }
            if unit.phase() == Phase::Running
                && process.is_none()
                && !reports_pending.contains(&(name.clone(), unit.incarnation()))
            {
                return Err(format!("{name}: running without a process"));
            }
            let overdue = self.of(name).kill_by.is_some_and(|by| by < now);
            if overdue && ticked && process.is_some() && unit.phase() == Phase::Stopping && !unit.is_wanted() {
                return Err(format!("{name}: not killed in time"));
            }
        }
        for process in processes {
            if core.unit(&process.unit).is_none() {
                return Err(format!("{}: forgotten while {} lives", process.unit, process.incarnation));
            }
        }
        Ok(())
    }

    /// A start is a wish for all the unit needs.
    fn forgive(&mut self, core: &Core, unit: &UnitName) {
        self.of(unit).restarts.clear();
        for dependency in dependencies(core, unit) {
            self.forgive(core, dependency);
        }
    }

    fn of(&mut self, unit: &UnitName) -> &mut Seen {
        self.seen.entry(unit.clone()).or_default()
    }
}

fn dependencies<'a>(core: &'a Core, unit: &UnitName) -> impl Iterator<Item = &'a UnitName> {
    core.unit(unit).into_iter().flat_map(|unit| &unit.spec().depends_on)
}

fn phase(core: &Core, unit: &UnitName) -> Option<Phase> {
    core.unit(unit).map(crate::Unit::phase)
}
