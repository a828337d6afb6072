//! The simulated operating system: processes with a nature, and what they say of themselves.

use super::rng::Rng;
use crate::{Event, Excess, ExitHow, Incarnation, Now, Resource, UnitName};

/// How long a killed process may still be there, as a rule.
const DEATH_MS_MAX: u64 = 20;
/// And how long where the kernel holds it.
const STUCK_DEATH_MS_MAX: u64 = 15_000;

/// One process.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) unit: UnitName,
    pub(super) incarnation: Incarnation,
    /// When its spawn is reported: no report of it comes before.
    pub(super) announced_at: Now,
    /// When it would prove readiness; never, if absent.
    pub(super) ready_at: Option<Now>,
    /// When it ends, and how.
    pub(super) ends_at: Option<(Now, ExitHow)>,
    /// Longest silence it promises, if it has a watchdog.
    pub(super) watchdog_ms: Option<u64>,
    /// When it does next what it does now and then.
    pub(super) acts_at: Option<Now>,
    /// From when on it is silent.
    silent_from: Option<Now>,
    /// Whether that end is a signal's doing, not its own.
    signalled: bool,
    ignores_term: bool,
    asks_for_time: bool,
    /// How long it takes to end politely.
    slowness_ms: u64,
}

impl Process {
    /// A process whose nature is chance while `faulty`, and as good as can be otherwise.
    pub(super) fn new(unit: UnitName, incarnation: Incarnation, now: Now, rng: &mut Rng, faulty: bool) -> Self {
        let ready_in = rng.between(0, if faulty { 400 } else { 90 });
        let crashes = faulty && rng.percent(40);
        let how = match rng.below(5) {
            0 => ExitHow::OutOfMemory,
            1 => ExitHow::Signal(11),
            n => ExitHow::Code(i32::try_from(n % 2).unwrap_or(0)),
        };
        let lives_ms = rng.between(0, 3_000);
        let watchdog_ms = rng.percent(30).then(|| rng.between(300, 3_000));
        let first_act_ms = rng.between(0, if faulty { 900 } else { 90 });
        let acts_at = (watchdog_ms.is_some() || (faulty && rng.percent(50))).then(|| now.plus_ms(first_act_ms));
        Self {
            unit,
            incarnation,
            announced_at: now.plus_ms(if faulty { rng.between(0, 30) } else { 0 }),
            ready_at: (!faulty || rng.percent(85)).then(|| now.plus_ms(ready_in)),
            ends_at: crashes.then(|| (now.plus_ms(lives_ms), how)),
            watchdog_ms,
            acts_at,
            silent_from: (faulty && rng.percent(30)).then(|| now.plus_ms(rng.between(0, 5_000))),
            signalled: false,
            ignores_term: faulty && rng.percent(20),
            asks_for_time: faulty && rng.percent(15),
            slowness_ms: rng.between(0, if faulty { 2_000 } else { 100 }),
        }
    }

    /// From now on it behaves.
    pub(super) fn heal(&mut self, now: Now) {
        self.ignores_term = false;
        self.silent_from = None;
        if !self.signalled {
            self.ends_at = None;
        }
        if self.watchdog_ms.is_some() {
            self.acts_at = Some(now);
        }
        self.slowness_ms = self.slowness_ms.min(100);
        self.ready_at = self.ready_at.or(Some(now));
    }

    /// What it, or a probe of it, says at this moment.
    pub(super) fn act(&mut self, now: Now, rng: &mut Rng, faulty: bool) -> Vec<Event> {
        let (unit, incarnation) = (self.unit.clone(), self.incarnation);
        self.acts_at = match (self.watchdog_ms, faulty) {
            (Some(timeout_ms), _) => Some(now.plus_ms(timeout_ms / 3 + 1)),
            (None, true) => Some(now.plus_ms(rng.between(50, 1_500))),
            (None, false) => None,
        };
        if self.silent_from.is_some_and(|from| from <= now) {
            return Vec::new();
        }
        let mut said = Vec::new();
        if self.watchdog_ms.is_some() {
            said.push(Event::WatchdogPing { unit: unit.clone(), incarnation });
        }
        if !faulty {
            return said;
        }
        match rng.below(40) {
            0 => said.push(Event::MemoryHigh { unit, incarnation, bytes: 2, limit: 1 }),
            1..=2 => said.push(Event::Reloading { unit, incarnation }),
            3..=4 => said.push(Event::Ready { unit, incarnation }),
            5..=9 => said.push(Event::HealthFailed { unit, incarnation, reason: "sim".to_owned() }),
            10..=14 => said.push(Event::HealthBusy { unit, incarnation }),
            15..=19 => said.push(Event::HealthOk { unit, incarnation }),
            21..=22 => {
                let excess = Excess { resource: Resource::Cpu, used: 2, limit: 1, for_ms: 1 };
                said.push(Event::OverThreshold { unit, incarnation, excess, restarts: rng.percent(30) });
            }
            20 => said.push(Event::ExtendTimeout { unit, incarnation, by_ms: rng.between(0, 2_000) }),
            _ => {}
        }
        said
    }

    /// The polite signal. It may ask for more time.
    pub(super) fn terminate(&mut self, now: Now) -> Option<Event> {
        if !self.ignores_term {
            self.end_by(now.plus_ms(self.slowness_ms), ExitHow::Code(0));
        }
        let (unit, incarnation, by_ms) = (self.unit.clone(), self.incarnation, self.slowness_ms);
        self.asks_for_time.then_some(Event::ExtendTimeout { unit, incarnation, by_ms })
    }

    pub(super) fn kill(&mut self, now: Now, rng: &mut Rng, faulty: bool) {
        let slow = faulty && rng.percent(3);
        let takes_ms = rng.below(if slow { STUCK_DEATH_MS_MAX } else { DEATH_MS_MAX });
        self.end_by(now.plus_ms(takes_ms), ExitHow::Signal(9));
    }

    /// Time stood still for it.
    pub(super) fn shift(&mut self, by_ms: u64) {
        let later = |at: Option<Now>| at.map(|at| at.plus_ms(by_ms));
        self.announced_at = self.announced_at.plus_ms(by_ms);
        self.ready_at = later(self.ready_at);
        self.acts_at = later(self.acts_at);
        self.silent_from = later(self.silent_from);
        self.ends_at = self.ends_at.map(|(at, how)| (at.plus_ms(by_ms), how));
    }

    fn end_by(&mut self, moment: Now, how: ExitHow) {
        if self.ends_at.is_none_or(|(earlier, _)| moment < earlier) {
            self.ends_at = Some((moment, how));
            self.signalled = true;
        }
    }
}
