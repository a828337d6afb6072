//! Which free slot a text gets, and what is known of its beginning already. Pure.
//!
//! A slot that was left by the same conversation is used on. Otherwise the slot used longest ago is taken, and the
//! beginning is copied from another slot or from disk where that saves enough.

use crate::engine::{SlotId, Token};

/// A copy costs about as much as reading this many tokens.
const COPY_TOKENS_MIN: usize = 48;

/// A slot and the tokens in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known<'a> {
    pub(super) slot: SlotId,
    pub(super) tokens: &'a [Token],
    pub(super) is_free: bool,
    /// Grows with each use; the smallest was used longest ago.
    pub(super) used: u64,
}

/// Where the beginning comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// It is in the slot, or nothing is known of it.
    Here,
    /// Another slot.
    Slot(SlotId),
    /// A kept prefix, by its number.
    Kept(usize),
}

/// Where a text goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) slot: SlotId,
    pub(super) source: Source,
    /// Tokens that need not be read; fewer than the text has.
    pub(super) reused: usize,
}

/// Where `text` goes; `None` when no slot is free.
pub(super) fn plan<'a>(text: &[Token], slots: &[Known<'_>], kept: impl Iterator<Item = &'a [Token]>) -> Option<Plan> {
    let free = || slots.iter().filter(|known| known.is_free);
    let own = free().max_by_key(|known| (common(text, known.tokens), known.used));
    // What it has beyond the common beginning is lost to whoever comes back to it.
    let goes_on = |known: &&Known<'_>| 2 * common(text, known.tokens) >= known.tokens.len().max(1);
    let target = own.filter(goes_on).or_else(|| free().min_by_key(|known| (!known.tokens.is_empty(), known.used)))?;
    let here = Plan { slot: target.slot, source: Source::Here, reused: common(text, target.tokens) };
    let from_slots = slots.iter().filter(|known| known.slot != target.slot);
    let from_slots = from_slots.map(|known| (Source::Slot(known.slot), common(text, known.tokens)));
    let from_disk = kept.enumerate().map(|(number, tokens)| (Source::Kept(number), common(text, tokens)));
    let best = from_disk.chain(from_slots).max_by_key(|(_, reused)| *reused);
    let better = best.filter(|(_, reused)| *reused >= here.reused + COPY_TOKENS_MIN);
    Some(better.map_or(here, |(source, reused)| Plan { source, reused, ..here }))
}

/// Length of the common beginning; the last token of the text is always read, for the numbers after it.
fn common(text: &[Token], known: &[Token]) -> usize {
    let readable = &text[..text.len().saturating_sub(1)];
    readable.iter().zip(known).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(parts: &[(i32, usize)]) -> Vec<Token> {
        parts.iter().flat_map(|(id, count)| std::iter::repeat_n(Token(*id), *count)).collect()
    }

    type Parts = &'static [(i32, usize)];

    /// Slots as (tokens, free), used in this order.
    fn planned(prompt: Parts, slots: &[(Parts, bool)], kept: &[Parts]) -> Option<(usize, Source, usize)> {
        let slots: Vec<(Vec<Token>, bool)> = slots.iter().map(|(parts, free)| (text(parts), *free)).collect();
        let known: Vec<Known<'_>> = slots
            .iter()
            .enumerate()
            .map(|(number, (tokens, is_free))| Known {
                slot: SlotId(number),
                tokens,
                is_free: *is_free,
                used: number as u64,
            })
            .collect();
        let kept: Vec<Vec<Token>> = kept.iter().map(|parts| text(parts)).collect();
        let plan = plan(&text(prompt), &known, kept.iter().map(|tokens| &**tokens))?;
        Some((plan.slot.0, plan.source, plan.reused))
    }

    #[test]
    fn table() {
        type Case = (&'static str, Parts, &'static [(Parts, bool)], &'static [Parts], Option<(usize, Source, usize)>);
        let table: [Case; 11] = [
            ("no slot is free", &[(1, 9)], &[(&[], false)], &[], None),
            ("a fresh slot", &[(1, 9)], &[(&[], true)], &[], Some((0, Source::Here, 0))),
            (
                "the same again: all but the last token",
                &[(1, 9)],
                &[(&[(1, 9)], true)],
                &[],
                Some((0, Source::Here, 8)),
            ),
            (
                "a conversation goes on",
                &[(1, 9), (2, 5)],
                &[(&[], true), (&[(1, 9)], true)],
                &[],
                Some((1, Source::Here, 9)),
            ),
            (
                "a little in common is no reason to destroy",
                &[(1, 9), (2, 5)],
                &[(&[(1, 9), (3, 90)], true), (&[], true)],
                &[],
                Some((1, Source::Here, 0)),
            ),
            (
                "a lot in common is copied",
                &[(1, 90), (2, 5)],
                &[(&[(1, 90), (3, 900)], true), (&[], true)],
                &[],
                Some((1, Source::Slot(SlotId(0)), 90)),
            ),
            (
                "from a busy slot too",
                &[(1, 90), (2, 5)],
                &[(&[(1, 90), (3, 9)], false), (&[], true)],
                &[],
                Some((1, Source::Slot(SlotId(0)), 90)),
            ),
            (
                "with no other slot it is used as it is",
                &[(1, 9), (2, 5)],
                &[(&[(1, 9), (3, 90)], true)],
                &[],
                Some((0, Source::Here, 9)),
            ),
            ("longest ago first", &[(5, 9)], &[(&[(1, 9)], true), (&[(2, 9)], true)], &[], Some((0, Source::Here, 0))),
            ("from disk", &[(1, 90), (2, 5)], &[(&[], true)], &[&[(4, 9)], &[(1, 90)]], Some((0, Source::Kept(1), 90))),
            (
                "a little on disk is not worth it",
                &[(1, 40), (2, 5)],
                &[(&[], true)],
                &[&[(1, 40)]],
                Some((0, Source::Here, 0)),
            ),
        ];
        for (name, prompt, slots, kept, expected) in table {
            assert_eq!(planned(prompt, slots, kept), expected, "{name}");
        }
    }
}
