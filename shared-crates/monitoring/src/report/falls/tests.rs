//! Tables of events and the falls they come to.

use jiff::Timestamp;

use super::super::support::{because, event};
use super::*;

const WINDOW: Window = Window { from_ms: 0, to_ms: 600_000 };

fn falls(events: &[Event]) -> Falls {
    Falls::of(&events.iter().collect::<Vec<_>>(), WINDOW)
}

fn at(at_s: i64, kind: EventKind) -> Event {
    event(u64::try_from(at_s + 1_000).unwrap(), at_s, "w/0", kind)
}

/// REPT-06
#[test]
fn a_restart_has_the_cause_of_the_fall_that_led_to_it() {
    use EventKind::{Adopted, Cascade, Failed, Gap, Restarting, Running, Starting, Stopped, Stopping, Unavailable};
    type Case<'c> = (&'c str, Vec<Event>, &'c [(i64, &'c str, bool)]);
    let crash = "it exited with code 1";
    let cases: &[Case<'_>] = &[
        ("a first start", vec![at(0, Starting), at(1, Running)], &[]),
        (
            "a crash",
            vec![at(0, Running), because(crash, at(60, Restarting)), because("its back-off is over", at(61, Starting))],
            &[(60, crash, false)],
        ),
        ("it waits still", vec![at(0, Running), because(crash, at(60, Restarting))], &[(60, crash, false)]),
        (
            "unhealthy",
            vec![
                at(0, Running),
                because("it was unhealthy", at(60, Stopping)),
                because("it was unhealthy", at(62, Restarting)),
                at(63, Starting),
            ],
            &[(60, "it was unhealthy", false)],
        ),
        (
            "with what it needs",
            vec![
                at(0, Running),
                Event { phase: Some(rbee_api::Phase::Stopping), ..because("cache/0 fell", at(60, Cascade)) },
                at(62, Starting),
            ],
            &[(60, "cache/0 fell", false)],
        ),
        ("an order to stop", vec![at(0, Running), at(60, Stopping), at(61, Stopped), at(90, Starting)], &[]),
        (
            "gave up",
            vec![at(0, Running), because(crash, at(60, Restarting)), because("too many restarts", at(60, Failed))],
            &[(60, "too many restarts", true)],
        ),
        ("gave up once", vec![at(0, Failed), at(60, Unavailable), at(70, Failed)], &[(0, UNKNOWN_CAUSE, true)]),
        ("tried again by hand", vec![at(-9, Failed), at(60, Starting), at(61, Running)], &[]),
        ("before the period", vec![at(-60, Restarting), at(-59, Starting)], &[]),
        ("lost on the way", vec![at(0, Running), at(60, Stopping), at(61, Gap), at(62, Starting)], &[]),
        (
            "taken over",
            vec![at(0, Running), at(60, Stopping), Event { phase: Some(rbee_api::Phase::Starting), ..at(61, Adopted) }],
            &[],
        ),
        (
            "newest first",
            vec![at(60, Restarting), at(61, Starting), at(62, Restarting), at(63, Starting)],
            &[(62, UNKNOWN_CAUSE, false), (60, UNKNOWN_CAUSE, false)],
        ),
    ];
    for (name, events, expected) in cases {
        let found = falls(events).restarts;
        let told: Vec<(i64, &str, bool)> = found
            .newest
            .iter()
            .map(|restart| (restart.at.as_second(), restart.cause.as_str(), restart.gave_up))
            .collect();
        assert_eq!(told, *expected, "{name}");
        assert_eq!(found.total, expected.len() as u64, "{name}");
    }
}

/// REPT-06
#[test]
fn lists_are_bounded_and_totals_are_not() {
    let mut events = vec![at(0, EventKind::Running)];
    for round in 0..100 {
        let cause = if round % 10 == 0 { "a rare cause".to_owned() } else { format!("cause {}", round % 20) };
        events.push(because(&cause, at(1 + round * 3, EventKind::Restarting)));
        events.push(at(2 + round * 3, EventKind::Starting));
        events.push(at(3 + round * 3, EventKind::Running));
        events.push(because("no answer", at(3 + round * 3, EventKind::HealthFailed)));
    }
    let found = falls(&events);
    assert_eq!((found.restarts.total, found.health_failures.total), (100, 100));
    assert_eq!((found.restarts.newest.len(), found.restarts.causes.len()), (RESTARTS_MAX, CAUSES_MAX));
    assert_eq!(found.restarts.causes[0], CauseCount { cause: "a rare cause".to_owned(), count: 10 });
    assert_eq!(found.health_failures.newest.len(), HEALTH_FAILURES_MAX);
    assert_eq!(found.health_failures.newest[0].reason, "no answer");
    assert_eq!(found.slowest_starts.len(), SLOWEST_STARTS_MAX);
}

#[test]
fn starts_are_told_with_their_length_the_slowest_first() {
    let run = |number, event| Event { incarnation: Some(number), ..event };
    let found = falls(&[
        run(1, at(0, EventKind::Starting)),
        run(1, at(5, EventKind::Running)),
        run(2, at(100, EventKind::Starting)),
        run(2, at(130, EventKind::Running)),
        // The clock was set back on the way.
        run(3, at(200, EventKind::Starting)),
        run(3, at(150, EventKind::Running)),
        // It never got ready.
        run(4, at(300, EventKind::Starting)),
        run(4, at(310, EventKind::Restarting)),
        run(5, at(320, EventKind::Running)),
    ]);
    let told: Vec<_> = found.slowest_starts.iter().map(|start| (start.took_ms, start.incarnation)).collect();
    assert_eq!(told, [(30_000, Some(2)), (5_000, Some(1))]);
    assert_eq!(found.slowest_starts[0].at, Timestamp::from_second(100).unwrap());
    // What the supervisor has measured itself counts, also where it took over in the middle.
    let told = Event { detail: Some(serde_json::json!({ "start_ms": 90_000 })), ..at(130, EventKind::Running) };
    let found = falls(&[at(129, EventKind::Starting), told]);
    assert_eq!(found.slowest_starts[0].took_ms, 90_000);
    assert_eq!(found.slowest_starts[0].at, Timestamp::from_second(40).unwrap());
}
