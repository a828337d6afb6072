//! llama.cpp in a plain loop: the prompts in one batch, then one token of each sequence at a time.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::params::{KvCacheType, LlamaContextParams};
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::token::LlamaToken;
use llm_worker_rbee::engine::llama::{LlamaConfig, LoadedModel, backend};
use llm_worker_rbee::sampler::{Sampling, sample};

use crate::served::{CONTEXT, PROMPT};

/// The model, with weights in the same layout as the worker's.
pub struct Bare {
    model: Arc<LoadedModel>,
    streams: usize,
}

/// A context over it.
pub struct Loop<'m> {
    context: LlamaContext<'m>,
    prompt: Vec<LlamaToken>,
    streams: usize,
}

impl Bare {
    pub fn load(path: &Path, streams: usize) -> Self {
        let (model_path, threads) = (path.to_owned(), Some(1));
        let config = LlamaConfig {
            model_path,
            slots: streams,
            context_tokens: CONTEXT,
            threads,
            deterministic: false,
            mlock: false,
            mmap: true,
        };
        Self { model: LoadedModel::load(config).unwrap(), streams }
    }

    pub fn loop_of(&self) -> Loop<'_> {
        let streams = u32::try_from(self.streams).unwrap();
        let params = LlamaContextParams::default()
            .with_n_ctx(NonZeroU32::new(u32::try_from(CONTEXT).unwrap() * streams))
            .with_n_seq_max(streams)
            .with_n_batch(256)
            .with_n_ubatch(256)
            .with_n_threads(1)
            .with_n_threads_batch(1)
            .with_kv_unified(false)
            .with_type_k(KvCacheType::F16)
            .with_type_v(KvCacheType::F16);
        let context = self.model.llama().new_context(backend().unwrap(), params).unwrap();
        let prompt = self.model.llama().vocab().tokenize(PROMPT.as_bytes(), true, true);
        Loop { context, prompt, streams: self.streams }
    }
}

impl Loop<'_> {
    /// By the worker's own function, which is quicker than llama.cpp's greedy sampler: what is left to tell is what the
    /// worker costs.
    fn likeliest(&self, place: i32) -> LlamaToken {
        LlamaToken(sample(self.context.get_logits_ith(place), &Sampling::greedy(), 0).unwrap().0)
    }

    /// Of all sequences together, between the first token of each and the last.
    pub fn tokens_a_second(&mut self, tokens: usize) -> f64 {
        self.context.clear_kv_cache();
        let mut batch = LlamaBatch::new(256, 1);
        let mut next = Vec::new();
        for sequence in 0..i32::try_from(self.streams).unwrap() {
            batch.clear();
            for (position, token) in self.prompt.iter().enumerate() {
                let last = position + 1 == self.prompt.len();
                batch.add(*token, i32::try_from(position).unwrap(), &[sequence], last).unwrap();
            }
            self.context.decode(&mut batch).unwrap();
            next.push(self.likeliest(batch.n_tokens() - 1));
        }
        let begin = Instant::now();
        for offset in 0..tokens - 1 {
            batch.clear();
            let position = i32::try_from(self.prompt.len() + offset).unwrap();
            for (sequence, token) in next.iter().enumerate() {
                batch.add(*token, position, &[i32::try_from(sequence).unwrap()], true).unwrap();
            }
            self.context.decode(&mut batch).unwrap();
            for (place, token) in next.iter_mut().enumerate() {
                *token = self.likeliest(i32::try_from(place).unwrap());
            }
        }
        (self.streams * (tokens - 1)) as f64 / begin.elapsed().as_secs_f64()
    }
}
