//! How likely the model found a token, and what it found likelier. Pure; from the numbers as the model gave them, before
//! temperature, limits and constraints.

use crate::engine::Token;

/// A token and what could have been there instead.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    /// The token chosen.
    pub token: Token,
    /// Natural logarithm of its probability.
    pub logprob: f32,
    /// The likeliest tokens at this place, likeliest first; ties by lower id.
    pub top: Vec<(Token, f32)>,
}

/// Logprobs of `token` and of the `top` likeliest.
#[must_use]
pub fn of(logits: &[f32], token: Token, top: usize) -> Logprobs {
    let highest = logits.iter().copied().filter(|logit| !logit.is_nan()).fold(f32::NEG_INFINITY, f32::max);
    let mass: f64 = logits.iter().map(|logit| f64::from(*logit - highest).exp()).filter(|mass| !mass.is_nan()).sum();
    let logprob = |logit: f32| (f64::from(logit - highest) - mass.ln()) as f32;
    let chosen = usize::try_from(token.0).ok().and_then(|id| logits.get(id)).copied().unwrap_or(f32::NEG_INFINITY);
    let top = likeliest(logits, top).into_iter().map(|(token, logit)| (token, logprob(logit))).collect();
    Logprobs { token, logprob: logprob(chosen), top }
}

fn likeliest(logits: &[f32], count: usize) -> Vec<(Token, f32)> {
    let mut best: Vec<(Token, f32)> = Vec::with_capacity(count + 1);
    for (id, &logit) in logits.iter().enumerate() {
        let full = best.len() == count;
        if logit.is_nan() || (full && best.last().is_none_or(|(_, lowest)| logit <= *lowest)) {
            continue;
        }
        let place = best.partition_point(|(_, other)| *other >= logit);
        best.insert(place, (Token(i32::try_from(id).unwrap_or(i32::MAX)), logit));
        best.truncate(count);
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_logarithms_of_probabilities_likeliest_first() {
        let logits: Vec<f32> = [0.2_f32, 0.5, 0.1, 0.2].iter().map(|p| p.ln() + 3.0).collect();
        let found = of(&logits, Token(2), 3);
        assert!((found.logprob - 0.1_f32.ln()).abs() < 1e-5, "{found:?}");
        let ids: Vec<i32> = found.top.iter().map(|(token, _)| token.0).collect();
        assert_eq!(ids, [1, 0, 3]);
        assert!((found.top[0].1 - 0.5_f32.ln()).abs() < 1e-5, "{found:?}");
    }

    #[test]
    fn none_are_found_where_none_are_wanted_and_nan_is_nothing() {
        assert_eq!(of(&[1.0, 2.0], Token(0), 0).top, []);
        assert_eq!(of(&[f32::NAN, 2.0], Token(1), 5).top, [(Token(1), 0.0)]);
    }
}
