//! llama.cpp as an [`Engine`]. All of it happens on the one thread that owns the context; only the model, which does
//! not change after loading, is shared, for tokenizing.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{KvCacheType, LlamaContextParams, LlamaPoolingType};
use llama_cpp_2::llama_backend::LlamaBackend;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;

use super::{BatchToken, Engine, EngineError, ModelInfo, SlotId, Token, Tokenizer, identity, load, state, threads};

/// What to load and how.
#[derive(Debug, Clone)]
pub struct LlamaConfig {
    /// The GGUF file.
    pub model_path: PathBuf,
    /// Sequences at once.
    pub slots: usize,
    /// Tokens each sequence can have; cut to what the model was trained for.
    pub context_tokens: usize,
    /// Threads to compute with; `None` chooses.
    pub threads: Option<usize>,
    /// Batch-invariant numbers.
    pub deterministic: bool,
    /// The model is never swapped out, as far as the limit for locked memory allows.
    pub mlock: bool,
    /// The model's file is mapped; otherwise it is read into memory of its own.
    pub mmap: bool,
}

/// A loaded model: what is known of it, and its tokenizer.
pub struct LoadedModel {
    model: LlamaModel,
    info: ModelInfo,
    config: LlamaConfig,
}

/// llama.cpp's global state; it must exist once and stay.
///
/// # Errors
/// When somebody else in this process made one.
pub fn backend() -> Result<&'static LlamaBackend, llama_cpp_2::LlamaCppError> {
    static BACKEND: OnceLock<Result<LlamaBackend, llama_cpp_2::LlamaCppError>> = OnceLock::new();
    let result = BACKEND.get_or_init(|| {
        llama_cpp_2::send_logs_to_tracing(llama_cpp_2::LogOptions::default());
        LlamaBackend::init()
    });
    result.as_ref().map_err(|_| llama_cpp_2::LlamaCppError::BackendAlreadyInitialized)
}

impl LoadedModel {
    /// Loads the file. Takes as long as reading it.
    ///
    /// # Errors
    /// [`EngineError::Load`].
    pub fn load(config: LlamaConfig) -> Result<Arc<Self>, EngineError> {
        Self::load_unless(config, || false)
    }

    /// Loads the file, unless `given_up` says so before all of it is read; it is asked again and again.
    ///
    /// # Errors
    /// [`EngineError::Load`], also when it was given up.
    pub fn load_unless(config: LlamaConfig, given_up: impl Fn() -> bool + 'static) -> Result<Arc<Self>, EngineError> {
        let path = config.model_path.display().to_string();
        let backend = backend().map_err(|source| EngineError::Load { path: path.clone(), source: source.into() })?;
        let model = load::load(backend, &config.model_path, &config, given_up)
            .map_err(|source| EngineError::Load { path, source: source.into() })?;
        let info = describe(&model, &config);
        Ok(Arc::new(Self { model, info, config }))
    }

    /// What is known of it.
    #[must_use]
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// What a sequence's state depends on: states are exchanged only between engines of the same identity.
    ///
    /// # Errors
    /// When the model's file cannot be read any more.
    pub fn identity(&self) -> std::io::Result<String> {
        identity::of(&self.config, &self.info)
    }

    /// llama.cpp's own model, to be used as its examples do.
    #[must_use]
    pub fn llama(&self) -> &LlamaModel {
        &self.model
    }

    /// The engine over this model; to be made and used on one thread.
    ///
    /// # Errors
    /// [`EngineError::Context`].
    pub fn engine(&self) -> Result<LlamaEngine<'_>, EngineError> {
        let context_error = |source: Box<dyn std::error::Error + Send + Sync>| EngineError::Context {
            slots: self.config.slots,
            context_tokens: self.info.context_tokens,
            source,
        };
        let batch_tokens_max = batch_tokens(self.info.parameters).max(self.config.slots);
        let backend = backend().map_err(|source| context_error(source.into()))?;
        let params = self.context_params(batch_tokens_max).map_err(|source| context_error(source.into()))?;
        let context = self.model.new_context(backend, params).map_err(|source| context_error(source.into()))?;
        let batch = LlamaBatch::new(batch_tokens_max, 1);
        let slots = self.config.slots;
        Ok(LlamaEngine { loaded: self, context, embedder: None, batch, slots, batch_tokens_max })
    }

    /// A context that gives each token's state: one sequence, nothing shared with the slots.
    fn embedder(&self, batch_tokens_max: usize) -> Result<LlamaContext<'_>, Box<dyn std::error::Error + Send + Sync>> {
        let all = u32::try_from(self.info.context_tokens)?;
        let params = self.context_params(batch_tokens_max)?;
        let params = params.with_n_seq_max(1).with_n_ctx(NonZeroU32::new(all));
        let params = params.with_embeddings(true).with_pooling_type(LlamaPoolingType::None);
        Ok(self.model.new_context(backend()?, params)?)
    }

    fn context_params(&self, batch_tokens_max: usize) -> Result<LlamaContextParams, std::num::TryFromIntError> {
        let (slots, batch) = (u32::try_from(self.config.slots)?, u32::try_from(batch_tokens_max)?);
        let threads = i32::try_from(self.info.threads)?;
        // llama.cpp divides n_ctx by n_seq_max: every slot has a context of its own.
        let all = u32::try_from(self.info.context_tokens.saturating_mul(self.config.slots))?;
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(all))
            .with_n_seq_max(slots)
            .with_n_batch(batch)
            .with_n_ubatch(batch)
            .with_n_threads(threads)
            .with_n_threads_batch(threads)
            .with_kv_unified(false)
            .with_swa_full(true)
            .with_type_k(KvCacheType::F16)
            .with_type_v(KvCacheType::F16);
        Ok(if self.config.deterministic {
            params.with_flash_attention_policy(llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_DISABLED)
        } else {
            params
        })
    }
}

/// Tokens a batch: the time between two looks at who went away, so fewer for slower models. It depends on the model
/// alone, so that a request alone is cut the same way each time.
fn batch_tokens(parameters: u64) -> usize {
    match parameters {
        0..500_000_000 => 256,
        500_000_000..3_000_000_000 => 128,
        _ => 64,
    }
}

fn describe(model: &LlamaModel, config: &LlamaConfig) -> ModelInfo {
    let vocab = model.vocab();
    // A model without that token has -1, which llama.cpp must not be asked about.
    let text = |token: LlamaToken| match token.0 {
        0.. => vocab.text(token).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default(),
        _ => String::new(),
    };
    let trained = usize::try_from(model.n_ctx_train()).unwrap_or(usize::MAX);
    let (cores, load) = threads::machine();
    ModelInfo {
        chat_template: model.chat_template(None).ok().and_then(|template| template.to_string().ok()),
        bos: text(vocab.bos()),
        eos: text(vocab.eos()),
        adds_bos: vocab.should_add_bos(),
        context_tokens: if trained == 0 { config.context_tokens } else { config.context_tokens.min(trained) },
        trained_context_tokens: trained,
        parameters: model.n_params(),
        weights_bytes: model.size(),
        embedding_size: usize::try_from(model.n_embd()).unwrap_or(0),
        threads: config.threads.unwrap_or_else(|| threads::choose(model.n_params(), cores, load)),
    }
}

impl Tokenizer for LoadedModel {
    fn tokenize(&self, text: &str, add_special: bool) -> Vec<Token> {
        let tokens = self.model.vocab().tokenize(text.as_bytes(), add_special, true);
        tokens.into_iter().map(|token| Token(token.0)).collect()
    }

    fn append_piece(&self, token: Token, bytes: &mut Vec<u8>) {
        self.model.vocab().token_to_piece_into(LlamaToken(token.0), bytes, false, None);
    }

    fn is_end(&self, token: Token) -> bool {
        self.model.vocab().is_eog(LlamaToken(token.0))
    }

    fn vocabulary(&self) -> usize {
        usize::try_from(self.model.n_vocab()).unwrap_or(0)
    }
}

/// llama.cpp's context over a model.
pub struct LlamaEngine<'m> {
    loaded: &'m LoadedModel,
    context: LlamaContext<'m>,
    /// For embeddings; made when the first is wanted.
    embedder: Option<LlamaContext<'m>>,
    batch: LlamaBatch<'static>,
    slots: usize,
    batch_tokens_max: usize,
}

impl LlamaEngine<'_> {
    fn fill(&mut self, tokens: &[BatchToken]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.batch.clear();
        for token in tokens {
            let (slot, position) = (i32::try_from(token.slot.0)?, i32::try_from(token.position)?);
            self.batch.add(LlamaToken(token.token.0), position, &[slot], token.wants_logits)?;
        }
        Ok(())
    }

    fn add_states(
        &mut self,
        tokens: &[Token],
        position: usize,
        sum: &mut Vec<f32>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let embedder = match &mut self.embedder {
            Some(embedder) => embedder,
            none => none.insert(self.loaded.embedder(self.batch_tokens_max)?),
        };
        if position == 0 {
            embedder.clear_kv_cache();
        }
        self.batch.clear();
        for (offset, token) in tokens.iter().enumerate() {
            self.batch.add(LlamaToken(token.0), i32::try_from(position + offset)?, &[0], true)?;
        }
        embedder.decode(&mut self.batch)?;
        for place in 0..i32::try_from(tokens.len())? {
            let state = embedder.embeddings_ith(place)?;
            sum.resize(state.len(), 0.0);
            sum.iter_mut().zip(state).for_each(|(sum, state)| *sum += state);
        }
        Ok(())
    }
}

impl Engine for LlamaEngine<'_> {
    fn slots(&self) -> usize {
        self.slots
    }

    fn batch_tokens_max(&self) -> usize {
        self.batch_tokens_max
    }

    fn clear(&mut self, slot: SlotId) -> Result<(), EngineError> {
        let sequence = u32::try_from(slot.0).map_err(|_| EngineError::Clear { slot })?;
        match self.context.clear_kv_cache_seq(Some(sequence), None, None) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(EngineError::Clear { slot }),
        }
    }

    fn truncate(&mut self, slot: SlotId, tokens: usize) -> Result<usize, EngineError> {
        let error = || EngineError::Clear { slot };
        let sequence = u32::try_from(slot.0).map_err(|_| error())?;
        let first = u32::try_from(tokens).map_err(|_| error())?;
        match self.context.clear_kv_cache_seq(Some(sequence), Some(first), None) {
            Ok(true) => Ok(tokens),
            // Some kinds of model only know where they are now.
            Ok(false) => self.clear(slot).map(|()| 0),
            Err(_) => Err(error()),
        }
    }

    fn save(&self, slot: SlotId) -> Result<Vec<u8>, EngineError> {
        let sequence = i32::try_from(slot.0).ok();
        sequence.and_then(|sequence| state::save(&self.context, sequence)).ok_or(EngineError::Save { slot })
    }

    fn restore(&mut self, slot: SlotId, bytes: &[u8]) -> Result<(), EngineError> {
        let restored = i32::try_from(slot.0).is_ok_and(|sequence| state::restore(&mut self.context, sequence, bytes));
        if restored { Ok(()) } else { Err(EngineError::Restore { slot, bytes: bytes.len() }) }
    }

    fn decode(&mut self, batch: &[BatchToken]) -> Result<(), EngineError> {
        let error = |source| EngineError::Decode { tokens: batch.len(), source };
        self.fill(batch).map_err(error)?;
        self.context.decode(&mut self.batch).map_err(|source| error(source.into()))
    }

    fn logits(&self, index: usize) -> Result<&[f32], EngineError> {
        let place = i32::try_from(index).map_err(|_| EngineError::NoLogits { index })?;
        Ok(self.context.get_logits_ith(place))
    }

    fn embed(&mut self, tokens: &[Token], position: usize, sum: &mut Vec<f32>) -> Result<(), EngineError> {
        let result = self.add_states(tokens, position, sum);
        result.map_err(|source| EngineError::Embed { tokens: tokens.len(), source })
    }
}
