//! Which slot gets how many tokens of the next batch. Pure.
//!
//! Every slot with one token to go gets it: those generate, and waiting would be seen by their clients. What is left of
//! the batch is shared evenly by the slots that still have prompt to read, so that a short prompt is never stuck
//! behind a long one, and so that they fill llama.cpp's equal-length sub-batches well.

use crate::engine::SlotId;

/// Bounds of a batch, tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Of the whole batch; at least the number of slots.
    pub batch_tokens_max: usize,
    /// Of prompt tokens, while others generate: they wait for the whole batch.
    pub prompt_tokens_beside_answers_max: usize,
}

impl Limits {
    /// Bounds for an engine that takes `batch_tokens_max` at once.
    #[must_use]
    pub fn for_batch(batch_tokens_max: usize) -> Self {
        Self { batch_tokens_max, prompt_tokens_beside_answers_max: (batch_tokens_max / 2).max(1) }
    }
}

/// A slot's part of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Which slot.
    pub slot: SlotId,
    /// How many of its next tokens; at least one.
    pub tokens: usize,
}

/// The next batch. `remaining[s]` is how many tokens slot `s` has yet to put into the model: 0 for a free slot, 1 for
/// one that generates, more for one that still reads its prompt. Shares come in the order of slots.
#[must_use]
pub fn plan(remaining: &[usize], limits: Limits) -> Vec<Share> {
    let answering = remaining.iter().filter(|tokens| **tokens == 1).count();
    let room = limits.batch_tokens_max.saturating_sub(answering);
    let room = if answering > 0 { room.min(limits.prompt_tokens_beside_answers_max) } else { room };
    let mut shares: Vec<usize> = remaining.iter().map(|tokens| usize::from(*tokens == 1)).collect();
    share_evenly(remaining, &mut shares, room);
    let slots = shares.into_iter().enumerate();
    slots.filter(|(_, tokens)| *tokens > 0).map(|(slot, tokens)| Share { slot: SlotId(slot), tokens }).collect()
}

/// Gives `room` tokens to the slots with more than one to go; what a short prompt does not need goes to the others.
fn share_evenly(remaining: &[usize], shares: &mut [usize], mut room: usize) {
    let mut hungry: Vec<usize> = (0..remaining.len()).filter(|slot| remaining[*slot] > 1).collect();
    // The shortest first: what it leaves is shared by those after it.
    hungry.sort_by_key(|slot| remaining[*slot]);
    for (served, slot) in hungry.iter().enumerate() {
        let fair = room.div_ceil(hungry.len() - served);
        shares[*slot] = remaining[*slot].min(fair);
        room -= shares[*slot];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { batch_tokens_max: 16, prompt_tokens_beside_answers_max: 8 };

    fn shares(remaining: &[usize]) -> Vec<(usize, usize)> {
        plan(remaining, LIMITS).into_iter().map(|share| (share.slot.0, share.tokens)).collect()
    }

    #[test]
    fn table() {
        type Case = (&'static str, &'static [usize], &'static [(usize, usize)]);
        let table: [Case; 8] = [
            ("nothing to do", &[0, 0], &[]),
            ("all generate", &[1, 1, 0, 1], &[(0, 1), (1, 1), (3, 1)]),
            ("one prompt alone has the whole batch", &[100, 0], &[(0, 16)]),
            ("a short prompt fits at once", &[5], &[(0, 5)]),
            ("two prompts share", &[100, 100], &[(0, 8), (1, 8)]),
            ("what a short one leaves the long one gets", &[100, 3], &[(0, 13), (1, 3)]),
            ("answers come first and bound prompts", &[1, 100, 1], &[(0, 1), (1, 8), (2, 1)]),
            ("three share what does not divide", &[9, 9, 9], &[(0, 6), (1, 5), (2, 5)]),
        ];
        for (name, remaining, expected) in table {
            assert_eq!(shares(remaining), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn bounds_hold_and_answers_never_wait(remaining in prop::collection::vec(0_usize..60, 0..16)) {
            let plan = plan(&remaining, LIMITS);
            let total: usize = plan.iter().map(|share| share.tokens).sum();
            prop_assert!(total <= LIMITS.batch_tokens_max);
            for share in &plan {
                prop_assert!(share.tokens >= 1 && share.tokens <= remaining[share.slot.0]);
            }
            for (slot, tokens) in remaining.iter().enumerate() {
                let own = Share { slot: SlotId(slot), tokens: 1 };
                prop_assert!(*tokens != 1 || plan.contains(&own));
            }
            prop_assert!(total > 0 || remaining.iter().all(|tokens| *tokens == 0));
        }
    }
}
