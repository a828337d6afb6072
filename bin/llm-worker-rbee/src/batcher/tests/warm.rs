//! Beginnings that are known already: used on, copied, kept over restarts, and never wrong.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::kv::StoreConfig;

fn store(folder: &Path) -> Store {
    let config = StoreConfig { folder: folder.to_owned(), bytes_max: 1 << 20, clean: false };
    Store::open(config, "toy".to_owned()).unwrap()
}

impl World {
    fn with_store(mut self, folder: &Path) -> Self {
        self.batcher = self.batcher.with_store(store(folder));
        self
    }

    fn save(&mut self) {
        let (done, mut saved) = tokio::sync::oneshot::channel();
        self.batcher.handle(Command::Save { until: Instant::now() + Duration::from_secs(60), done });
        saved.try_recv().unwrap();
    }

    /// Runs one answer alone; its text, and how many tokens went into the engine for it.
    fn cost(&mut self, prompt: &str, tokens_max: usize) -> (String, usize) {
        let before: usize = self.batcher.engine.batches.lock().unwrap().iter().sum();
        let mut receiver = self.submit(prompt, tokens_max, &[]);
        self.run_until_idle();
        let after: usize = self.batcher.engine.batches.lock().unwrap().iter().sum();
        (drain(&mut receiver).0, after - before)
    }
}

fn expected(prompt: &str, tokens_max: usize) -> String {
    toy::alone(&letters(prompt), tokens_max)
}

/// WORK-14.
#[test]
fn a_conversation_that_goes_on_is_not_read_again() {
    let mut world = world(2, 8);
    let first = "abcdefgh".repeat(4);
    let (answer, cost) = world.cost(&first, 5);
    assert_eq!(cost, 32 + 4, "the last token of an answer is not read");
    let second = format!("{first}{answer}xyx");
    // The answer's last token and three more; and of four new ones three are read.
    assert_eq!(world.cost(&second, 4), (expected(&second, 4), 4 + 3));
    assert_eq!(world.metrics.cached_tokens.get(), 32 + 4);
    let rate = 36.0 / (32.0 + 40.0);
    assert!((world.metrics.hit_rate() - rate).abs() < 1e-9, "{}", world.metrics.hit_rate());
    // The very same once more.
    assert_eq!(world.cost(&second, 4), (expected(&second, 4), 1 + 3));
}

#[test]
fn a_long_common_beginning_is_copied_from_a_busy_slot() {
    let mut world = world(2, 64);
    let common = "abcdefgh".repeat(10);
    let mut busy = world.submit(&format!("{common}q"), 40, &[]);
    (0..5).for_each(|_| world.batcher.step());
    let batches = world.batcher.engine.batches.clone();
    batches.lock().unwrap().clear();
    let mut other = world.submit(&format!("{common}xx"), 3, &[]);
    world.batcher.step();
    assert_eq!(*batches.lock().unwrap(), [1 + 2], "one of the answer, two of the prompt");
    world.run_until_idle();
    assert_eq!(drain(&mut other).0, expected(&format!("{common}xx"), 3));
    assert_eq!(drain(&mut busy).0, expected(&format!("{common}q"), 40));
}

#[test]
fn what_an_engine_knew_before_it_failed_is_not_used() {
    let mut world = world(1, 64);
    let prompt = "abcdefgh".repeat(4);
    let mut broken = world.submit(&prompt, 9, &[]);
    (0..3).for_each(|_| world.batcher.step());
    world.batcher.engine.fail_next.store(true, Ordering::Relaxed);
    world.batcher.step();
    assert!(matches!(drain(&mut broken).1, Some(Event::Failed(_))));
    assert_eq!(world.cost(&prompt, 2), (expected(&prompt, 2), 32 + 1));
}

/// WORK-14.
#[test]
fn what_was_kept_is_used_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (short, long) = ("hi".repeat(3), "abcdefgh".repeat(10));
    let mut before = world(2, 64).with_store(folder.path());
    before.cost(&short, 2);
    before.cost(&long, 2);
    before.save();
    assert_eq!(before.metrics.prefixes_saved.get(), 1, "a short text is not worth a file");
    let mut after = world(2, 64).with_store(folder.path());
    assert_eq!(after.cost(&long, 2), (expected(&long, 2), 1 + 1));
    assert_eq!(after.metrics.prefixes_restored.get(), 1);
    // Nothing new: nothing is written again.
    after.save();
    assert_eq!(after.metrics.prefixes_saved.get(), 0);
}

/// WORK-15.
#[test]
fn a_damaged_file_or_one_the_engine_refuses_costs_time_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let prompt = "abcdefgh".repeat(10);
    let mut before = world(1, 128).with_store(folder.path());
    before.cost(&prompt, 2);
    before.save();
    let file = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    // Refused by the engine.
    let mut after = world(1, 128).with_store(folder.path());
    after.batcher.engine.fail_next.store(true, Ordering::Relaxed);
    assert_eq!(after.cost(&prompt, 2), (expected(&prompt, 2), 80 + 1));
    // Damaged between the start and its use.
    let mut after = world(1, 128).with_store(folder.path());
    let mut bytes = fs::read(&file).unwrap();
    bytes[100] ^= 4;
    fs::write(&file, bytes).unwrap();
    assert_eq!(after.cost(&prompt, 2), (expected(&prompt, 2), 80 + 1));
    assert!(!file.exists());
}

proptest! {
    /// WORK-14: whatever is known of what, each gets what it would get alone; over restarts too.
    #[test]
    fn nothing_known_changes_an_answer(
        slots in 1_usize..4, restart_after in 0_usize..12,
        requests in prop::collection::vec((0_usize..3, "[a-c]{0,4}", 1_usize..6, 0_usize..5), 1..14)
    ) {
        let folder = tempfile::tempdir().unwrap();
        let begins = ["abcdefgh".repeat(9), "abcdefgh".repeat(3), "xyxyxyxy".repeat(8)];
        let mut world = world(slots, 32).with_store(folder.path());
        let mut answers = Vec::new();
        for (number, (begin, rest, count, steps)) in requests.iter().enumerate() {
            let prompt = format!("{}{rest}", begins[*begin]);
            answers.push((world.submit(&prompt, *count, &[]), expected(&prompt, *count)));
            (0..*steps).for_each(|_| world.batcher.step());
            if number == restart_after {
                world.run_until_idle();
                world.save();
                world = super::world(slots, 32).with_store(folder.path());
            }
        }
        world.run_until_idle();
        for (answer, expected) in &mut answers {
            prop_assert_eq!(&drain(answer).0, expected);
        }
    }
}
