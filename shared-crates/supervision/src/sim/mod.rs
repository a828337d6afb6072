//! Seeded worlds around the real core: processes that crash, hang, refuse to end, never get ready, fall silent or grow;
//! reports that come late, twice or never; supervisors that die between any two actions and are followed by another;
//! clocks that jump.
//!
//! After every event the invariants of [`Invariant`] hold, or [`run`] says at which event which one stopped to. At the
//! end faults cease: then everything wanted must run, and after a stop nothing may.

mod actions;
mod checks;
#[cfg(any(test, feature = "mutants"))]
mod hunt;
mod invariant;
mod os;
mod owner;
mod rng;
mod shell;
mod specs;
mod states;
mod told;
mod world;

#[cfg(any(test, feature = "mutants"))]
pub use hunt::{Caught, hunt};
pub use invariant::Invariant;
use invariant::Violation;
use world::World;

/// What a world went through; tells that the simulator does visit what it is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events given to the core.
    pub events: u64,
    /// Processes spawned.
    pub spawns: u64,
    /// Spawns that failed.
    pub spawn_failures: u64,
    /// Processes that ended.
    pub ends: u64,
    /// Kills.
    pub kills: u64,
    /// Supervisors that died.
    pub supervisor_deaths: u64,
    /// Processes that outlived one.
    pub adoptions: u64,
    /// Runs pulled down by a dependency.
    pub cascades: u64,
    /// Runs ended for their health, memory, watchdog or a reload.
    pub faults_answered: u64,
    /// Times a unit gave up.
    pub failures: u64,
    /// What was told besides changes of phase.
    pub happenings: u64,
    /// Reports that came twice.
    pub duplicates: u64,
    /// Jumps of the clock, and times the supervisor stood still.
    pub jumps: u64,
}

impl Stats {
    /// Adds another world's.
    pub fn add(&mut self, other: Self) {
        for ((_, mine), (_, theirs)) in self.fields_mut().into_iter().zip(other.named()) {
            *mine += theirs;
        }
    }

    /// Each number with its name.
    #[must_use]
    pub fn named(mut self) -> Vec<(&'static str, u64)> {
        self.fields_mut().into_iter().map(|(name, value)| (name, *value)).collect()
    }

    fn fields_mut(&mut self) -> [(&'static str, &mut u64); 13] {
        [
            ("events", &mut self.events),
            ("spawns", &mut self.spawns),
            ("failed spawns", &mut self.spawn_failures),
            ("ends", &mut self.ends),
            ("kills", &mut self.kills),
            ("supervisor deaths", &mut self.supervisor_deaths),
            ("adoptions", &mut self.adoptions),
            ("cascades", &mut self.cascades),
            ("faults answered", &mut self.faults_answered),
            ("units given up", &mut self.failures),
            ("happenings told", &mut self.happenings),
            ("duplicate reports", &mut self.duplicates),
            ("clock jumps", &mut self.jumps),
        ]
    }
}

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "seed {seed}, event {event}: {invariant}: {what}\nrepeat with: cargo xtask sim --seed {seed} --count 1\nlast events:\n{trace}"
)]
pub struct Broken {
    /// The world.
    pub seed: u64,
    /// Number of the event after which it was seen.
    pub event: u64,
    /// Which one.
    pub invariant: Invariant,
    /// How.
    pub what: String,
    /// The last events, one a line.
    pub trace: String,
}

/// Plays one world from its beginning to its end.
///
/// # Errors
/// The first invariant that broke.
pub fn run(seed: u64) -> Result<Stats, Box<Broken>> {
    let mut world = World::new(seed, false);
    match world.play() {
        Ok(()) => Ok(world.stats),
        Err(_) => Err(Box::new(retold(seed))),
    }
}

/// Plays a world that breaks again, now with its story; to write that down for each world would take most of the time.
fn retold(seed: u64) -> Broken {
    let mut world = World::new(seed, true);
    let Violation { invariant, what } =
        world.play().err().unwrap_or_else(|| Invariant::Deterministic.broken("the second time nothing broke"));
    let trace = world.trace.iter().cloned().collect::<Vec<_>>().join("\n");
    Broken { seed, event: world.stats.events, invariant, what, trace }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// LIFE-24, EVNT-05
    #[test]
    fn worlds_keep_the_invariants() {
        let mut total = Stats::default();
        for seed in 0..500 {
            match run(seed) {
                Ok(stats) => total.add(stats),
                Err(broken) => panic!("{broken}"),
            }
        }
        // A simulator that visits nothing proves nothing.
        for (what, count) in total.named() {
            assert!(count > 200, "only {count} {what} in 500 worlds: {total:?}");
        }
    }

    /// LIFE-25
    #[test]
    fn a_seed_means_the_same_world() {
        assert_eq!(run(7), run(7));
    }
}
