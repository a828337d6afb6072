//! The supervisor of a world: gives events to the core, carries out what it says, keeps records, dies and is reborn.

use super::invariant::{Invariant, Violation};
use super::os::Process;
use super::world::World;
use crate::{Action, Cause, Change, Core, Event, Incarnation, Phase, SpawnErrorKind, Stage, StopMode, UnitName};

/// What outlives a supervisor: the state file of a unit.
#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    pub(super) incarnation: Incarnation,
    stage: Stage,
    restarts: u32,
}

impl World {
    pub(super) fn supervisor_dies(&mut self) {
        self.note(|| "the supervisor dies".to_owned());
        self.stats.supervisor_deaths += 1;
        self.core = None;
        self.mail.clear();
        self.checks.supervisor_died();
        self.reborn_at = self.now.plus_ms(self.rng.between(0, 2_000));
    }

    /// A new supervisor reads the records, adopts what lives and goes on with the owner's wishes.
    pub(super) fn rebirth(&mut self) -> Result<(), Violation> {
        self.note(|| "a supervisor starts".to_owned());
        self.core = Some(Core::new(self.seed).with_starts_max(self.starts_max));
        self.unfinished = true;
        for unit in self.names() {
            let declaration = self.declaration(unit.clone());
            self.give(declaration)?;
            let Record { incarnation, stage, restarts } = self.records.get(&unit).cloned().unwrap_or_default();
            if let Some(process) = self.process(&unit, incarnation) {
                let watchdog_ms = process.watchdog_ms;
                self.stats.adoptions += 1;
                self.give(Event::Adopted { unit: unit.clone(), incarnation, stage, restarts })?;
                if let Some(timeout_ms) = watchdog_ms {
                    self.give(Event::WatchdogArmed { unit, incarnation, timeout_ms })?;
                }
            }
        }
        self.unfinished = false;
        self.give(Event::AdoptionDone)?;
        for unit in self.names() {
            if self.wanted.get(&unit).copied().unwrap_or(false) {
                self.want(&unit);
            }
        }
        for unit in self.names() {
            let lives = self.processes.iter().any(|p| p.unit == unit);
            match (lives, self.wanted.get(&unit).copied().unwrap_or(false)) {
                (_, true) => self.give(Event::Start { unit })?,
                (true, false) => self.give(Event::Stop { unit, mode: StopMode::Graceful })?,
                _ => {}
            }
        }
        Ok(())
    }

    pub(super) fn declaration(&mut self, unit: UnitName) -> Event {
        let spec = self.specs.entry(unit.clone()).or_default().clone();
        let last_incarnation = self.records.get(&unit).map(|r| r.incarnation).unwrap_or_default();
        Event::Declare { spec, unit, last_incarnation }
    }

    /// One event through the core, and what follows from it; the supervisor may die between any two actions.
    pub(super) fn give(&mut self, event: Event) -> Result<(), Violation> {
        let Some(mut core) = self.core.take() else { return Ok(()) };
        self.stats.events += 1;
        // Most of all events, and of no interest to a reader.
        if !matches!(event, Event::WatchdogPing { .. }) {
            self.note(|| format!("{event:?}"));
        }
        let is_tick = event == Event::Tick;
        self.checks.before(self.now, &core, &event);
        let actions = core.step(self.now, event);
        self.checks.answer(&actions)?;
        for action in actions {
            if self.faulty && !self.unfinished && self.rng.below(1_000) == 0 {
                self.supervisor_dies();
                return Ok(());
            }
            self.note(|| format!("    {action:?}"));
            self.checks.action(self.now, &core, &self.processes, &action)?;
            if let (Action::Spawn { unit, .. }, false) = (&action, self.unfinished) {
                let wanted = self.wanted.get(unit).copied().unwrap_or(false);
                Invariant::Unwanted.holds(wanted, || format!("{unit}: spawned, though nobody wants it"))?;
            }
            self.carry_out(action, &core);
        }
        if !self.unfinished {
            let mail = &self.mail;
            let is_reported = |unit: &UnitName, run| {
                let mut events = mail.iter().map(|(_, event)| event);
                events.any(|event| match event {
                    Event::Exited { unit: of, incarnation, .. } | Event::Unavailable { unit: of, incarnation, .. } => {
                        of == unit && *incarnation == run
                    }
                    _ => false,
                })
            };
            self.checks.after(self.now, &core, &self.processes, is_reported, is_tick)?;
        }
        self.core = Some(core);
        Ok(())
    }

    fn carry_out(&mut self, action: Action, core: &Core) {
        match action {
            Action::Spawn { unit, incarnation } => self.spawn(unit, incarnation, core),
            Action::AwaitReady { unit, incarnation } => {
                let ready_at = self.process(&unit, incarnation).and_then(|p| p.ready_at);
                let lost = self.faulty && self.rng.percent(3);
                if let (Some(at), false) = (ready_at, lost) {
                    self.mail.push((at.max(self.now), Event::Ready { unit, incarnation }));
                }
            }
            Action::WatchHealth { unit, incarnation } => {
                let failures = if self.faulty && self.rng.percent(10) { 3 } else { 0 };
                for _ in 0..failures {
                    let report = Event::HealthFailed { unit: unit.clone(), incarnation, reason: "sim".to_owned() };
                    self.post(0, 3_000, report);
                }
            }
            Action::Terminate { unit, incarnation } => {
                self.record_ending(&unit);
                let now = self.now;
                let plea = self.process(&unit, incarnation).and_then(|p| p.terminate(now));
                if let Some(plea) = plea {
                    self.post(0, 50, plea);
                }
            }
            Action::Kill { unit, incarnation } => {
                self.stats.kills += 1;
                self.record_ending(&unit);
                let (now, faulty, mut rng) = (self.now, self.faulty, self.rng.clone());
                self.process(&unit, incarnation).into_iter().for_each(|p| p.kill(now, &mut rng, faulty));
                self.rng = rng;
            }
            Action::Cleanup { .. } | Action::Forget { .. } => {}
            Action::Happened(_) => self.stats.happenings += 1,
            Action::Changed(change) => self.changed(&change, core),
        }
    }

    fn changed(&mut self, change: &Change, core: &Core) {
        self.stats.failures += u64::from(change.to == Phase::Failed);
        match change.cause {
            Cause::DependencyLost { .. } => self.stats.cascades += 1,
            Cause::Unhealthy { .. }
            | Cause::Hung { .. }
            | Cause::MemoryHigh { .. }
            | Cause::OverThreshold(_)
            | Cause::WatchdogMissed { .. }
            | Cause::ReloadTimedOut { .. } => self.stats.faults_answered += 1,
            _ => {}
        }
        let restarts = core.unit(&change.unit).map_or(0, crate::Unit::restarts);
        if let Some(record) = self.records.get_mut(&change.unit) {
            if change.to == Phase::Running {
                record.stage = Stage::Ready;
            }
            record.restarts = restarts;
        }
    }

    fn spawn(&mut self, unit: UnitName, incarnation: Incarnation, core: &Core) {
        self.stats.spawns += 1;
        let restarts = core.unit(&unit).map_or(0, crate::Unit::restarts);
        self.records.insert(unit.clone(), Record { incarnation, stage: Stage::Starting, restarts });
        if self.faulty && self.rng.percent(10) {
            self.stats.spawn_failures += 1;
            let kind = if self.rng.percent(30) { SpawnErrorKind::Unavailable } else { SpawnErrorKind::Failed };
            return self.post(0, 20, Event::SpawnFailed { unit, incarnation, kind, reason: "sim".to_owned() });
        }
        let process = Process::new(unit.clone(), incarnation, self.now, &mut self.rng, self.faulty);
        let (at, watchdog_ms) = (process.announced_at, process.watchdog_ms);
        self.processes.push(process);
        self.mail.push((at, Event::Spawned { unit: unit.clone(), incarnation }));
        if let Some(timeout_ms) = watchdog_ms {
            self.mail.push((at, Event::WatchdogArmed { unit, incarnation, timeout_ms }));
        }
    }

    fn record_ending(&mut self, unit: &UnitName) {
        if let Some(record) = self.records.get_mut(unit) {
            record.stage = Stage::Ending;
        }
    }

    fn process(&mut self, unit: &UnitName, incarnation: Incarnation) -> Option<&mut Process> {
        self.processes.iter_mut().find(|p| p.unit == *unit && p.incarnation == incarnation)
    }
}
