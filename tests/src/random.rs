//! Numbers that look random and are the same for the same seed (SplitMix64).

use std::time::Duration;

/// A sequence of them.
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// True once in so many times.
    pub fn one_in(&mut self, count: u64) -> bool {
        self.draw().is_multiple_of(count)
    }

    /// A time.
    pub fn up_to(&mut self, micros: u64) -> Duration {
        Duration::from_micros(self.draw() % (micros + 1))
    }

    /// One of them.
    pub fn pick<'t>(&mut self, words: &[&'t str]) -> &'t str {
        let at = self.draw() % words.len() as u64;
        words.get(usize::try_from(at).unwrap_or(0)).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    #[test]
    fn a_seed_repeats_itself() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..50).map(|_| random.up_to(1_000_000).as_micros()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }
}
