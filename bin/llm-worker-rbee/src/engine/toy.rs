//! A small deterministic engine for the batcher's tests: the next token is a function of all tokens before it, so any
//! mistake in positions, slots or leftovers of an earlier answer changes the text. It fails on request.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{BatchToken, Engine, EngineError, SlotId, Token, Tokenizer};

/// Tokens 0..26 are the letters; this one ends an answer.
pub const END: Token = Token(26);
const VOCABULARY: usize = 27;

/// The engine.
pub struct ToyEngine {
    sequences: BTreeMap<SlotId, Vec<Token>>,
    slots: usize,
    batch_tokens_max: usize,
    logits: BTreeMap<usize, Vec<f32>>,
    /// Sizes of all batches so far.
    pub batches: Arc<std::sync::Mutex<Vec<usize>>>,
    /// Makes the next batch fail.
    pub fail_next: Arc<AtomicBool>,
}

impl ToyEngine {
    /// An engine of that many slots and tokens a batch.
    pub fn new(slots: usize, batch_tokens_max: usize) -> Self {
        let (sequences, logits) = (BTreeMap::new(), BTreeMap::new());
        Self { sequences, slots, batch_tokens_max, logits, batches: Arc::default(), fail_next: Arc::default() }
    }
}

/// What comes after `tokens`: never the end, unless the tokens end in `z`.
pub fn next(tokens: &[Token]) -> Token {
    if tokens.last() == Some(&Token(25)) {
        return END;
    }
    let hash = tokens.iter().fold(7_i64, |hash, token| (hash * 31 + i64::from(token.0) + 1) % 1_000_003);
    Token((hash % 25) as i32)
}

/// The answer an engine without any batching would give.
pub fn alone(prompt: &[Token], count: usize) -> String {
    let mut tokens = prompt.to_vec();
    for _ in 0..count {
        tokens.push(next(&tokens));
    }
    tokens[prompt.len()..].iter().map(|token| letter(*token)).collect()
}

/// Text of a token.
pub fn letter(token: Token) -> char {
    char::from(b'a' + token.0 as u8)
}

impl Engine for ToyEngine {
    fn slots(&self) -> usize {
        self.slots
    }

    fn batch_tokens_max(&self) -> usize {
        self.batch_tokens_max
    }

    fn clear(&mut self, slot: SlotId) -> Result<(), EngineError> {
        self.sequences.remove(&slot);
        Ok(())
    }

    fn truncate(&mut self, slot: SlotId, tokens: usize) -> Result<usize, EngineError> {
        let sequence = self.sequences.entry(slot).or_default();
        assert!(tokens <= sequence.len(), "slot {slot} never had so many");
        sequence.truncate(tokens);
        Ok(tokens)
    }

    fn save(&self, slot: SlotId) -> Result<Vec<u8>, EngineError> {
        let sequence = self.sequences.get(&slot).ok_or(EngineError::Save { slot })?;
        Ok(sequence.iter().map(|token| token.0 as u8).collect())
    }

    fn restore(&mut self, slot: SlotId, state: &[u8]) -> Result<(), EngineError> {
        assert!(self.sequences.get(&slot).is_none_or(Vec::is_empty), "slot {slot} was not cleared");
        if self.fail_next.swap(false, Ordering::Relaxed) {
            return Err(EngineError::Restore { slot, bytes: state.len() });
        }
        self.sequences.insert(slot, state.iter().map(|byte| Token(i32::from(*byte))).collect());
        Ok(())
    }

    fn decode(&mut self, batch: &[BatchToken]) -> Result<(), EngineError> {
        self.logits.clear();
        self.batches.lock().unwrap().push(batch.len());
        assert!(batch.len() <= self.batch_tokens_max, "the batch is too large");
        if self.fail_next.swap(false, Ordering::Relaxed) {
            return Err(EngineError::Decode { tokens: batch.len(), source: "told to fail".into() });
        }
        for (index, token) in batch.iter().enumerate() {
            let sequence = self.sequences.entry(token.slot).or_default();
            assert_eq!(sequence.len(), token.position, "slot {} has leftovers or a gap", token.slot);
            sequence.push(token.token);
            if token.wants_logits {
                let chosen = next(sequence);
                let logit = |id| if id == chosen.0 as usize { 5.0 } else { 0.0 };
                self.logits.insert(index, (0..VOCABULARY).map(logit).collect());
            }
        }
        Ok(())
    }

    fn logits(&self, index: usize) -> Result<&[f32], EngineError> {
        self.logits.get(&index).map(Vec::as_slice).ok_or(EngineError::NoLogits { index })
    }

    /// How often each letter is there.
    fn embed(&mut self, tokens: &[Token], position: usize, sum: &mut Vec<f32>) -> Result<(), EngineError> {
        assert_eq!(position == 0, sum.is_empty(), "a new text begins with an empty sum");
        assert!(tokens.len() <= self.batch_tokens_max, "the piece is too large");
        if self.fail_next.swap(false, Ordering::Relaxed) {
            return Err(EngineError::Embed { tokens: tokens.len(), source: "told to fail".into() });
        }
        sum.resize(VOCABULARY, 0.0);
        tokens.iter().for_each(|token| sum[token.0 as usize] += 1.0);
        Ok(())
    }
}

/// Letters.
pub struct ToyTokenizer;

impl Tokenizer for ToyTokenizer {
    fn tokenize(&self, text: &str, _add_special: bool) -> Vec<Token> {
        text.bytes().map(|byte| Token(i32::from(byte) - i32::from(b'a'))).collect()
    }

    fn append_piece(&self, token: Token, bytes: &mut Vec<u8>) {
        if token != END {
            bytes.push(letter(token) as u8);
        }
    }

    fn is_end(&self, token: Token) -> bool {
        token == END
    }

    fn vocabulary(&self) -> usize {
        VOCABULARY
    }
}
