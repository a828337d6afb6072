//! The batcher step by step, over the toy engine: no thread, no clock.

use std::sync::atomic::Ordering;

use proptest::prelude::*;
use tokio::sync::mpsc;

use rbee_api::openai::Usage;

use super::*;
use crate::engine::Token;
use crate::engine::toy::{self, ToyEngine, ToyTokenizer};
use crate::job::EmbedJob;
use crate::sampler::Sampling;

mod resume;
mod warm;

struct World {
    batcher: Batcher<ToyEngine>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Answer {
    text: String,
    tokens: Vec<Token>,
    logprobs: Vec<crate::logprobs::Logprobs>,
    end: Option<Event>,
}

fn world(slots: usize, batch_tokens_max: usize) -> World {
    let metrics = Arc::new(Metrics::new("toy", slots));
    let batcher = Batcher::new(ToyEngine::new(slots, batch_tokens_max), Arc::new(ToyTokenizer), metrics.clone());
    World { batcher, metrics }
}

fn letters(text: &str) -> Vec<Token> {
    ToyTokenizer.tokenize(text, false)
}

impl World {
    fn job(&self, prompt: &str, tokens_max: usize) -> (Job, mpsc::Receiver<Event>) {
        Job::new(letters(prompt), tokens_max)
    }

    fn submit_job(&mut self, job: Job) {
        self.metrics.queue_depth.inc();
        self.batcher.handle(Command::Submit(job));
    }

    fn submit(&mut self, prompt: &str, tokens_max: usize, stops: &[&str]) -> mpsc::Receiver<Event> {
        let (job, receiver) = self.job(prompt, tokens_max);
        self.submit_job(Job { stops: stops.iter().map(|stop| (*stop).to_owned()).collect(), ..job });
        receiver
    }

    /// One answer of 12 tokens, changed as wanted, made alone.
    fn answer(&mut self, prompt: &str, change: impl FnOnce(Job) -> Job) -> Answer {
        let (job, mut receiver) = self.job(prompt, 12);
        self.submit_job(change(job));
        self.run_until_idle();
        let mut answer = Answer::default();
        while let Ok(event) = receiver.try_recv() {
            match event {
                Event::Piece(piece) => {
                    answer.text.push_str(&piece.text);
                    answer.tokens.extend(piece.tokens);
                    answer.logprobs.extend(piece.logprobs);
                }
                other => answer.end = Some(other),
            }
        }
        answer
    }

    fn run_until_idle(&mut self) {
        for _ in 0..10_000 {
            if self.batcher.is_idle() {
                return;
            }
            self.batcher.step();
        }
        panic!("it never gets idle");
    }
}

/// All text so far, and the last event.
fn drain(receiver: &mut mpsc::Receiver<Event>) -> (String, Option<Event>) {
    let (mut text, mut last) = (String::new(), None);
    while let Ok(event) = receiver.try_recv() {
        match event {
            Event::Piece(piece) => text.push_str(&piece.text),
            other => last = Some(other),
        }
    }
    (text, last)
}

fn done(reason: FinishReason, prompt: u64, generated: u64) -> Option<Event> {
    Some(Event::Done { reason, usage: Usage::new(prompt, generated) })
}

#[test]
fn one_request_gets_its_text_and_usage() {
    let mut world = world(2, 8);
    let mut answer = world.submit("hello", 6, &[]);
    world.run_until_idle();
    assert_eq!(drain(&mut answer), (toy::alone(&letters("hello"), 6), done(FinishReason::Length, 5, 6)));
    assert_eq!(world.metrics.slots_busy.get(), 0);
}

#[test]
fn the_models_end_token_ends_it_and_does_not_count() {
    let mut world = world(1, 8);
    let mut answer = world.submit("xz", 6, &[]);
    world.run_until_idle();
    assert_eq!(drain(&mut answer), (String::new(), done(FinishReason::Stop, 2, 0)));
}

#[test]
fn a_stop_string_ends_it_before_itself() {
    let whole = toy::alone(&letters("hello"), 8);
    let mut world = world(1, 8);
    let mut answer = world.submit("hello", 8, &[&whole[3..6]]);
    world.run_until_idle();
    let first = whole.find(&whole[3..6]).unwrap();
    let (text, last) = drain(&mut answer);
    assert_eq!(text, whole[..first]);
    assert!(matches!(last, Some(Event::Done { reason: FinishReason::Stop, .. })), "{last:?}");
}

#[test]
fn a_late_request_joins_at_once_and_changes_nothing_for_the_first() {
    let mut world = world(2, 8);
    let mut first = world.submit("abc", 10, &[]);
    (0..3).for_each(|_| world.batcher.step());
    let mut second = world.submit("q", 1, &[]);
    world.batcher.step();
    assert_eq!(drain(&mut second), (toy::alone(&letters("q"), 1), done(FinishReason::Length, 1, 1)));
    world.run_until_idle();
    assert_eq!(drain(&mut first).0, toy::alone(&letters("abc"), 10));
}

#[test]
fn more_requests_than_slots_are_served_in_order() {
    let mut world = world(1, 8);
    let mut answers: Vec<_> = ["a", "b", "c"].iter().map(|prompt| world.submit(prompt, 2, &[])).collect();
    world.batcher.step();
    assert_eq!((world.metrics.queue_depth.get(), world.metrics.slots_busy.get()), (2, 1));
    let mut ended = Vec::new();
    while !world.batcher.is_idle() {
        world.batcher.step();
        for (index, answer) in answers.iter_mut().enumerate() {
            ended.extend(drain(answer).1.map(|_| index));
        }
    }
    assert_eq!(ended, [0, 1, 2]);
}

#[test]
fn a_client_that_goes_away_while_its_prompt_is_read_frees_the_slot_before_the_next_batch() {
    let mut world = world(1, 4);
    let long = world.submit(&"a".repeat(100), 5, &[]);
    let mut waiting = world.submit("b", 1, &[]);
    world.batcher.step();
    let batches = world.batcher.engine.batches.clone();
    assert_eq!(*batches.lock().unwrap(), [4]);
    drop(long);
    world.batcher.step();
    assert_eq!(drain(&mut waiting).0, toy::alone(&letters("b"), 1), "the slot was not free for the next one");
    assert_eq!(*batches.lock().unwrap(), [4, 1]);
    assert_eq!(world.metrics.abandoned.get(), 1);
}

#[test]
fn a_client_that_goes_away_while_it_waits_is_forgotten() {
    let mut world = world(1, 4);
    let mut first = world.submit("a", 3, &[]);
    let second = world.submit("b", 3, &[]);
    world.batcher.step();
    drop(second);
    world.batcher.step();
    assert_eq!(world.metrics.queue_depth.get(), 0);
    world.run_until_idle();
    assert_eq!(drain(&mut first).0, toy::alone(&letters("a"), 3));
}

#[test]
fn a_failed_batch_fails_its_requests_and_the_next_ones_work() {
    let mut world = world(2, 8);
    let mut broken = world.submit("abc", 10, &[]);
    (0..3).for_each(|_| world.batcher.step());
    world.batcher.engine.fail_next.store(true, Ordering::Relaxed);
    world.batcher.step();
    let (text, last) = drain(&mut broken);
    assert!(!text.is_empty());
    let Some(Event::Failed(error)) = last else { panic!("{last:?}") };
    assert_eq!(error.code, ErrorCode::WorkerFailed);
    assert_eq!((world.metrics.errors.get(), world.metrics.slots_busy.get()), (1, 0));
    let mut next = world.submit("abc", 4, &[]);
    world.run_until_idle();
    assert_eq!(drain(&mut next).0, toy::alone(&letters("abc"), 4));
}

#[test]
fn an_engine_that_only_fails_is_not_healthy() {
    let mut world = world(1, 8);
    for _ in 0..3 {
        assert!(world.metrics.is_healthy());
        world.batcher.engine.fail_next.store(true, Ordering::Relaxed);
        let _answer = world.submit("a", 1, &[]);
        world.batcher.step();
    }
    assert!(!world.metrics.is_healthy());
}

#[test]
fn abort_ends_who_runs_and_who_waits() {
    let mut world = world(1, 8);
    let mut answers = [world.submit("a", 50, &[]), world.submit("b", 50, &[])];
    world.batcher.step();
    world.batcher.handle(Command::Abort(ApiError::new(ErrorCode::ShuttingDown, "x")));
    assert!(world.batcher.is_idle());
    for answer in &mut answers {
        assert!(matches!(drain(answer).1, Some(Event::Failed(error)) if error.code == ErrorCode::ShuttingDown));
    }
    assert_eq!((world.metrics.slots_busy.get(), world.metrics.queue_depth.get()), (0, 0));
}

#[test]
fn a_client_that_does_not_read_stalls_nobody() {
    let mut world = world(2, 8);
    let _silent = world.submit("abc", 500, &[]);
    let mut other = world.submit("b", 20, &[]);
    world.run_until_idle();
    assert_eq!(drain(&mut other).0, toy::alone(&letters("b"), 20));
}

/// Only letters up to `m`, and at most so many.
struct OnlyFirstHalf(usize);

impl crate::job::Constraint for OnlyFirstHalf {
    fn allows(&mut self, token: Token) -> bool {
        self.0 > 0 && token.0 < 13
    }

    fn mask(&mut self, logits: &mut [f32]) {
        let allowed = if self.0 > 0 { 13 } else { 0 };
        logits[allowed..].fill(f32::NEG_INFINITY);
    }

    fn accept(&mut self, _token: Token) {
        self.0 -= 1;
    }
}

/// Cannot go on.
struct Broken;

impl crate::job::Constraint for Broken {
    fn allows(&mut self, _token: Token) -> bool {
        false
    }

    fn mask(&mut self, logits: &mut [f32]) {
        logits.fill(f32::NEG_INFINITY);
    }

    fn accept(&mut self, _token: Token) {}

    fn failed(&self) -> Option<&str> {
        Some("too difficult")
    }
}

#[test]
fn a_constraint_that_fails_is_no_end() {
    let broken = world(1, 8).answer("hello", |job| Job { constraint: Some(Box::new(Broken)), ..job });
    let Some(Event::Failed(error)) = &broken.end else { panic!("{:?}", broken.end) };
    assert!(error.message.contains("too difficult"), "{error}");
}

#[test]
fn a_constraint_is_kept_and_ends_the_answer_where_nothing_is_allowed() {
    let sampling = Sampling { temperature: 1.5, top_k: 0, top_p: 1.0, min_p: 0.0, seed: 3 };
    let constrained = |job| Job { sampling, constraint: Some(Box::new(OnlyFirstHalf(9))), ..job };
    let mut world = world(1, 8);
    let whole = world.answer("hello", constrained);
    assert_eq!(whole.tokens.len(), 9);
    assert!(whole.tokens.iter().all(|token| token.0 < 13), "{:?}", whole.tokens);
    assert_eq!(whole.end, done(FinishReason::Stop, 5, 9));
    for k in [1, 4, 9] {
        let resumed = whole.tokens[..k].to_vec();
        let again = world.answer("hello", |job| Job { resumed, ..constrained(job) });
        assert_eq!((&again.text, &again.end), (&whole.text, &whole.end), "after {k}");
    }
}

#[test]
fn logprobs_come_one_a_token() {
    let mut world = world(1, 8);
    let answer = world.answer("hello", |job| Job { logprobs: Some(2), ..job });
    let told: Vec<Token> = answer.logprobs.iter().map(|logprobs| logprobs.token).collect();
    assert_eq!(told, answer.tokens);
    assert!(answer.logprobs.iter().all(|logprobs| logprobs.top.len() == 2 && logprobs.top[0].0 == logprobs.token));
}

#[test]
fn texts_become_vectors_of_length_one_beside_answers() {
    let mut world = world(1, 4);
    let mut answer = world.submit("abc", 10, &[]);
    let (reply, mut vectors) = tokio::sync::oneshot::channel();
    let inputs = vec![letters("aaaaaaab"), letters("c")];
    world.batcher.handle(Command::Embed(EmbedJob { inputs, reply, place: None }));
    world.run_until_idle();
    let vectors = vectors.try_recv().unwrap().unwrap();
    assert_eq!(vectors.len(), 2);
    assert!((vectors[0][0] - 7.0 / 50_f32.sqrt()).abs() < 1e-6, "{vectors:?}");
    assert_eq!(vectors[1][2], 1.0);
    assert_eq!(drain(&mut answer).0, toy::alone(&letters("abc"), 10));
}

#[test]
fn vectors_that_fail_or_that_nobody_wants_hold_nobody_up() {
    let mut world = world(1, 4);
    let embed = |world: &mut World, text: &str| {
        let (reply, vectors) = tokio::sync::oneshot::channel();
        world.batcher.handle(Command::Embed(EmbedJob { inputs: vec![letters(text)], reply, place: None }));
        vectors
    };
    let mut failing = embed(&mut world, "aaa");
    drop(embed(&mut world, "bbb"));
    let mut last = embed(&mut world, "ccc");
    world.batcher.engine.fail_next.store(true, Ordering::Relaxed);
    world.run_until_idle();
    assert_eq!(failing.try_recv().unwrap().unwrap_err().code, ErrorCode::WorkerFailed);
    assert_eq!(last.try_recv().unwrap().unwrap()[0][2], 1.0);
}

proptest! {
    /// Whatever joins when, each gets what it would get alone.
    #[test]
    fn company_changes_no_answer(
        slots in 1_usize..5, batch in 5_usize..20,
        requests in prop::collection::vec(("[a-y]{1,30}", 1_usize..12, 0_usize..6), 1..12)
    ) {
        let mut world = world(slots, batch);
        let mut answers = Vec::new();
        for (prompt, count, steps) in &requests {
            answers.push(world.submit(prompt, *count, &[]));
            (0..*steps).for_each(|_| world.batcher.step());
        }
        world.run_until_idle();
        for ((prompt, count, _), answer) in requests.iter().zip(&mut answers) {
            let (text, last) = drain(answer);
            prop_assert_eq!(text, toy::alone(&letters(prompt), *count));
            prop_assert_eq!(last, done(FinishReason::Length, prompt.len() as u64, *count as u64));
        }
    }
}
