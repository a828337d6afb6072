//! Seeded worlds around the real core: processes that crash, hang, refuse to end or never get ready; reports
//! that come late or never; supervisors that die and are followed by another; clocks that jump.
//!
//! After every event the invariants of [`checks`] hold, or [`run`] says at which event they stopped to. At
//! the end faults cease: then everything wanted must run, and after a stop nothing may.

mod checks;
mod os;
mod owner;
mod rng;
mod world;

use world::World;

/// What a world went through; tells that the simulator does visit what it is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Events given to the core.
    pub events: u64,
    /// Processes spawned.
    pub spawns: u64,
    /// Ends that nobody asked for.
    pub crashes: u64,
    /// Kills.
    pub kills: u64,
    /// Supervisors that died.
    pub supervisor_deaths: u64,
    /// Processes that outlived one.
    pub adoptions: u64,
    /// Times a unit gave up.
    pub failures: u64,
}

impl Stats {
    /// Adds another world's.
    pub fn add(&mut self, other: Self) {
        self.events += other.events;
        self.spawns += other.spawns;
        self.crashes += other.crashes;
        self.kills += other.kills;
        self.supervisor_deaths += other.supervisor_deaths;
        self.adoptions += other.adoptions;
        self.failures += other.failures;
    }
}

/// A broken invariant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "seed {seed}, event {event}: {what}\nrepeat with: cargo xtask sim --seed {seed} --count 1\nlast events:\n{trace}"
)]
pub struct Broken {
    /// The world.
    pub seed: u64,
    /// Number of the event after which it was seen.
    pub event: u64,
    /// Which invariant, and how.
    pub what: String,
    /// The last events, one a line.
    pub trace: String,
}

/// Plays one world from its beginning to its end.
///
/// # Errors
/// The first invariant that broke.
pub fn run(seed: u64) -> Result<Stats, Broken> {
    let mut world = World::new(seed);
    world.play().map_err(|what| world.broken(what))?;
    Ok(world.stats())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// LIFE-24
    #[test]
    fn worlds_keep_the_invariants() {
        let mut total = Stats::default();
        for seed in 0..2_000 {
            match run(seed) {
                Ok(stats) => total.add(stats),
                Err(broken) => panic!("{broken}"),
            }
        }
        // A simulator that visits nothing proves nothing.
        for (what, count) in [
            ("crashes", total.crashes),
            ("kills", total.kills),
            ("supervisor deaths", total.supervisor_deaths),
            ("adoptions", total.adoptions),
            ("failures", total.failures),
        ] {
            assert!(count > 500, "only {count} {what} in 2000 worlds: {total:?}");
        }
    }

    /// LIFE-25
    #[test]
    fn a_seed_means_the_same_world() {
        assert_eq!(run(7), run(7));
    }
}
