//! Tables of events and the times they come to.

use super::super::support::{event, moved};
use super::*;

/// Ten minutes, told in seconds.
const WINDOW: Window = Window { from_ms: 0, to_ms: 600_000 };

fn timeline(events: &[Event], away_s: &[(i64, i64)]) -> Timeline {
    let away: Vec<Away> =
        away_s.iter().map(|(from_s, to_s)| Away { from_ms: from_s * 1_000, to_ms: to_s * 1_000 }).collect();
    Timeline::of(&events.iter().collect::<Vec<_>>(), &away)
}

/// In seconds: up, starting, down, off, unknown.
fn times(timeline: &Timeline) -> [u64; 5] {
    let times = timeline.availability(WINDOW);
    [times.up_ms, times.starting_ms, times.down_ms, times.off_ms, times.unknown_ms].map(|ms| ms / 1_000)
}

/// REPT-01, REPT-02
#[test]
fn events_come_to_times_that_are_the_period_together() {
    use EventKind::{Adopted, Draining, Failed, Gap, Restarting, Running, Starting, Stopped, Stopping, Unavailable};
    type Case<'c> = (&'c str, &'c [(i64, EventKind)], &'c [(i64, i64)], [u64; 5]);
    let cases: &[Case<'_>] = &[
        ("nothing is known", &[], &[], [0, 0, 0, 0, 600]),
        ("before the first event", &[(100, Starting), (110, Running)], &[], [490, 10, 0, 0, 100]),
        ("it ran before", &[(-50, Starting), (-40, Running)], &[], [600, 0, 0, 0, 0]),
        ("a crash", &[(-1, Running), (60, Restarting), (70, Starting), (90, Running)], &[], [570, 20, 10, 0, 0]),
        (
            "an order",
            &[(-1, Running), (60, Stopping), (65, Stopped), (365, Starting), (370, Running)],
            &[],
            [290, 5, 0, 305, 0],
        ),
        ("a restart by order", &[(-1, Running), (60, Stopping), (65, Starting), (70, Running)], &[], [590, 5, 5, 0, 0]),
        ("gave up", &[(-1, Running), (60, Restarting), (61, Failed)], &[], [60, 0, 540, 0, 0]),
        ("cannot start", &[(0, Starting), (60, Unavailable)], &[], [0, 60, 540, 0, 0]),
        ("draining is up", &[(0, Running), (60, Draining)], &[], [600, 0, 0, 0, 0]),
        ("stopping still", &[(0, Running), (590, Stopping)], &[], [590, 0, 10, 0, 0]),
        ("lost events", &[(0, Running), (100, Gap), (200, Running)], &[], [500, 0, 0, 0, 100]),
        // Its supervisor was away from 100 to 160.
        ("taken over", &[(0, Running), (161, Adopted)], &[(100, 160)], [600, 0, 0, 0, 0]),
        (
            "died meanwhile",
            &[(0, Running), (161, Restarting), (162, Starting), (170, Running)],
            &[(100, 160)],
            [530, 8, 1, 0, 61],
        ),
        ("off stays off", &[(0, Stopped), (161, Starting), (170, Running)], &[(100, 160)], [430, 9, 0, 161, 0]),
        ("failed stays failed", &[(0, Failed)], &[(100, 160)], [0, 0, 600, 0, 0]),
        ("not a word of it since", &[(0, Running)], &[(100, 160)], [540, 0, 0, 0, 60]),
        (
            "away twice",
            &[(0, Running), (161, Adopted), (401, Starting), (410, Running)],
            &[(100, 160), (300, 400)],
            [490, 9, 0, 0, 101],
        ),
        // The clock was set back from 500 to 200: the newer record wins.
        (
            "clock set back",
            &[(0, Running), (500, Restarting), (200, Starting), (210, Running)],
            &[],
            [590, 10, 0, 0, 0],
        ),
        ("all of it is to come", &[(700, Running)], &[], [0, 0, 0, 0, 600]),
    ];
    for (name, events, away, expected) in cases {
        let events: Vec<Event> =
            events.iter().enumerate().map(|(id, (at_s, kind))| event(id as u64, *at_s, "w/0", *kind)).collect();
        let found = times(&timeline(&events, away));
        assert_eq!(found, *expected, "{name}");
        assert_eq!(found.iter().sum::<u64>(), 600, "{name}");
    }
}

/// REPT-01
#[test]
fn the_share_is_of_the_time_that_is_known_and_wanted() {
    let events = [
        event(1, 100, "w/0", EventKind::Starting),
        event(2, 100, "w/0", EventKind::Running),
        event(3, 400, "w/0", EventKind::Restarting),
        event(4, 500, "w/0", EventKind::Stopped),
    ];
    assert_eq!(timeline(&events, &[]).availability(WINDOW).percent, Some(75.0));
    assert_eq!(timeline(&events[3..], &[]).availability(WINDOW).percent, None, "nobody wanted it");
    assert_eq!(timeline(&[], &[]).availability(WINDOW).percent, None);
}

/// REPT-03
#[test]
fn a_tiers_own_daemon_was_down_while_it_was_away_unless_it_was_told_to_end() {
    let away = [Away { from_ms: 100_000, to_ms: 160_000 }];
    for (name, events, expected) in [
        ("killed", vec![(0, EventKind::Running), (160, EventKind::Running)], [540, 0, 60, 0, 0]),
        ("only heard by its samples", vec![(0, EventKind::Running)], [540, 0, 60, 0, 0]),
        (
            "told to end",
            vec![(0, EventKind::Running), (99, EventKind::Stopping), (160, EventKind::Running)],
            [539, 0, 0, 61, 0],
        ),
        ("first start", vec![(160, EventKind::Running)], [440, 0, 0, 0, 160]),
    ] {
        let events: Vec<Event> =
            events.iter().enumerate().map(|(id, (at_s, kind))| event(id as u64, *at_s, "hive", *kind)).collect();
        let mut timeline = timeline(&events, &[]);
        timeline.was_gone(&away);
        assert_eq!(times(&timeline), expected, "{name}");
    }
}

#[test]
fn steps_are_shares_of_their_own_time() {
    let window = Window { from_ms: 0, to_ms: 3_600_000 };
    let events = [
        event(1, 60, "w/0", EventKind::Running),
        event(2, 150, "w/0", EventKind::Restarting),
        event(3, 240, "w/0", EventKind::Stopped),
    ];
    let steps = timeline(&events, &[]).by_step(window, Period::Hour);
    assert_eq!(steps.len(), 60);
    assert_eq!(&steps[..5], &[(None, false), (Some(1.0), false), (Some(0.5), false), (Some(0.0), false), (None, true)]);
}

/// REPT-07
#[test]
fn whatever_the_clock_says_the_times_are_the_period_together() {
    let kinds = EventKind::ALL;
    let mut seed = 7_u64;
    let mut next = |bound: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % bound
    };
    for _ in 0..500 {
        let number = next(12);
        let events: Vec<Event> = (0..number)
            .map(|id| event(id, next(900) as i64 - 150, "w/0", kinds[next(kinds.len() as u64) as usize]))
            .collect();
        let (from_s, length_s) = (next(600) as i64, next(200) as i64 + 1);
        let mut timeline = timeline(&events, &[(from_s, from_s + length_s)]);
        assert_eq!(times_ms(&timeline), 600_000, "{events:?}");
        timeline.was_gone(&[Away { from_ms: from_s * 1_000, to_ms: (from_s + length_s) * 1_000 }]);
        assert_eq!(times_ms(&timeline), 600_000, "{events:?}");
        let moved = moved(&events, 5);
        assert_eq!(times_ms(&Timeline::of(&moved.iter().collect::<Vec<_>>(), &[])), 600_000);
    }
}

fn times_ms(timeline: &Timeline) -> u64 {
    let times = timeline.availability(WINDOW);
    times.up_ms + times.starting_ms + times.down_ms + times.off_ms + times.unknown_ms
}
