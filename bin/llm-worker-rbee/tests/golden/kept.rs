//! What was known before changes no number.

use std::time::{Duration, Instant};

use llm_worker_rbee::engine::Token;
use llm_worker_rbee::job::Command;
use llm_worker_rbee::kv::{Store, StoreConfig};

use crate::{Bench, PROMPTS, SLOTS, TOKENS, answer, bench, bench_over, load, test_model, warm};

/// WORK-14. States are saved out of batches of several sequences, and of different age.
#[test]
fn deterministic_answers_are_the_same_with_what_was_known_before() {
    let Some(path) = test_model() else { return };
    let model = load(&path, true);
    let folder = tempfile::tempdir().unwrap();
    let store = |identity: &str| {
        let config = StoreConfig { folder: folder.path().to_owned(), bytes_max: 1 << 30, clean: false };
        Store::open(config, identity.to_owned()).unwrap()
    };
    let identity = model.identity().unwrap();
    let mut expected = Vec::new();
    let seen = {
        let mut all = bench(&model);
        for prompt in PROMPTS {
            let prompt = all.tokens(prompt);
            let answer = all.alone(prompt.clone(), 2 * TOKENS, warm(3));
            expected.push((prompt, answer));
        }
        all.batcher.engine().seen.clone()
    };
    // The first halves in company, joining one by one, are saved.
    let mut first = bench_over(&model, seen.clone());
    first.batcher = first.batcher.with_store(store(&identity));
    let receivers: Vec<_> = expected
        .iter()
        .map(|(prompt, _)| {
            let receiver = first.submit(prompt.clone(), TOKENS, warm(3));
            (0..5).for_each(|_| first.batcher.step());
            receiver
        })
        .collect();
    assert_eq!(first.metrics.slots_busy.get(), SLOTS as i64, "they do not share the batch");
    first.finish();
    for (mut receiver, (_, whole)) in receivers.into_iter().zip(&expected) {
        assert_eq!(answer(&mut receiver), whole[..TOKENS]);
    }
    // The same slots go on...
    go_on(&mut first, &expected, 0);
    first.batcher.handle(save());
    first.assert_invariant(expected.len() * 2 * TOKENS - 2 * expected.len());
    drop(first);
    // ...and others do, from disk.
    let mut second = bench_over(&model, seen);
    second.batcher = second.batcher.with_store(store(&identity));
    go_on(&mut second, &expected, expected.iter().filter(|(prompt, _)| prompt.len() + TOKENS >= 48).count() as u64);
    second.assert_invariant(expected.len() * TOKENS);
    assert_eq!(store("another model").prefixes().count(), 0);
}

/// Each answer's second half, alone; all but a few tokens of the first half are known.
fn go_on(bench: &mut Bench<'_>, expected: &[(Vec<Token>, Vec<Token>)], restored: u64) {
    for (prompt, whole) in expected {
        let begun = [&prompt[..], &whole[..TOKENS]].concat();
        let known = bench.metrics.cached_tokens.get();
        assert_eq!(bench.alone(begun.clone(), TOKENS, warm(3)), whole[TOKENS..]);
        let known = bench.metrics.cached_tokens.get() - known;
        assert!(known as usize + 2 >= begun.len(), "only {known} of {} were known", begun.len());
    }
    assert_eq!(bench.metrics.prefixes_restored.get(), restored);
}

fn save() -> Command {
    let (done, _) = tokio::sync::oneshot::channel();
    Command::Save { until: Instant::now() + Duration::from_secs(60), done }
}
