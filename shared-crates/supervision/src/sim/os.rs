//! The simulated operating system: processes with a nature, and what it reports of them.

use super::rng::Rng;
use crate::{ExitHow, Incarnation, Now, UnitName};

/// How long a killed process may still be there.
const DEATH_MS_MAX: u64 = 20;

/// One process.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) unit: UnitName,
    pub(super) incarnation: Incarnation,
    /// When it would prove readiness; never, if absent.
    pub(super) ready_at: Option<Now>,
    /// When it ends, and how.
    pub(super) ends_at: Option<(Now, ExitHow)>,
    /// Whether that end is a signal's doing, not its own.
    signalled: bool,
    ignores_term: bool,
    /// How long it takes to end politely.
    slowness_ms: u64,
}

impl Process {
    /// A process whose nature is chance while `faulty`, and as good as can be otherwise.
    pub(super) fn new(unit: UnitName, incarnation: Incarnation, now: Now, rng: &mut Rng, faulty: bool) -> Self {
        let ready_in = rng.between(0, if faulty { 400 } else { 90 });
        let crashes = faulty && rng.percent(40);
        let code = i32::try_from(rng.below(2)).unwrap_or(0);
        let lives_ms = rng.between(0, 3_000);
        Self {
            unit,
            incarnation,
            ready_at: (!faulty || rng.percent(85)).then(|| now.plus_ms(ready_in)),
            ends_at: crashes.then(|| (now.plus_ms(lives_ms), ExitHow::Code(code))),
            signalled: false,
            ignores_term: faulty && rng.percent(20),
            slowness_ms: rng.between(0, if faulty { 2_000 } else { 100 }),
        }
    }

    /// From now on it behaves.
    pub(super) fn heal(&mut self, now: Now) {
        self.ignores_term = false;
        if !self.signalled {
            self.ends_at = None;
        }
        self.slowness_ms = self.slowness_ms.min(100);
        self.ready_at = self.ready_at.or(Some(now));
    }

    pub(super) fn terminate(&mut self, now: Now) {
        if !self.ignores_term {
            self.end_by(now.plus_ms(self.slowness_ms), ExitHow::Code(0));
        }
    }

    pub(super) fn kill(&mut self, now: Now, rng: &mut Rng) {
        self.end_by(now.plus_ms(rng.below(DEATH_MS_MAX)), ExitHow::Signal(9));
    }

    fn end_by(&mut self, moment: Now, how: ExitHow) {
        if self.ends_at.is_none_or(|(earlier, _)| moment < earlier) {
            self.ends_at = Some((moment, how));
            self.signalled = true;
        }
    }
}
