//! Tables of signs and the absences they come to.

use super::super::support::event;
use super::*;

const INTERVAL_MS: i64 = 15_000;

fn absences(events: &[Event], samples_s: &[i64], hours: &[(i64, u32)]) -> Vec<(i64, i64)> {
    let mut presence = Presence::new(events.iter(), "hive", INTERVAL_MS);
    let point = |at_s: i64, covers_ms, count| Point { at_ms: at_s * 1_000, covers_ms, count, cpu: None, memory: None };
    hours.iter().for_each(|(from_s, count)| presence.saw(&point(*from_s, 3_600_000, *count)));
    samples_s.iter().for_each(|at_s| presence.saw(&point(*at_s, 0, 1)));
    presence.absences().iter().map(|away| (away.from_ms / 1_000, away.to_ms / 1_000)).collect()
}

fn running(at_s: i64) -> Event {
    event(u64::try_from(at_s).unwrap(), at_s, "hive", EventKind::Running)
}

/// REPT-02
#[test]
fn a_tier_is_away_from_its_last_sign_to_its_next_beginning() {
    let worker = event(50, 50, "w/0", EventKind::Restarting);
    for (name, events, samples, hours, expected) in [
        ("its first beginning", vec![running(10)], vec![], vec![], vec![]),
        (
            "it tells its start and when it serves",
            vec![running(0), event(90, 90, "hive", EventKind::Starting), running(100)],
            vec![15, 30, 105],
            vec![],
            vec![(30, 90)],
        ),
        ("by its last sample", vec![running(0), running(100)], vec![15, 30, 45, 60, 105], vec![], vec![(60, 100)]),
        ("by its last event", vec![running(0), worker.clone(), running(100)], vec![15, 30], vec![], vec![(50, 100)]),
        ("no samples are kept", vec![running(0), running(100)], vec![], vec![], vec![(0, 100)]),
        ("asleep", vec![running(0)], vec![15, 30, 600, 615], vec![], vec![(30, 600)]),
        ("a late sample", vec![running(0)], vec![15, 30, 75], vec![], vec![]),
        ("asleep, then a beginning", vec![running(0), running(590)], vec![15, 30, 600], vec![], vec![(30, 590)]),
        (
            "in an hour that is rolled up",
            vec![running(0), running(5_000)],
            vec![],
            vec![(0, 240), (3_600, 236)],
            vec![(4_940, 5_000)],
        ),
        ("for hours", vec![running(0), running(9_000)], vec![], vec![(0, 120)], vec![(1_800, 9_000)]),
    ] {
        assert_eq!(absences(&events, &samples, &hours), expected, "{name}");
    }
}

/// REPT-07
#[test]
fn a_clock_set_back_makes_no_absence() {
    let events = [running(1_000), Event { id: 2_000, ..running(100) }];
    assert_eq!(absences(&events, &[], &[]), []);
}
