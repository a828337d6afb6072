//! One world: an owner with wishes, a supervisor that may die, processes, and reports on their way.

use std::collections::{BTreeMap, VecDeque};

use super::checks::Checks;
use super::os::Process;
use super::rng::Rng;
use super::{Broken, Stats};
use crate::{
    Action, Change, Core, Event, ExitHow, Incarnation, Now, Phase, Policy, Restart, SpawnErrorKind, Spec, Stage,
    StopMode, UnitName,
};

/// How long faults last, in simulated time.
const FAULTS_MS: u64 = 30_000;
/// How long everything may take to come right afterwards.
const CALM_MS: u64 = 400_000;
/// Lines of trace kept for a failure.
const TRACE_LINES: usize = 40;

/// What outlives a supervisor: the state file of a unit.
#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    pub(super) incarnation: Incarnation,
    stage: Stage,
    restarts: u32,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) rng: Rng,
    pub(super) now: Now,
    pub(super) faulty: bool,
    pub(super) core: Option<Core>,
    /// A new supervisor has not read all records yet: it cannot know of everything that lives.
    pub(super) reviving: bool,
    /// When a supervisor is started again, while there is none.
    pub(super) reborn_at: Now,
    pub(super) starts_max: usize,
    pub(super) specs: BTreeMap<UnitName, Spec>,
    pub(super) wanted: BTreeMap<UnitName, bool>,
    pub(super) records: BTreeMap<UnitName, Record>,
    pub(super) processes: Vec<Process>,
    /// Reports and wishes on their way to the core, in order of arrival.
    pub(super) mail: Vec<(Now, Event)>,
    pub(super) checks: Checks,
    pub(super) stats: Stats,
    pub(super) trace: VecDeque<String>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut specs: BTreeMap<UnitName, Spec> = BTreeMap::new();
        for n in 0..rng.between(1, 5) {
            // A unit may need any of those before it: no cycle can come about.
            let depends_on = specs.keys().filter(|_| rng.percent(30)).cloned().collect();
            specs.insert(UnitName::new(&format!("u{n}")), Spec { depends_on, ..random_spec(&mut rng) });
        }
        let starts_max = usize::try_from(rng.between(1, 4)).unwrap_or(1);
        let wanted = specs.keys().map(|name| (name.clone(), false)).collect();
        Self {
            seed,
            rng,
            now: Now::from_ms(0),
            faulty: true,
            core: None,
            reviving: false,
            reborn_at: Now::from_ms(0),
            starts_max,
            specs,
            wanted,
            records: BTreeMap::new(),
            processes: Vec::new(),
            mail: Vec::new(),
            checks: Checks::default(),
            stats: Stats::default(),
            trace: VecDeque::new(),
        }
    }

    pub(super) const fn stats(&self) -> Stats {
        self.stats
    }

    pub(super) fn broken(&self, what: String) -> Broken {
        let trace = self.trace.iter().cloned().collect::<Vec<_>>().join("\n");
        Broken { seed: self.seed, event: self.stats.events, what, trace }
    }

    pub(super) fn play(&mut self) -> Result<(), String> {
        while self.now.as_ms() < FAULTS_MS {
            self.disturb()?;
            self.advance()?;
        }
        self.calm_down()?;
        self.settle(|world| world.everything_wanted_runs(), "not everything wanted runs after faults ceased")?;
        self.give(Event::StopAll { mode: StopMode::Graceful })?;
        self.wanted.values_mut().for_each(|wanted| *wanted = false);
        self.settle(|world| world.nothing_runs(), "something is left after everything was stopped")
    }

    /// Faults cease; the owner wants everything and forgives everything.
    fn calm_down(&mut self) -> Result<(), String> {
        self.faulty = false;
        self.note("calm".to_owned());
        for process in &mut self.processes {
            process.heal(self.now);
        }
        if self.core.is_none() {
            self.reborn_at = self.now;
            self.rebirth()?;
        }
        // What was under way when faults ceased still arrives, but for probes that fail.
        self.mail.retain(|(_, event)| !matches!(event, Event::HealthFailed { .. }));
        while let Some((_, event)) = (!self.mail.is_empty()).then(|| self.mail.remove(0)) {
            self.give(event)?;
        }
        // Whoever never became ready gets another chance to say so.
        let live: Vec<_> = self.processes.iter().map(|p| (p.unit.clone(), p.incarnation)).collect();
        for (unit, incarnation) in live {
            self.give(Event::Ready { unit, incarnation })?;
        }
        for unit in self.names() {
            self.wanted.insert(unit.clone(), true);
            self.give(Event::Start { unit: unit.clone() })?;
            self.give(Event::Retry { unit, force: true })?;
        }
        Ok(())
    }

    fn settle(&mut self, done: impl Fn(&Self) -> bool, otherwise: &str) -> Result<(), String> {
        let until = self.now.plus_ms(CALM_MS);
        while self.now < until {
            if self.mail.is_empty() && done(self) {
                return Ok(());
            }
            self.advance()?;
        }
        let phases: Vec<String> =
            self.core.iter().flat_map(Core::units).map(|(name, unit)| format!("{name} {}", unit.phase())).collect();
        Err(format!("{otherwise}: {}", phases.join(", ")))
    }

    fn everything_wanted_runs(&self) -> bool {
        let Some(core) = &self.core else { return false };
        self.names().iter().all(|name| {
            let live = self.processes.iter().filter(|p| p.unit == *name).count();
            live == 1 && core.unit(name).is_some_and(|unit| unit.phase() == Phase::Running)
        })
    }

    fn nothing_runs(&self) -> bool {
        self.processes.is_empty() && self.core.as_ref().is_some_and(Core::is_quiet)
    }

    pub(super) fn supervisor_dies(&mut self) -> Result<(), String> {
        self.note("the supervisor dies".to_owned());
        self.stats.supervisor_deaths += 1;
        self.core = None;
        self.mail.clear();
        self.checks.supervisor_died();
        self.reborn_at = self.now.plus_ms(self.rng.between(0, 2_000));
        Ok(())
    }

    /// A new supervisor reads the records, adopts what lives and goes on with the owner's wishes.
    fn rebirth(&mut self) -> Result<(), String> {
        self.note("a supervisor starts".to_owned());
        self.core = Some(Core::new(self.seed).with_starts_max(self.starts_max));
        self.reviving = true;
        for unit in self.names() {
            let declaration = self.redeclaration(unit.clone(), false);
            self.give(declaration)?;
            let Record { incarnation, stage, restarts } = self.records.get(&unit).cloned().unwrap_or_default();
            if self.process(&unit, incarnation).is_some() {
                self.stats.adoptions += 1;
                self.give(Event::Adopted { unit, incarnation, stage, restarts })?;
            }
        }
        self.reviving = false;
        self.give(Event::AdoptionDone)?;
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

    /// Goes to the next moment at which anything happens, and lets it happen.
    fn advance(&mut self) -> Result<(), String> {
        let moments = [
            self.core.as_ref().and_then(Core::deadline),
            self.core.is_none().then_some(self.reborn_at),
            self.mail.iter().map(|(at, _)| *at).min(),
            self.processes.iter().filter_map(|p| p.ends_at.map(|(at, _)| at)).min(),
            Some(self.now.plus_ms(if self.faulty { 100 } else { 10_000 })),
        ];
        let next = moments.into_iter().flatten().min().unwrap_or(self.now);
        self.now = self.now.max(next);
        self.end_processes();
        if self.core.is_none() && self.reborn_at <= self.now {
            self.rebirth()?;
        }
        while let Some(index) = self.mail.iter().position(|(at, _)| *at <= self.now) {
            let (_, event) = self.mail.remove(index);
            self.give(event)?;
        }
        if self.core.as_ref().and_then(Core::deadline).is_some_and(|deadline| deadline <= self.now) {
            self.give(Event::Tick)?;
        }
        Ok(())
    }

    fn end_processes(&mut self) {
        let now = self.now;
        let ended = |p: &Process| p.ends_at.is_some_and(|(at, _)| at <= now);
        let gone: Vec<Process> = self.processes.iter().filter(|p| ended(p)).cloned().collect();
        self.processes.retain(|p| !ended(p));
        for process in gone {
            let how = process.ends_at.map_or(ExitHow::Unknown, |(_, how)| how);
            self.stats.crashes += u64::from(how != ExitHow::Signal(9));
            if self.core.is_some() {
                self.post(0, 30, Event::Exited { unit: process.unit, incarnation: process.incarnation, how });
            }
        }
    }

    pub(super) fn give(&mut self, event: Event) -> Result<(), String> {
        let Some(mut core) = self.core.take() else { return Ok(()) };
        self.stats.events += 1;
        self.note(format!("{event:?}"));
        self.checks.before(self.now, &core, &event);
        let ticked = event == Event::Tick;
        let actions = core.step(self.now, event);
        let mut result = Ok(());
        for action in actions {
            self.note(format!("    {action:?}"));
            result = self.checks.action(self.now, &core, &self.processes, &action);
            if result.is_err() {
                break;
            }
            self.carry_out(action, &core);
        }
        let pending: Vec<_> = self
            .mail
            .iter()
            .filter_map(|(_, event)| match event {
                Event::Exited { unit, incarnation, .. } => Some((unit.clone(), *incarnation)),
                _ => None,
            })
            .collect();
        if !self.reviving {
            result = result.and_then(|()| self.checks.after(self.now, &core, &self.processes, &pending, ticked));
        }
        self.core = Some(core);
        result
    }

    fn carry_out(&mut self, action: Action, core: &Core) {
        match action {
            Action::Spawn { unit, incarnation } => self.spawn(unit, incarnation),
            Action::AwaitReady { unit, incarnation } => {
                let ready_at = self.processes.iter().find(|p| p.unit == unit).and_then(|p| p.ready_at);
                if let Some(at) = ready_at {
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
                self.process(&unit, incarnation).into_iter().for_each(|p| p.terminate(now));
            }
            Action::Kill { unit, incarnation } => {
                self.stats.kills += 1;
                self.record_ending(&unit);
                let (now, mut rng) = (self.now, self.rng.clone());
                self.process(&unit, incarnation).into_iter().for_each(|p| p.kill(now, &mut rng));
                self.rng = rng;
            }
            Action::Cleanup { .. } | Action::Forget { .. } => {}
            Action::Changed(Change { unit, to, .. }) => {
                self.stats.failures += u64::from(to == Phase::Failed);
                let restarts = core.unit(&unit).map_or(0, crate::Unit::restarts);
                if let Some(record) = self.records.get_mut(&unit) {
                    if to == Phase::Running {
                        record.stage = Stage::Ready;
                    }
                    record.restarts = restarts;
                }
            }
        }
    }

    fn spawn(&mut self, unit: UnitName, incarnation: Incarnation) {
        self.stats.spawns += 1;
        let record = Record { incarnation, ..self.records.get(&unit).cloned().unwrap_or_default() };
        self.records.insert(unit.clone(), Record { stage: Stage::Starting, ..record });
        if self.faulty && self.rng.percent(10) {
            let kind = if self.rng.percent(30) { SpawnErrorKind::Unavailable } else { SpawnErrorKind::Failed };
            return self.post(0, 20, Event::SpawnFailed { unit, incarnation, kind, reason: "sim".to_owned() });
        }
        let process = Process::new(unit.clone(), incarnation, self.now, &mut self.rng, self.faulty);
        self.processes.push(process);
        // No end can be reported before the spawn is.
        self.mail.push((self.now, Event::Spawned { unit, incarnation }));
    }

    fn record_ending(&mut self, unit: &UnitName) {
        if let Some(record) = self.records.get_mut(unit) {
            record.stage = Stage::Ending;
        }
    }

    fn process(&mut self, unit: &UnitName, incarnation: Incarnation) -> Option<&mut Process> {
        self.processes.iter_mut().find(|p| p.unit == *unit && p.incarnation == incarnation)
    }

    /// A report that takes its time.
    fn post(&mut self, from_ms: u64, to_ms: u64, event: Event) {
        let at = self.now.plus_ms(self.rng.between(from_ms, to_ms));
        self.mail.push((at, event));
    }

    pub(super) fn names(&self) -> Vec<UnitName> {
        self.specs.keys().cloned().collect()
    }

    pub(super) fn note(&mut self, line: String) {
        if self.trace.len() == TRACE_LINES {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{:>9} {line}", self.now.as_ms()));
    }
}

fn random_spec(rng: &mut Rng) -> Spec {
    let policies = [Policy::Always, Policy::Always, Policy::OnFailure, Policy::Never];
    let backoff_min_ms = rng.between(0, 200);
    Spec {
        restart: Restart {
            policy: rng.pick(&policies).copied().unwrap_or(Policy::Always),
            backoff_min_ms,
            backoff_max_ms: backoff_min_ms + rng.between(0, 5_000),
            restarts_max: u32::try_from(rng.between(0, 8)).unwrap_or(0),
            within_ms: rng.between(1, 20_000),
            reset_after_ms: rng.between(500, 20_000),
        },
        proves_ready: rng.percent(80),
        start_timeout_ms: rng.between(100, 2_000),
        stop_timeout_ms: rng.between(1, 1_500),
        health_failures_max: u32::try_from(rng.below(4)).unwrap_or(0),
        health_busy_max: u32::try_from(rng.below(4)).unwrap_or(0),
        depends_on: Vec::new(),
        launch_fingerprint: 0,
    }
}
