//! Answers that began elsewhere, or go on elsewhere.

use super::*;

/// WORK-12.
#[test]
fn an_answer_taken_up_after_any_token_is_the_same() {
    let sampling = Sampling { temperature: 0.9, top_k: 0, top_p: 0.95, min_p: 0.0, seed: 3 };
    for sampling in [Sampling::greedy(), sampling] {
        let mut world = world(2, 4);
        let whole = world.answer("hello", |job| Job { sampling, ..job });
        assert_eq!(whole.tokens.len(), 12);
        for k in 0..=12 {
            let resumed = whole.tokens[..k].to_vec();
            let again = world.answer("hello", |job| Job { sampling, resumed, ..job });
            // The text begins again, the tokens go on.
            assert_eq!((&again.text, &again.end), (&whole.text, &whole.end), "after {k}");
            assert_eq!(again.tokens, whole.tokens[k..], "after {k}");
        }
    }
}

/// WORK-12.
#[test]
fn a_stop_string_that_began_elsewhere_still_ends_it() {
    let whole = toy::alone(&letters("hello"), 12);
    let stops = vec![whole[4..8].to_owned()];
    let mut world = world(1, 8);
    let expected = world.answer("hello", |job| Job { stops: stops.clone(), ..job });
    for k in 0..=expected.tokens.len() {
        let resumed = expected.tokens[..k].to_vec();
        let again = world.answer("hello", |job| Job { stops: stops.clone(), resumed, ..job });
        assert_eq!((again.text, again.end), (expected.text.clone(), expected.end.clone()), "after {k}");
    }
}

/// WORK-13.
#[test]
fn who_waits_or_is_read_hears_that_the_engine_works_and_only_after_a_batch() {
    let mut world = world(1, 4);
    let mut jobs: Vec<_> = ["a", "b"].iter().map(|prompt| world.job(&prompt.repeat(40), 3)).collect();
    jobs.iter_mut().for_each(|(job, _)| job.resumable = true);
    let (jobs, mut receivers): (Vec<_>, Vec<_>) = jobs.into_iter().unzip();
    jobs.into_iter().for_each(|job| world.submit_job(job));
    let long_ago = std::time::Duration::from_secs(5);
    let pretend_silence = |world: &mut World| {
        world.batcher.queue.iter_mut().for_each(|waiting| waiting.told -= long_ago);
        world.batcher.slots.iter_mut().flatten().for_each(|running| running.pretend_silence(long_ago));
    };
    world.batcher.step();
    pretend_silence(&mut world);
    world.batcher.step();
    for receiver in &mut receivers {
        assert_eq!(receiver.try_recv(), Ok(Event::Progress));
        assert!(receiver.try_recv().is_err(), "twice in a moment");
    }
    // A sign that nobody took is not followed by another.
    pretend_silence(&mut world);
    world.batcher.step();
    pretend_silence(&mut world);
    world.batcher.step();
    assert_eq!((receivers[0].len(), receivers[1].len()), (1, 1));
    // An engine that fails is silent.
    receivers.iter_mut().for_each(|receiver| _ = receiver.try_recv());
    pretend_silence(&mut world);
    world.batcher.engine.fail_next.store(true, Ordering::Relaxed);
    world.batcher.step();
    assert!(receivers[1].try_recv().is_err());
}

/// WORK-13.
#[test]
fn going_down_hands_over_what_can_go_on_elsewhere() {
    let mut world = world(1, 8);
    let (job, mut running) = world.job("a", 50);
    world.submit_job(Job { resumable: true, ..job });
    let (job, mut waiting) = world.job("b", 50);
    world.submit_job(Job { resumable: true, ..job });
    let mut plain = world.submit("c", 50, &[]);
    world.batcher.step();
    world.batcher.handle(Command::Abort(ApiError::new(ErrorCode::ShuttingDown, "x")));
    assert_eq!(drain(&mut running).1, Some(Event::Handover));
    assert_eq!(drain(&mut waiting).1, Some(Event::Handover));
    assert!(matches!(drain(&mut plain).1, Some(Event::Failed(_))));
    assert!(world.batcher.is_idle());
}
