//! What the slots still know after their answers have ended, and what is kept on disk.
//!
//! ```text
//!   answer ends ──keep──▶ slot knows its text ──seat──▶ a text that begins alike goes on from there
//!                              │ ▲
//!                  worker ends │ │ a text begins like one on disk
//!                              ▼ │
//!                             store
//! ```

use std::time::Instant;

use super::prefix::{self, Known, Source};
use super::running::Running;
use crate::engine::{Engine, EngineError, SlotId, Token};
use crate::kv::Store;
use crate::metrics::Metrics;

/// Shorter texts are read again more quickly than their files are.
const SAVED_TOKENS_MIN: usize = 16;

/// Of each slot: its text while no answer is made in it.
pub(super) struct Warm {
    slots: Vec<Left>,
    uses: u64,
    store: Option<Store>,
}

#[derive(Clone, Default)]
struct Left {
    tokens: Vec<Token>,
    used: u64,
}

impl Warm {
    pub(super) fn new(slots: usize) -> Self {
        Self { slots: vec![Left::default(); slots], uses: 0, store: None }
    }

    pub(super) fn set_store(&mut self, store: Store) {
        self.store = Some(store);
    }

    /// A free slot for the text, with as much of its beginning as is known; its length.
    pub(super) fn seat<E: Engine>(
        &mut self,
        text: &[Token],
        running: &[Option<Running>],
        engine: &mut E,
        metrics: &Metrics,
    ) -> Option<(SlotId, usize)> {
        loop {
            let plan = prefix::plan(text, &self.known(running), self.store.iter().flat_map(Store::prefixes))?;
            let state = match plan.source {
                Source::Here => Ok(None),
                Source::Slot(from) => engine.save(from).map(Some),
                Source::Kept(number) => match self.store.as_mut().and_then(|store| store.load(number)) {
                    Some(state) => Ok(Some(state)),
                    // It was wrong and is gone: there is another plan without it.
                    None => continue,
                },
            };
            let restored = matches!(plan.source, Source::Kept(_));
            let reused = state.and_then(|state| prepare(engine, plan.slot, state, plan.reused));
            self.uses += 1;
            self.slots[plan.slot.0] = Left { tokens: Vec::new(), used: self.uses };
            let reused = reused.unwrap_or_else(|error| {
                tracing::warn!(slot = %plan.slot, error = &error as &dyn std::error::Error, "a known beginning cannot be used");
                clear(engine, plan.slot, metrics);
                0
            });
            if restored && reused > 0 {
                metrics.prefixes_restored.inc();
                tracing::info!(tokens = reused, "a kept prefix is used");
            }
            return Some((plan.slot, reused));
        }
    }

    fn known<'a>(&'a self, running: &'a [Option<Running>]) -> Vec<Known<'a>> {
        let slots = self.slots.iter().zip(running).enumerate();
        let known = slots.map(|(number, (left, running))| {
            let tokens = running.as_ref().map_or(&left.tokens[..], |running| &running.tokens[..running.fed]);
            Known { slot: SlotId(number), tokens, is_free: running.is_none(), used: left.used }
        });
        known.collect()
    }

    /// An answer ended; `tokens` are in the slot.
    pub(super) fn keep(&mut self, slot: SlotId, tokens: Vec<Token>) {
        self.uses += 1;
        self.slots[slot.0] = Left { tokens, used: self.uses };
    }

    /// The slot's state is not to be trusted.
    pub(super) fn forget<E: Engine>(&mut self, slot: SlotId, engine: &mut E, metrics: &Metrics) {
        self.slots[slot.0].tokens.clear();
        clear(engine, slot, metrics);
    }

    /// Writes what the slots know to disk, the ones used longest ago first, as far as the time goes.
    pub(super) fn save<E: Engine>(&mut self, engine: &E, until: Instant, metrics: &Metrics) {
        let Some(store) = &mut self.store else { return };
        let mut order: Vec<usize> = (0..self.slots.len()).collect();
        order.sort_by_key(|slot| self.slots[*slot].used);
        for slot in order {
            let tokens = &self.slots[slot].tokens;
            if tokens.len() < SAVED_TOKENS_MIN || store.covers(tokens) {
                continue;
            }
            if Instant::now() >= until {
                tracing::warn!("the time to save what the slots know is over");
                return;
            }
            let state = match engine.save(SlotId(slot)) {
                Ok(state) => state,
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "what a slot knows cannot be saved");
                    continue;
                }
            };
            match store.save(tokens, &state) {
                Ok(true) => _ = metrics.prefixes_saved.inc(),
                Ok(false) => tracing::info!(tokens = tokens.len(), "a prefix is larger than the folder may be"),
                Err(error) => tracing::warn!(slot, %error, "what a slot knows cannot be written"),
            }
        }
        tracing::info!(prefixes = store.prefixes().count(), "kept for the next start");
    }
}

/// Brings the slot to the first `wanted` tokens of its text, or of the state given. Gives how many it has then.
fn prepare<E: Engine>(
    engine: &mut E,
    slot: SlotId,
    state: Option<Vec<u8>>,
    wanted: usize,
) -> Result<usize, EngineError> {
    if let Some(state) = state {
        engine.clear(slot)?;
        engine.restore(slot, &state)?;
    }
    if wanted == 0 {
        return engine.clear(slot).map(|()| 0);
    }
    engine.truncate(slot, wanted)
}

fn clear<E: Engine>(engine: &mut E, slot: SlotId, metrics: &Metrics) {
    if let Err(error) = engine.clear(slot) {
        tracing::error!(%slot, error = &error as &dyn std::error::Error, "a slot could not be cleared");
        metrics.engine_failed();
        metrics.errors.inc();
    }
}
