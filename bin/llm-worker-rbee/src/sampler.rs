//! Chooses a token from the model's numbers. Pure: the same numbers, parameters, seed and position give the same token,
//! with no state from token to token. So an answer that is taken up elsewhere at token n goes on with the same token n.
//!
//! Order: temperature, top_k, top_p, min_p, then one draw by inverse distribution function. Ties go to the lower id.

use crate::engine::Token;

/// How to choose.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// 0 is greedy.
    pub temperature: f32,
    /// Only the K likeliest; 0 is all.
    pub top_k: usize,
    /// The smallest set with this mass; 1 is all.
    pub top_p: f32,
    /// Only those with this share of the likeliest one's probability; 0 is all.
    pub min_p: f32,
    /// Of the draws.
    pub seed: u64,
}

impl Sampling {
    /// The likeliest token always.
    #[must_use]
    pub const fn greedy() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 0 }
    }
}

/// A token and its weight relative to the likeliest one (which has 1).
#[derive(Debug, Clone, Copy)]
struct Candidate {
    id: usize,
    weight: f64,
}

/// The token for `position` of the sequence; `None` when no number is usable.
#[must_use]
pub fn sample(logits: &[f32], sampling: &Sampling, position: usize) -> Option<Token> {
    let best = argmax(logits)?;
    let id = if sampling.temperature > 0.0 { draw(logits, best, sampling, position) } else { best };
    i32::try_from(id).ok().map(Token)
}

/// The first of the highest. In lanes, which the compiler makes vector instructions of: it is done for each token over
/// the whole vocabulary.
fn argmax(logits: &[f32]) -> Option<usize> {
    const LANES: usize = 16;
    let (chunks, rest) = logits.as_chunks::<LANES>();
    let mut highest = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (highest, logit) in highest.iter_mut().zip(chunk) {
            // False for NaN.
            *highest = if *logit > *highest { *logit } else { *highest };
        }
    }
    let highest = highest.iter().chain(rest).copied().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a });
    logits.iter().position(|logit| *logit == highest)
}

fn draw(logits: &[f32], best: usize, sampling: &Sampling, position: usize) -> usize {
    let highest = f64::from(logits[best]);
    if !highest.is_finite() {
        return best;
    }
    let temperature = f64::from(sampling.temperature);
    let weight = |logit: f32| ((f64::from(logit) - highest) / temperature).exp();
    let all = logits.iter().enumerate().map(|(id, &logit)| Candidate { id, weight: weight(logit) });
    let kept: Vec<Candidate> = all.filter(|c| c.weight > 0.0 && c.weight >= f64::from(sampling.min_p)).collect();
    let kept = truncate(kept, sampling);
    pick(&kept, uniform(sampling.seed, position)).unwrap_or(best)
}

/// Applies top_k and top_p. min_p was applied before: it compares with the likeliest token, which both always keep,
/// and what it removes is never in the middle, so the order only matters for the mass top_p is a share of.
fn truncate(mut candidates: Vec<Candidate>, sampling: &Sampling) -> Vec<Candidate> {
    if sampling.top_k > 0 && sampling.top_k < candidates.len() {
        candidates.select_nth_unstable_by(sampling.top_k - 1, likelier_first);
        candidates.truncate(sampling.top_k);
    }
    if sampling.top_p < 1.0 {
        candidates = nucleus(candidates, f64::from(sampling.top_p));
    }
    candidates.sort_unstable_by_key(|candidate| candidate.id);
    candidates
}

/// The smallest set of the likeliest with `share` of the mass. Sorts no more of the vocabulary than it must.
fn nucleus(mut candidates: Vec<Candidate>, share: f64) -> Vec<Candidate> {
    let wanted = share * sum(&candidates);
    let mut sorted = 64.min(candidates.len());
    loop {
        if sorted < candidates.len() {
            candidates.select_nth_unstable_by(sorted, likelier_first);
        }
        candidates[..sorted].sort_unstable_by(likelier_first);
        let mut mass = 0.0;
        let enough = candidates[..sorted].iter().position(|candidate| {
            mass += candidate.weight;
            mass >= wanted
        });
        if let Some(last) = enough {
            candidates.truncate(last + 1);
            return candidates;
        }
        if sorted == candidates.len() {
            return candidates;
        }
        sorted = (sorted * 8).min(candidates.len());
    }
}

fn likelier_first(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.weight.total_cmp(&a.weight).then(a.id.cmp(&b.id))
}

/// In the order of ids for every caller that wants the same sum each time.
fn sum(candidates: &[Candidate]) -> f64 {
    candidates.iter().map(|candidate| candidate.weight).sum()
}

fn pick(candidates: &[Candidate], uniform: f64) -> Option<usize> {
    let mut left = uniform * sum(candidates);
    for candidate in candidates {
        left -= candidate.weight;
        if left < 0.0 {
            return Some(candidate.id);
        }
    }
    // Rounding may leave a crumb: the last one takes it.
    candidates.last().map(|candidate| candidate.id)
}

/// A number in [0, 1) that depends on seed and position alone.
fn uniform(seed: u64, position: usize) -> f64 {
    let mixed = mix(mix(seed) ^ mix((position as u64).wrapping_add(0x9e37_79b9_7f4a_7c15)));
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

/// splitmix64's finaliser.
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn some_sampling() -> impl Strategy<Value = Sampling> {
        (0.05_f32..3.0, 0_usize..40, 0.01_f32..=1.0, 0.0_f32..0.5, any::<u64>())
            .prop_map(|(temperature, top_k, top_p, min_p, seed)| Sampling { temperature, top_k, top_p, min_p, seed })
    }

    /// The plain way to the set of allowed tokens: sort everything.
    fn allowed(logits: &[f32], sampling: &Sampling) -> Vec<usize> {
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weight = |id: usize| ((f64::from(logits[id]) - f64::from(highest)) / f64::from(sampling.temperature)).exp();
        let mut ids: Vec<usize> = (0..logits.len()).filter(|id| weight(*id) >= f64::from(sampling.min_p)).collect();
        ids.sort_by(|a, b| weight(*b).total_cmp(&weight(*a)).then(a.cmp(b)));
        if sampling.top_k > 0 {
            ids.truncate(sampling.top_k);
        }
        let total: f64 = ids.iter().map(|id| weight(*id)).sum();
        let mut mass = 0.0;
        let slack = 1e-9;
        ids.retain(|id| {
            let keep = mass <= f64::from(sampling.top_p) * total + slack;
            mass += weight(*id);
            keep
        });
        ids
    }

    proptest! {
        /// WORK-03.
        #[test]
        fn the_same_question_has_the_same_answer(
            logits in prop::collection::vec(-20.0_f32..20.0, 1..600), sampling in some_sampling(), position in 0_usize..9000
        ) {
            prop_assert_eq!(sample(&logits, &sampling, position), sample(&logits, &sampling, position));
        }

        #[test]
        fn only_what_the_limits_allow_is_chosen(
            logits in prop::collection::vec(-20.0_f32..20.0, 1..600), sampling in some_sampling(), position in 0_usize..9000
        ) {
            let token = sample(&logits, &sampling, position).unwrap();
            prop_assert!(allowed(&logits, &sampling).contains(&(token.0 as usize)));
        }

        #[test]
        fn top_k_of_one_is_greedy(
            logits in prop::collection::vec(-20.0_f32..20.0, 1..600), sampling in some_sampling(), position in 0_usize..9000
        ) {
            let one = Sampling { top_k: 1, ..sampling };
            prop_assert_eq!(sample(&logits, &one, position), sample(&logits, &Sampling::greedy(), position));
        }

        #[test]
        fn draws_lie_in_the_unit_interval(seed in any::<u64>(), position in any::<usize>()) {
            prop_assert!((0.0..1.0).contains(&uniform(seed, position)));
        }
    }

    #[test]
    fn greedy_takes_the_first_of_equals_and_never_nan() {
        assert_eq!(sample(&[1.0, 3.0, 3.0, f32::NAN], &Sampling::greedy(), 0), Some(Token(1)));
        assert_eq!(sample(&[f32::NAN, -5.0], &Sampling::greedy(), 0), Some(Token(1)));
        assert_eq!(sample(&[f32::NAN], &Sampling::greedy(), 0), None);
        assert_eq!(sample(&[], &Sampling::greedy(), 0), None);
    }

    #[test]
    fn draws_follow_the_distribution() {
        let logits: Vec<f32> = [0.5_f32, 0.3, 0.2].iter().map(|p| p.ln()).collect();
        let sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 7 };
        let mut counts = [0_u32; 3];
        for position in 0..20_000 {
            counts[sample(&logits, &sampling, position).unwrap().0 as usize] += 1;
        }
        for (count, expected) in counts.iter().zip([0.5, 0.3, 0.2]) {
            assert!((f64::from(*count) / 20_000.0 - expected).abs() < 0.015, "{counts:?}");
        }
    }

    #[test]
    fn another_seed_is_another_answer() {
        let logits = [0.0_f32; 1000];
        let at = |seed| {
            let sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed };
            (0..8).map(|position| sample(&logits, &sampling, position)).collect::<Vec<_>>()
        };
        assert_ne!(at(1), at(2));
    }
}
