//! Our engine against llama.cpp itself, and against itself in company, on a real model.
//!
//! The reference is the plain loop of llama.cpp's own examples: one sequence, the whole prompt in one batch, argmax. It
//! shares no code with our batcher, scheduler or sampler. Needs a GGUF file in RBEE_TEST_MODEL.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and says when it is skipped")]

mod kept;
mod witness;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use llama_cpp_2::context::params::LlamaContextParams;
use llama_cpp_2::llama_batch::LlamaBatch;
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::token::LlamaToken;
use llm_worker_rbee::batcher::Batcher;
use llm_worker_rbee::engine::llama::{LlamaConfig, LlamaEngine, LoadedModel, backend};
use llm_worker_rbee::engine::{Token, Tokenizer};
use llm_worker_rbee::job::{Command, Event, Job};
use llm_worker_rbee::metrics::Metrics;
use llm_worker_rbee::sampler::Sampling;
use tokio::sync::mpsc::Receiver;
use witness::{Compared, Seen, Witness};

const PROMPTS: [&str; 4] = [
    "The capital of France is",
    "<|im_start|>user\nWrite a haiku about bees.<|im_end|>\n<|im_start|>assistant\n",
    "fn main() {\n    let numbers = vec![1, 2, 3];\n    for number in",
    "Once upon a time, in a village between two rivers, there lived an old woman who kept bees. Every morning she walked \
     to the hives, listened to them for a while, and told them what had happened in the village. The bees, she said, must \
     know everything, or they would leave. One morning the hives were silent. She knocked on the first one, and",
];
const TOKENS: usize = 48;
const SLOTS: usize = 4;
const CONTEXT: usize = 512;

/// The test model, or `None` with a word of why nothing is tested.
fn test_model() -> Option<PathBuf> {
    let path = std::env::var_os("RBEE_TEST_MODEL").map(PathBuf::from);
    if path.is_none() {
        println!("skipped: RBEE_TEST_MODEL does not name a GGUF file");
    }
    path
}

fn load(path: &Path, deterministic: bool) -> Arc<LoadedModel> {
    let model_path = path.to_owned();
    let config = LlamaConfig {
        model_path,
        slots: SLOTS,
        context_tokens: CONTEXT,
        threads: Some(1),
        deterministic,
        mlock: false,
        mmap: true,
    };
    LoadedModel::load(config).unwrap()
}

struct Bench<'m> {
    model: Arc<LoadedModel>,
    batcher: Batcher<Witness<LlamaEngine<'m>>>,
    metrics: Arc<Metrics>,
    compared: Arc<Mutex<Compared>>,
}

/// All is computed each time.
fn bench(model: &Arc<LoadedModel>) -> Bench<'_> {
    bench_with(model, |_| {})
}

/// Beginnings that are known are used; numbers are compared with those another one saw.
fn bench_over(model: &Arc<LoadedModel>, seen: Seen) -> Bench<'_> {
    bench_with(model, |engine| (engine.seen, engine.is_forgetful) = (seen, false))
}

fn bench_with<'m>(model: &'m Arc<LoadedModel>, change: impl FnOnce(&mut Witness<LlamaEngine<'m>>)) -> Bench<'m> {
    let metrics = Arc::new(Metrics::new("test", SLOTS));
    let compared = Arc::<Mutex<Compared>>::default();
    let mut engine = Witness::new(model.engine().unwrap(), compared.clone());
    change(&mut engine);
    let batcher = Batcher::new(engine, model.clone(), metrics.clone());
    Bench { model: model.clone(), batcher, metrics, compared }
}

impl Bench<'_> {
    fn tokens(&self, prompt: &str) -> Vec<Token> {
        self.model.tokenize(prompt, true)
    }

    /// All numbers that could be compared were the same, bit by bit, and there were some.
    fn assert_invariant(&self, times_min: usize) {
        let compared = *self.compared.lock().unwrap();
        println!("{compared:?}");
        assert!(compared.differed == 0 && compared.times >= times_min, "{compared:?}");
    }

    fn submit(&mut self, prompt: Vec<Token>, tokens_max: usize, sampling: Sampling) -> Receiver<Event> {
        let (job, receiver) = Job::new(prompt, tokens_max);
        self.metrics.queue_depth.inc();
        let job = Job { sampling, ignore_end: true, ..job };
        self.batcher.handle(Command::Submit(job));
        receiver
    }

    fn finish(&mut self) {
        while !self.batcher.is_idle() {
            self.batcher.step();
        }
    }

    fn alone(&mut self, prompt: Vec<Token>, tokens_max: usize, sampling: Sampling) -> Vec<Token> {
        let mut receiver = self.submit(prompt, tokens_max, sampling);
        self.finish();
        answer(&mut receiver)
    }
}

fn answer(receiver: &mut Receiver<Event>) -> Vec<Token> {
    let mut tokens = Vec::new();
    loop {
        match receiver.try_recv().unwrap() {
            Event::Piece(piece) => tokens.extend(piece.tokens),
            Event::Done { .. } => return tokens,
            other => panic!("{other:?}"),
        }
    }
}

/// llama.cpp as its examples use it, over weights in the same layout: repacked ones round otherwise.
fn reference_answer(model: &LlamaModel, prompt: &str, deterministic: bool) -> Vec<Token> {
    let params =
        LlamaContextParams::default().with_n_ctx(NonZeroU32::new(512)).with_n_threads(1).with_n_threads_batch(1);
    let params = if deterministic {
        params.with_flash_attention_policy(llama_cpp_sys_2::LLAMA_FLASH_ATTN_TYPE_DISABLED)
    } else {
        params
    };
    let mut context = model.new_context(backend().unwrap(), params).unwrap();
    let tokens = model.vocab().tokenize(prompt.as_bytes(), true, true);
    let mut batch = LlamaBatch::new(512, 1);
    batch.add_sequence(&tokens, 0, false).unwrap();
    let mut position = i32::try_from(tokens.len()).unwrap();
    let mut generated = Vec::new();
    while generated.len() < TOKENS {
        context.decode(&mut batch).unwrap();
        let logits = context.get_logits_ith(batch.n_tokens() - 1);
        let best = (0..logits.len()).reduce(|best, id| if logits[id] > logits[best] { id } else { best }).unwrap();
        let best = i32::try_from(best).unwrap();
        generated.push(Token(best));
        batch.clear();
        batch.add(LlamaToken(best), position, &[0], true).unwrap();
        position += 1;
    }
    generated
}

fn warm(seed: u64) -> Sampling {
    Sampling { temperature: 0.9, top_k: 40, top_p: 0.95, min_p: 0.02, seed }
}

/// WORK-01.
#[test]
fn greedy_gives_llama_cpps_own_tokens() {
    let Some(path) = test_model() else { return };
    for deterministic in [false, true] {
        let model = load(&path, deterministic);
        let expected: Vec<_> =
            PROMPTS.iter().map(|prompt| reference_answer(model.llama(), prompt, deterministic)).collect();
        let mut bench = bench(&model);
        for (prompt, expected) in PROMPTS.iter().zip(expected) {
            let tokens = bench.tokens(prompt);
            let ours = bench.alone(tokens, TOKENS, Sampling::greedy());
            assert_eq!(ours, expected, "deterministic = {deterministic}, {prompt:?}");
        }
    }
}

/// WORK-02.
#[test]
fn deterministic_answers_are_the_same_in_company() {
    let Some(path) = test_model() else { return };
    let model = load(&path, true);
    let mut bench = bench(&model);
    for sampling in [Sampling::greedy(), warm(11)] {
        let prompts: Vec<Vec<Token>> = PROMPTS.iter().map(|prompt| bench.tokens(prompt)).collect();
        let alone: Vec<_> = prompts.iter().map(|prompt| bench.alone(prompt.clone(), TOKENS, sampling)).collect();
        // Two orders, joining 0, 3 and 11 rounds apart: prompts are read beside answers, and answers end one by one.
        for (order, apart) in [([0, 1, 2, 3], 0), ([0, 1, 2, 3], 3), ([3, 0, 2, 1], 11)] {
            let mut receivers = Vec::new();
            for index in order {
                receivers.push((index, bench.submit(prompts[index].clone(), TOKENS, sampling)));
                (0..apart).for_each(|_| bench.batcher.step());
            }
            bench.batcher.step();
            assert_eq!(bench.metrics.slots_busy.get(), SLOTS as i64, "they do not share the batch");
            bench.finish();
            for (index, mut receiver) in receivers {
                assert_eq!(answer(&mut receiver), alone[index], "prompt {index}, {sampling:?}, {apart} rounds apart");
            }
        }
    }
    bench.assert_invariant(2 * 3 * PROMPTS.len() * TOKENS);
}

/// WORK-02.
#[test]
fn deterministic_answers_go_on_the_same_after_a_resume() {
    let Some(path) = test_model() else { return };
    let model = load(&path, true);
    let mut bench = bench(&model);
    for sampling in [Sampling::greedy(), warm(5)] {
        for prompt in PROMPTS {
            let prompt = bench.tokens(prompt);
            let whole = bench.alone(prompt.clone(), TOKENS, sampling);
            for given in [1, 7, 31] {
                let begun = [&prompt[..], &whole[..given]].concat();
                let rest = bench.alone(begun, TOKENS - given, sampling);
                assert_eq!(rest, whole[given..], "taken up after {given} tokens, {sampling:?}");
            }
        }
    }
    bench.assert_invariant(2 * PROMPTS.len() * (3 * TOKENS - 1 - 7 - 31));
}

#[test]
fn seeds_differ_and_repeat() {
    let Some(path) = test_model() else { return };
    let model = load(&path, false);
    let mut bench = bench(&model);
    let prompt = bench.tokens(PROMPTS[3]);
    let mut with = |seed| bench.alone(prompt.clone(), TOKENS, warm(seed));
    let (first, again, other) = (with(1), with(1), with(2));
    assert_eq!(first, again);
    assert_ne!(first, other);
}

/// WORK-18.
#[test]
fn a_load_that_is_given_up_ends() {
    let Some(path) = test_model() else { return };
    for deterministic in [false, true] {
        let config = LlamaConfig {
            model_path: path.clone(),
            slots: SLOTS,
            context_tokens: CONTEXT,
            threads: Some(1),
            deterministic,
            mlock: false,
            mmap: true,
        };
        let asked = Arc::new(Mutex::new(0));
        let given_up = {
            let asked = asked.clone();
            move || {
                *asked.lock().unwrap() += 1;
                *asked.lock().unwrap() == 3
            }
        };
        assert!(LoadedModel::load_unless(config, given_up).is_err());
        assert_eq!(*asked.lock().unwrap(), 3, "it went on");
    }
}
