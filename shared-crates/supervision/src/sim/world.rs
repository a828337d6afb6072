//! One world: an owner with wishes, a supervisor that may die, processes, and reports on their way; and its course.

use std::collections::{BTreeMap, VecDeque};

use super::checks::Checks;
use super::invariant::{Invariant, Violation};
use super::os::Process;
use super::rng::Rng;
use super::shell::Record;
use super::{Stats, specs};
use crate::{Core, Event, ExitHow, Now, Phase, Spec, StopMode, UnitName};

/// How long faults last, in simulated time.
const FAULTS_MS: u64 = 30_000;
/// How long everything may take to come right afterwards.
const CALM_MS: u64 = 400_000;
/// Lines of trace kept for a failure.
const TRACE_LINES: usize = 40;

#[derive(Debug)]
pub(super) struct World {
    pub(super) seed: u64,
    pub(super) rng: Rng,
    pub(super) now: Now,
    pub(super) faulty: bool,
    pub(super) faults_until: Now,
    pub(super) core: Option<Core>,
    /// The supervisor is in the middle of something that the core has not heard all of.
    pub(super) unfinished: bool,
    /// When a supervisor is started again, while there is none.
    pub(super) reborn_at: Now,
    pub(super) starts_max: usize,
    pub(super) specs: BTreeMap<UnitName, Spec>,
    pub(super) wanted: BTreeMap<UnitName, bool>,
    pub(super) records: BTreeMap<UnitName, Record>,
    pub(super) processes: Vec<Process>,
    /// Reports on their way to the core, in order of dispatch.
    pub(super) mail: Vec<(Now, Event)>,
    pub(super) checks: Checks,
    pub(super) stats: Stats,
    pub(super) tracing: bool,
    pub(super) trace: VecDeque<String>,
}

impl World {
    pub(super) fn new(seed: u64, tracing: bool) -> Self {
        let mut rng = Rng::new(seed);
        let specs = specs::random_units(&mut rng);
        let starts_max = if rng.percent(20) { usize::MAX } else { usize::try_from(rng.between(1, 4)).unwrap_or(1) };
        let wanted = specs.keys().map(|name| (name.clone(), false)).collect();
        Self {
            seed,
            rng,
            now: Now::from_ms(0),
            faulty: true,
            faults_until: Now::from_ms(FAULTS_MS),
            core: None,
            unfinished: false,
            reborn_at: Now::from_ms(0),
            starts_max,
            checks: Checks::new(starts_max),
            specs,
            wanted,
            records: BTreeMap::new(),
            processes: Vec::new(),
            mail: Vec::new(),
            stats: Stats::default(),
            tracing,
            trace: VecDeque::new(),
        }
    }

    pub(super) fn play(&mut self) -> Result<(), Violation> {
        while self.now < self.faults_until {
            self.disturb()?;
            self.advance()?;
        }
        self.calm_down()?;
        self.settle(Self::all_that_can_runs, Invariant::WantedRuns, "without a wish")?;
        self.want_all()?;
        self.settle(Self::everything_runs, Invariant::WantedRuns, "all were asked for")?;
        self.give(Event::StopAll { mode: StopMode::Graceful })?;
        self.wanted.values_mut().for_each(|wanted| *wanted = false);
        self.settle(Self::nothing_runs, Invariant::NothingLeft, "all were stopped")
    }

    /// Faults cease. Nobody wishes anything: what can run has to come right by itself.
    fn calm_down(&mut self) -> Result<(), Violation> {
        self.faulty = false;
        self.note(|| "calm".to_owned());
        for process in &mut self.processes {
            process.heal(self.now);
        }
        if self.core.is_none() {
            self.reborn_at = self.now;
            self.rebirth()?;
        }
        // What was under way when faults ceased still arrives, but for what was said of faults.
        let is_fault = |event: &Event| {
            matches!(
                event,
                Event::HealthFailed { .. }
                    | Event::HealthBusy { .. }
                    | Event::MemoryHigh { .. }
                    | Event::OverThreshold { .. }
            )
        };
        self.mail.retain(|(_, event)| !is_fault(event));
        for (at, _) in &mut self.mail {
            *at = self.now;
        }
        self.deliver()?;
        // Whoever was silent, or never became ready, gets another chance to speak.
        let live: Vec<_> = self.processes.iter().map(|p| (p.unit.clone(), p.incarnation)).collect();
        for (unit, incarnation) in live {
            self.give(Event::WatchdogPing { unit: unit.clone(), incarnation })?;
            self.give(Event::Ready { unit, incarnation })?;
        }
        Ok(())
    }

    /// The owner wants everything and forgives everything.
    fn want_all(&mut self) -> Result<(), Violation> {
        for unit in self.names() {
            self.wanted.insert(unit.clone(), true);
            self.give(Event::Start { unit: unit.clone() })?;
            self.give(Event::Retry { unit, force: true })?;
        }
        Ok(())
    }

    fn settle(&mut self, done: impl Fn(&Self) -> bool, invariant: Invariant, when: &str) -> Result<(), Violation> {
        let until = self.now.plus_ms(CALM_MS);
        while self.now < until {
            let is_pending = self.mail.iter().any(|(_, event)| !matches!(event, Event::WatchdogPing { .. }));
            if !is_pending && done(self) {
                return Ok(());
            }
            self.advance()?;
        }
        let units = self.core.iter().flat_map(Core::units);
        let phases: Vec<String> = units
            .map(|(name, unit)| format!("{name} {} ({})", unit.phase(), unit.reason().unwrap_or("no reason")))
            .collect();
        Err(invariant.broken(format!("{when}: {}", phases.join(", "))))
    }

    /// Whoever is wanted runs, unless it gave up, or waits for one that does not run.
    fn all_that_can_runs(&self) -> bool {
        let Some(core) = &self.core else { return false };
        let runs = |name: &UnitName| core.unit(name).is_some_and(|unit| unit.phase() == Phase::Running);
        self.specs.keys().all(|name| {
            let Some(unit) = core.unit(name) else { return false };
            if !self.wanted.get(name).copied().unwrap_or(false) {
                return !self.processes.iter().any(|p| p.unit == *name);
            }
            let by_policy = unit.phase() == Phase::Stopped && unit.reason().is_some();
            let given_up = by_policy || matches!(unit.phase(), Phase::Failed | Phase::Unavailable);
            let waits = unit.is_waiting() && unit.spec().depends_on.iter().any(|need| !runs(need));
            (given_up && unit.is_wanted()) || waits || runs(name)
        })
    }

    fn everything_runs(&self) -> bool {
        let Some(core) = &self.core else { return false };
        self.specs.keys().all(|name| {
            let live = self.processes.iter().filter(|p| p.unit == *name).count();
            live == 1 && core.unit(name).is_some_and(|unit| unit.phase() == Phase::Running)
        })
    }

    fn nothing_runs(&self) -> bool {
        self.processes.is_empty() && self.core.as_ref().is_some_and(Core::is_quiet)
    }

    /// Goes to the next moment at which anything happens, and lets it happen.
    fn advance(&mut self) -> Result<(), Violation> {
        let moments = [
            self.core.as_ref().and_then(Core::deadline),
            self.core.is_none().then_some(self.reborn_at),
            self.mail.iter().map(|(at, _)| *at).min(),
            self.processes.iter().filter_map(|p| p.ends_at.map(|(at, _)| at)).min(),
            self.processes.iter().filter_map(|p| p.acts_at).min(),
            Some(self.now.plus_ms(if self.faulty { 100 } else { 10_000 })),
        ];
        let next = moments.into_iter().flatten().min().unwrap_or(self.now);
        self.now = self.now.max(next);
        self.let_processes_act();
        self.end_processes();
        if self.core.is_none() && self.reborn_at <= self.now {
            self.rebirth()?;
        }
        // Whether a report or the clock is looked at first is chance.
        if self.rng.percent(50) {
            self.tick()?;
        }
        self.deliver()?;
        self.tick()
    }

    fn tick(&mut self) -> Result<(), Violation> {
        let due = self.core.as_ref().and_then(Core::deadline).is_some_and(|deadline| deadline <= self.now);
        if due { self.give(Event::Tick) } else { Ok(()) }
    }

    fn deliver(&mut self) -> Result<(), Violation> {
        while let Some(index) = self.mail.iter().position(|(at, _)| *at <= self.now) {
            let (_, event) = self.mail.remove(index);
            if self.faulty && self.rng.percent(4) {
                self.stats.duplicates += 1;
                self.post(1, 2_000, event.clone());
            }
            self.give(event)?;
        }
        Ok(())
    }

    fn let_processes_act(&mut self) {
        let (now, faulty) = (self.now, self.faulty);
        let mut said = Vec::new();
        for process in &mut self.processes {
            // Its end may have come meanwhile.
            let until = process.ends_at.map_or(now, |(at, _)| at.min(now));
            while let Some(at) = process.acts_at.filter(|at| *at <= until) {
                let events = process.act(at, &mut self.rng, faulty);
                said.extend(events.into_iter().map(|event| (process.announced_at.max(at), event)));
            }
        }
        if self.core.is_none() {
            return;
        }
        for (at, event) in said {
            let lost = self.faulty && self.rng.percent(8);
            if !lost {
                let delay_ms = if self.rng.percent(90) { 0 } else { self.rng.between(0, 200) };
                self.mail.push((at.plus_ms(delay_ms), event));
            }
        }
    }

    fn end_processes(&mut self) {
        let now = self.now;
        let ended = |p: &Process| p.ends_at.is_some_and(|(at, _)| at <= now);
        let gone: Vec<Process> = self.processes.iter().filter(|p| ended(p)).cloned().collect();
        self.processes.retain(|p| !ended(p));
        for process in gone {
            let how = process.ends_at.map_or(ExitHow::Unknown, |(_, how)| how);
            self.stats.ends += 1;
            if self.core.is_some() {
                let is_late = self.faulty && self.rng.percent(5);
                let delay_ms = self.rng.between(0, if is_late { 5_000 } else { 30 });
                let at = process.announced_at.max(now).plus_ms(delay_ms);
                let Process { unit, incarnation, .. } = process;
                let says_why = self.faulty && !matches!(how, ExitHow::Signal(_)) && self.rng.percent(10);
                let reason = "sim".to_owned();
                let end = if says_why {
                    Event::Unavailable { unit, incarnation, how, reason }
                } else {
                    Event::Exited { unit, incarnation, how }
                };
                self.mail.push((at, end));
            }
        }
    }

    /// A report that takes its time.
    pub(super) fn post(&mut self, from_ms: u64, to_ms: u64, event: Event) {
        let at = self.now.plus_ms(self.rng.between(from_ms, to_ms));
        self.mail.push((at, event));
    }

    pub(super) fn names(&self) -> Vec<UnitName> {
        self.specs.keys().cloned().collect()
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        if !self.tracing {
            return;
        }
        if self.trace.len() == TRACE_LINES {
            self.trace.pop_front();
        }
        self.trace.push_back(format!("{:>9} {}", self.now.as_ms(), line()));
    }
}
