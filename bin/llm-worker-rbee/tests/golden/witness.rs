//! An engine that compares the numbers it gives.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};

use llm_worker_rbee::engine::{BatchToken, Engine, EngineError, SlotId, Token};

/// How often the numbers after the same tokens were compared bit by bit, and how often they differed.
#[derive(Debug, Default, Clone, Copy)]
pub struct Compared {
    pub times: usize,
    pub differed: usize,
}

/// Checksums of the numbers after texts.
pub type Seen = Arc<Mutex<BTreeMap<Vec<Token>, u64>>>;

/// Remembers the numbers the engine gave after each sequence of tokens, and compares when it gives them again.
pub struct Witness<E> {
    engine: E,
    sequences: BTreeMap<SlotId, Vec<Token>>,
    asked: Vec<Vec<Token>>,
    pub seen: Seen,
    compared: Arc<Mutex<Compared>>,
    /// Keeps no beginnings, so that all is computed each time.
    pub is_forgetful: bool,
}

impl<E: Engine> Witness<E> {
    pub fn new(engine: E, compared: Arc<Mutex<Compared>>) -> Self {
        let (sequences, asked, seen) = (BTreeMap::new(), Vec::new(), Arc::default());
        Self { engine, sequences, asked, seen, compared, is_forgetful: true }
    }

    fn compare(&self, tokens: &[Token], logits: &[f32]) {
        let mut hasher = DefaultHasher::new();
        logits.iter().for_each(|logit| logit.to_bits().hash(&mut hasher));
        let hash = hasher.finish();
        let Some(before) = self.seen.lock().unwrap().insert(tokens.to_vec(), hash) else { return };
        let mut compared = self.compared.lock().unwrap();
        compared.times += 1;
        compared.differed += usize::from(before != hash);
    }
}

impl<E: Engine> Engine for Witness<E> {
    fn slots(&self) -> usize {
        self.engine.slots()
    }

    fn batch_tokens_max(&self) -> usize {
        self.engine.batch_tokens_max()
    }

    fn clear(&mut self, slot: SlotId) -> Result<(), EngineError> {
        self.sequences.remove(&slot);
        self.engine.clear(slot)
    }

    fn truncate(&mut self, slot: SlotId, tokens: usize) -> Result<usize, EngineError> {
        if self.is_forgetful {
            return self.clear(slot).map(|()| 0);
        }
        self.sequences.entry(slot).or_default().truncate(tokens);
        self.engine.truncate(slot, tokens)
    }

    /// The engine's state, and behind it the tokens it is of.
    fn save(&self, slot: SlotId) -> Result<Vec<u8>, EngineError> {
        let mut state = self.engine.save(slot)?;
        let tokens = self.sequences.get(&slot).map(Vec::as_slice).unwrap_or_default();
        tokens.iter().for_each(|token| state.extend_from_slice(&token.0.to_le_bytes()));
        state.extend_from_slice(&(tokens.len() as u64).to_le_bytes());
        Ok(state)
    }

    fn restore(&mut self, slot: SlotId, state: &[u8]) -> Result<(), EngineError> {
        let (state, count) = state.split_last_chunk::<8>().unwrap();
        let (state, tokens) = state.split_at(state.len() - 4 * u64::from_le_bytes(*count) as usize);
        let tokens = tokens.chunks(4).map(|four| Token(i32::from_le_bytes(four.try_into().unwrap())));
        self.sequences.insert(slot, tokens.collect());
        self.engine.restore(slot, state)
    }

    fn decode(&mut self, batch: &[BatchToken]) -> Result<(), EngineError> {
        self.asked.clear();
        for token in batch {
            let sequence = self.sequences.entry(token.slot).or_default();
            sequence.push(token.token);
            self.asked.push(if token.wants_logits { sequence.clone() } else { Vec::new() });
        }
        self.engine.decode(batch)
    }

    fn logits(&self, index: usize) -> Result<&[f32], EngineError> {
        let logits = self.engine.logits(index)?;
        self.compare(&self.asked[index], logits);
        Ok(logits)
    }

    fn embed(&mut self, tokens: &[Token], position: usize, sum: &mut Vec<f32>) -> Result<(), EngineError> {
        self.engine.embed(tokens, position, sum)
    }
}
