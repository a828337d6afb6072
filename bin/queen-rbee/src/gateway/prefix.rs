//! Where a conversation's beginning is warm: a worker that has read it need not read it again.
//!
//! A conversation is known by the hashes of its leading messages, each taken together with all before it. Its next
//! request begins with the same messages, so that the longest beginning known names the worker that served it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use rbee_api::ReplicaId;
use serde_json::value::RawValue;

/// Beginnings remembered, of all models together.
const REMEMBERED_MAX: usize = 8192;
/// Beginnings of one conversation that count; of a longer one the last ones.
const BEGINNINGS_MAX: usize = 32;
/// A prompt without messages is cut into beginnings of this many bytes.
const PROMPT_STEP_BYTES: usize = 1024;

/// The beginnings of one request, the shortest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Beginnings(Vec<u64>);

impl Beginnings {
    /// Of a chat, from its `messages` as they were sent.
    pub(super) fn of_messages(model: &str, messages: &RawValue) -> Self {
        // Whatever it is otherwise is for the worker to refuse.
        let messages: Vec<&RawValue> = serde_json::from_str(messages.get()).unwrap_or_default();
        Self::chain(model, messages.iter().map(|message| message.get().as_bytes()))
    }

    /// Of a text, from its `prompt` as it was sent.
    pub(super) fn of_prompt(model: &str, prompt: &RawValue) -> Self {
        Self::chain(model, prompt.get().as_bytes().chunks_exact(PROMPT_STEP_BYTES))
    }

    fn chain<'p>(model: &str, parts: impl Iterator<Item = &'p [u8]>) -> Self {
        let mut hasher = DefaultHasher::new();
        model.hash(&mut hasher);
        let mut hashes: Vec<u64> = parts
            .map(|part| {
                part.hash(&mut hasher);
                hasher.finish()
            })
            .collect();
        if hashes.len() > BEGINNINGS_MAX {
            hashes.drain(..hashes.len() - BEGINNINGS_MAX);
        }
        Self(hashes)
    }
}

/// Which worker has read what; the least used is forgotten first.
#[derive(Debug, Default)]
pub(super) struct Warm {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    clock: u64,
    by_beginning: HashMap<u64, (u64, ReplicaId)>,
}

impl Warm {
    /// Who has read the longest beginning of it.
    pub(super) fn find(&self, beginnings: &Beginnings) -> Option<ReplicaId> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        beginnings.0.iter().rev().find_map(|hash| seen.by_beginning.get(hash)).map(|(_, id)| id.clone())
    }

    /// It has read this.
    pub(super) fn served(&self, beginnings: &Beginnings, id: &ReplicaId) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clock += 1;
        let clock = seen.clock;
        for hash in &beginnings.0 {
            match seen.by_beginning.get_mut(hash) {
                Some((age, known)) if known == id => *age = clock,
                _ => drop(seen.by_beginning.insert(*hash, (clock, id.clone()))),
            }
        }
        if seen.by_beginning.len() > REMEMBERED_MAX {
            // Half at once: each is looked at seldom.
            let mut ages: Vec<u64> = seen.by_beginning.values().map(|(age, _)| *age).collect();
            let middle = ages.len() / 2;
            let (_, oldest_kept, _) = ages.select_nth_unstable(middle);
            let oldest_kept = *oldest_kept;
            seen.by_beginning.retain(|_, (age, _)| *age > oldest_kept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(replica: u32) -> ReplicaId {
        ReplicaId { name: "w".into(), replica }
    }

    fn chat(messages: &str) -> Beginnings {
        Beginnings::of_messages("m", &RawValue::from_string(messages.into()).unwrap())
    }

    /// GATE-13
    #[test]
    fn a_conversation_is_found_again_by_its_longest_known_beginning() {
        let warm = Warm::default();
        warm.served(&chat(r#"[{"s":1},{"u":1}]"#), &id(0));
        warm.served(&chat(r#"[{"s":1},{"u":2}]"#), &id(1));
        let next = chat(r#"[{"s":1},{"u":1},{"a":1},{"u":3}]"#);
        assert_eq!(warm.find(&next), Some(id(0)));
        assert_eq!(warm.find(&chat(r#"[{"s":1},{"u":9}]"#)), Some(id(1)), "the last one with that beginning");
        assert_eq!(warm.find(&chat(r#"[{"u":1}]"#)), None);
        assert_eq!(warm.find(&chat(r#""no list""#)), None);
        let other = Beginnings::of_messages("n", &RawValue::from_string(r#"[{"s":1}]"#.into()).unwrap());
        assert_eq!(warm.find(&other), None, "another model");
    }

    #[test]
    fn a_text_is_found_by_its_steps() {
        let warm = Warm::default();
        let prompt = |text: &str| {
            Beginnings::of_prompt("m", &RawValue::from_string(serde_json::to_string(text).unwrap()).unwrap())
        };
        let long = "x".repeat(3000);
        warm.served(&prompt(&long), &id(2));
        assert_eq!(warm.find(&prompt(&format!("{long} and more"))), Some(id(2)));
        assert_eq!(warm.find(&prompt("short")), None);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_newest_stays() {
        let warm = Warm::default();
        for number in 0..40_000 {
            warm.served(&chat(&format!("[{number}]")), &id(number));
            assert!(warm.seen.lock().unwrap().by_beginning.len() <= REMEMBERED_MAX);
        }
        assert_eq!(warm.find(&chat("[39999]")), Some(id(39_999)));
        assert_eq!(warm.find(&chat("[0]")), None);
    }
}
