//! Whether the simulator catches a planted bug, and how fast.

use super::{Invariant, run};
use crate::mutants::{Mutant, with_planted};

/// A world that broke because of a planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caught {
    /// The first such world.
    pub seed: u64,
    /// What was seen to break.
    pub invariant: Invariant,
}

/// Plays worlds from 0 on with the bug in place, until one breaks.
#[must_use]
pub fn hunt(mutant: Mutant, worlds: u64) -> Option<Caught> {
    with_planted(mutant, || {
        let mut broken = (0..worlds).filter_map(|seed| run(seed).err());
        broken.next().map(|broken| Caught { seed: broken.seed, invariant: broken.invariant })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// LIFE-26: `cargo xtask sim --mutants` plays more worlds.
    #[test]
    fn every_planted_bug_is_caught() {
        let escaped: Vec<_> = Mutant::ALL.iter().filter(|(mutant, _)| hunt(*mutant, 1_000).is_none()).collect();
        assert!(escaped.is_empty(), "not caught: {escaped:#?}");
    }

    #[test]
    fn without_a_bug_nothing_is_caught() {
        assert!((0..50).all(|seed| run(seed).is_ok()));
    }
}
