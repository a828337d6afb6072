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
    weight: f32,
}

/// Numbers that are summed together.
const BLOCK: usize = 256;

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
    let highest = logits[best];
    if !highest.is_finite() {
        return best;
    }
    let weights = weights(logits, highest, sampling);
    let uniform = uniform(sampling.seed, position);
    if sampling.top_k == 0 && sampling.top_p >= 1.0 {
        return pick(&weights, uniform).unwrap_or(best);
    }
    let kept = limited(&weights, sampling);
    let weights: Vec<f32> = kept.iter().map(|candidate| candidate.weight).collect();
    pick(&weights, uniform).and_then(|place| kept.get(place)).map_or(best, |candidate| candidate.id)
}

/// Probabilities, but for a common factor; 0 for what min_p forbids and for NaN. min_p comes before the other limits: it
/// compares with the likeliest token, which they all keep, and what it removes is never in the middle, so the order only
/// matters for the mass top_p is a share of.
fn weights(logits: &[f32], highest: f32, sampling: &Sampling) -> Vec<f32> {
    let cooled = 1.0 / sampling.temperature;
    let weight = |logit: &f32| {
        let weight = exp((logit - highest) * cooled);
        if weight >= sampling.min_p { weight } else { 0.0 }
    };
    logits.iter().map(weight).collect()
}

/// e to the power of `x`, for `x` up to 0, to a few units in the last place; 0 below what can be told from it, and for
/// NaN. Without calls and branches, so that the compiler makes vector instructions of it: it is done for each token over
/// the whole vocabulary.
fn exp(x: f32) -> f32 {
    // Added and taken away again, it leaves the nearest whole number.
    const ROUNDING: f32 = 12_582_912.0;
    let power = x * std::f32::consts::LOG2_E;
    let power = if power > -126.0 { power } else { -126.0 };
    let whole = (power + ROUNDING) - ROUNDING;
    let rest = (power - whole) * std::f32::consts::LN_2;
    let series = [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];
    let fraction = series.iter().fold(0.0, |sum, factor| sum * rest + factor);
    let scale = f32::from_bits(((whole as i32 + 127) as u32) << 23);
    if x > -87.0 { fraction * scale } else { 0.0 }
}

/// Applies top_k and top_p; in the order of ids.
fn limited(weights: &[f32], sampling: &Sampling) -> Vec<Candidate> {
    let total = if sampling.top_k == 0 { sum(weights) } else { 0.0 };
    let mut candidates = likely(weights, sampling, total);
    if sampling.top_k > 0 && sampling.top_k < candidates.len() {
        candidates.select_nth_unstable_by(sampling.top_k - 1, likelier_first);
        candidates.truncate(sampling.top_k);
    }
    if sampling.top_p < 1.0 {
        candidates.sort_unstable_by(likelier_first);
        let mass = |candidates: &[Candidate]| candidates.iter().map(|candidate| f64::from(candidate.weight)).sum();
        let total = if sampling.top_k == 0 { total } else { mass(&candidates) };
        let wanted = f64::from(sampling.top_p) * total;
        let mut mass = 0.0;
        let enough = candidates.iter().position(|candidate| {
            mass += f64::from(candidate.weight);
            mass >= wanted
        });
        candidates.truncate(enough.map_or(candidates.len(), |last| last + 1));
    }
    candidates.sort_unstable_by_key(|candidate| candidate.id);
    candidates
}

/// The likeliest tokens, at least as many as the limits will keep: usually a few of the whole vocabulary.
fn likely(weights: &[f32], sampling: &Sampling, total: f64) -> Vec<Candidate> {
    for least in [1e-2, 1e-4, 1e-7] {
        let found = at_least(weights, least);
        let enough = if sampling.top_k > 0 {
            found.len() >= sampling.top_k
        } else {
            let mass: f64 = found.iter().map(|candidate| f64::from(candidate.weight)).sum();
            mass >= f64::from(sampling.top_p) * total
        };
        if enough {
            return found;
        }
    }
    at_least(weights, f32::MIN_POSITIVE)
}

fn at_least(weights: &[f32], least: f32) -> Vec<Candidate> {
    let all = weights.iter().enumerate().map(|(id, &weight)| Candidate { id, weight });
    all.filter(|candidate| candidate.weight >= least).collect()
}

fn likelier_first(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.weight.total_cmp(&a.weight).then(a.id.cmp(&b.id))
}

/// In lanes, always in the same order: the same numbers have the same sum.
fn block_sum(block: &[f32]) -> f64 {
    const LANES: usize = 16;
    let (chunks, rest) = block.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, weight)| *sum += weight);
    }
    sums.iter().chain(rest).map(|sum| f64::from(*sum)).sum()
}

fn sum(weights: &[f32]) -> f64 {
    weights.chunks(BLOCK).map(block_sum).sum()
}

/// The place where the mass before it and its own pass that share of the whole.
fn pick(weights: &[f32], uniform: f64) -> Option<usize> {
    let sums: Vec<f64> = weights.chunks(BLOCK).map(block_sum).collect();
    let mut left = uniform * sums.iter().sum::<f64>();
    for (number, (block, sum)) in weights.chunks(BLOCK).zip(&sums).enumerate() {
        if left >= *sum {
            left -= sum;
            continue;
        }
        for (place, weight) in block.iter().enumerate() {
            left -= f64::from(*weight);
            if left < 0.0 {
                return Some(number * BLOCK + place);
            }
        }
    }
    // Rounding may leave a crumb: the last one with any weight takes it.
    weights.iter().rposition(|weight| *weight > 0.0)
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
        let slack = 1e-5;
        let min_p = f64::from(sampling.min_p) * (1.0 - slack);
        let mut ids: Vec<usize> = (0..logits.len()).filter(|id| weight(*id) >= min_p).collect();
        ids.sort_by(|a, b| weight(*b).total_cmp(&weight(*a)).then(a.cmp(b)));
        if sampling.top_k > 0 {
            ids.truncate(sampling.top_k);
        }
        let total: f64 = ids.iter().map(|id| weight(*id)).sum();
        let mut mass = 0.0;
        ids.retain(|id| {
            let keep = mass <= f64::from(sampling.top_p) * total * (1.0 + slack);
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
        fn exp_is_the_exponential_function(x in -87.0_f32..=0.0) {
            let (ours, exact) = (f64::from(exp(x)), f64::from(x).exp());
            prop_assert!((ours - exact).abs() <= exact * 1e-5, "{ours} instead of {exact}");
        }

        /// The crumb left by rounding goes to a token that may be chosen.
        #[test]
        fn what_has_no_weight_is_never_picked(
            weights in prop::collection::vec(prop::sample::select(vec![0.0_f32, 0.5, 1e-7]), 1..900), uniform in 0.0_f64..1.0
        ) {
            let picked = pick(&weights, uniform);
            prop_assert!(picked.map_or(sum(&weights) == 0.0, |place| weights[place] > 0.0));
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
    fn exp_ends_in_nothing() {
        assert_eq!([exp(0.0), exp(-100.0), exp(f32::NEG_INFINITY), exp(f32::NAN)], [1.0, 0.0, 0.0, 0.0]);
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
