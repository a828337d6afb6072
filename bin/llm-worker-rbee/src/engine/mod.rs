//! What the batcher needs of an inference engine, and nothing more. llama.cpp is behind it in [`llama`]; the tests of
//! the batcher use a small deterministic engine of the same trait.

use std::fmt;

mod identity;
pub mod llama;
mod load;
mod state;
pub mod threads;
#[cfg(test)]
pub mod toy;

/// Number of a token in the model's vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub i32);

/// One of the engine's sequences, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub usize);

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One token on its way into the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchToken {
    /// Which sequence it belongs to.
    pub slot: SlotId,
    /// The token.
    pub token: Token,
    /// Its place in the sequence, from 0.
    pub position: usize,
    /// Whether the numbers for the token after it are wanted.
    pub wants_logits: bool,
}

/// Runs a model over batches of tokens of several sequences. One thread owns it.
pub trait Engine {
    /// Number of sequences it keeps.
    fn slots(&self) -> usize;

    /// Most tokens one call of [`Engine::decode`] takes.
    fn batch_tokens_max(&self) -> usize;

    /// Forgets all of a sequence.
    ///
    /// # Errors
    /// When the engine cannot; the sequence must not be used then.
    fn clear(&mut self, slot: SlotId) -> Result<(), EngineError>;

    /// Forgets all of a sequence but its first `tokens`. Gives how many it has then: none, where the engine cannot keep
    /// a part.
    ///
    /// # Errors
    /// When the engine cannot; the sequence must be cleared then.
    fn truncate(&mut self, slot: SlotId, tokens: usize) -> Result<usize, EngineError>;

    /// All that is remembered of a sequence, for [`Engine::restore`] of an engine of the same model and form.
    ///
    /// # Errors
    /// When the engine cannot; nothing has changed then.
    fn save(&self, slot: SlotId) -> Result<Vec<u8>, EngineError>;

    /// Puts what [`Engine::save`] gave, of whichever slot, in place of a cleared sequence.
    ///
    /// # Errors
    /// When it does not fit; the sequence must be cleared then.
    fn restore(&mut self, slot: SlotId, state: &[u8]) -> Result<(), EngineError>;

    /// Runs the tokens through the model and remembers them. A sequence's tokens come in the order of their positions.
    ///
    /// # Errors
    /// When the engine cannot; the sequences named must be cleared then.
    fn decode(&mut self, batch: &[BatchToken]) -> Result<(), EngineError>;

    /// The numbers for the token after the batch's token `index`, which must have asked for them.
    ///
    /// # Errors
    /// When that token asked for none.
    fn logits(&self, index: usize) -> Result<&[f32], EngineError>;

    /// Adds the states of a text's tokens to `sum` (empty before its first token), apart from all sequences. A text
    /// comes in one or more pieces; `position` is the place of the piece's first token, 0 begins a new text.
    ///
    /// # Errors
    /// When the engine cannot.
    fn embed(&mut self, tokens: &[Token], position: usize, sum: &mut Vec<f32>) -> Result<(), EngineError>;
}

/// Text to tokens and back. Shared by threads.
pub trait Tokenizer: Send + Sync {
    /// Tokens of a text. `add_special` puts the model's begin token in front, where the model wants one.
    fn tokenize(&self, text: &str, add_special: bool) -> Vec<Token>;

    /// Appends the bytes of a token; they may be a torn piece of a character. Control tokens have none.
    fn append_piece(&self, token: Token, bytes: &mut Vec<u8>);

    /// Whether the model says with it that it is done.
    fn is_end(&self, token: Token) -> bool;

    /// Number of tokens there are.
    fn vocabulary(&self) -> usize;
}

/// What is known of a loaded model.
#[derive(Debug, Clone)]
pub struct ModelInfo {
    /// The chat template inside the file.
    pub chat_template: Option<String>,
    /// Text of the begin token.
    pub bos: String,
    /// Text of the end token.
    pub eos: String,
    /// Whether tokenizing adds the begin token.
    pub adds_bos: bool,
    /// Tokens a sequence can have.
    pub context_tokens: usize,
    /// Longest context it was trained for.
    pub trained_context_tokens: usize,
    /// Number of weights.
    pub parameters: u64,
    /// Size of the weights, bytes.
    pub weights_bytes: u64,
    /// Numbers in an embedding.
    pub embedding_size: usize,
    /// Threads the engine computes with.
    pub threads: usize,
}

/// Why an engine could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The file could not be made into a model.
    #[error("cannot load the model {path}: it is no GGUF file this llama.cpp can read, or memory is short")]
    Load {
        /// Which file.
        path: String,
        /// What the library said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Memory for the sequences could not be had.
    #[error("cannot make room for {slots} sequences of {context_tokens} tokens")]
    Context {
        /// Sequences asked for.
        slots: usize,
        /// Tokens each.
        context_tokens: usize,
        /// What the library said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A batch failed.
    #[error("the engine failed on a batch of {tokens} tokens")]
    Decode {
        /// Its size.
        tokens: usize,
        /// What the library said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No vector could be made.
    #[error("the engine cannot embed {tokens} tokens")]
    Embed {
        /// How many.
        tokens: usize,
        /// What the library said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A sequence could not be forgotten.
    #[error("the engine cannot clear slot {slot}")]
    Clear {
        /// Which one.
        slot: SlotId,
    },
    /// What is remembered of a sequence could not be had.
    #[error("the engine cannot save slot {slot}")]
    Save {
        /// Which one.
        slot: SlotId,
    },
    /// What was remembered of a sequence does not fit.
    #[error("the engine cannot restore {bytes} bytes to slot {slot}")]
    Restore {
        /// Which one.
        slot: SlotId,
        /// How much it was given.
        bytes: usize,
    },
    /// Numbers were asked for that were not computed.
    #[error("no logits for token {index} of the batch")]
    NoLogits {
        /// Place in the batch.
        index: usize,
    },
    /// All numbers for a token are NaN.
    #[error("the model gave no usable numbers for slot {slot}")]
    NoNumbers {
        /// Which sequence.
        slot: SlotId,
    },
}
