//! Whole reports from records.

use std::time::Duration;

use rbee_api::event::EventKind;

use super::support::{because, event};
use super::*;

const INTERVAL: Duration = Duration::from_secs(15);
const END_S: i64 = 90_000;

fn draft(tier: Tier) -> Draft {
    Draft::new(tier, Period::Day, Timestamp::from_second(END_S).unwrap(), INTERVAL)
}

fn hive() -> Tier {
    Tier::Hive("local".to_owned())
}

fn sample(at_s: i64, cpu: f64) -> Point {
    Point { at_ms: at_s * 1_000, covers_ms: 0, count: 1, cpu: Some((cpu, cpu)), memory: Some((1e6, 2e6)) }
}

/// REPT-07
#[test]
fn a_period_without_records_is_an_empty_report() {
    for period in Period::ALL {
        let report = Draft::new(hive(), period, Timestamp::from_second(END_S).unwrap(), INTERVAL).finish();
        assert_eq!((report.daemons.len(), report.models.len(), report.notes.len()), (0, 0, 0));
        assert_eq!(report.to.as_second() - report.from.as_second(), period.duration().as_secs() as i64);
        assert_eq!(report.sources, ["local"]);
    }
}

#[test]
fn daemons_stand_in_the_order_of_people_and_each_series_is_as_long_as_the_period() {
    let mut draft = draft(hive());
    for (id, daemon) in ["w/10", "w/2", "hive", "a/0"].into_iter().enumerate() {
        draft.events([event(id as u64, 10_000, daemon, EventKind::Running)]);
    }
    draft.point(&"w/2".into(), &sample(20_000, 50.0));
    draft.point(&"w/2".into(), &sample(20_015, 70.0));
    draft.point(&"only-samples/0".into(), &sample(20_000, 5.0));
    let report = draft.finish();
    let names: Vec<_> = report.daemons.iter().map(|daemon| daemon.name.as_str()).collect();
    assert_eq!(names, ["hive", "a/0", "only-samples/0", "w/2", "w/10"]);
    for daemon in &report.daemons {
        let Series { up, off, cpu_percent, memory_bytes } = &daemon.series;
        assert_eq!([up.len(), off.len(), cpu_percent.len(), memory_bytes.len()], [96; 4], "{}", daemon.name);
        assert_eq!(daemon.hive.as_deref(), Some("local"));
    }
    let busy = &report.daemons[3];
    assert_eq!(busy.cpu_percent.map(|cpu| (cpu.average, cpu.peak)), Some((60.0, 70.0)));
    assert_eq!(report.daemons[1].cpu_percent, None, "no sample is no zero");
    assert_eq!(report.daemons[2].availability.percent, None, "samples alone do not say whether it was ready");
}

/// REPT-02, REPT-03
#[test]
fn while_a_hive_is_away_its_workers_are_unknown_and_it_is_down() {
    let mut draft = draft(hive());
    draft.events([
        event(1, 3_600, "hive", EventKind::Running),
        event(2, 3_600, "stays/0", EventKind::Running),
        event(3, 3_600, "dies/0", EventKind::Running),
        event(4, 10_100, "hive", EventKind::Running),
        event(5, 10_101, "stays/0", EventKind::Adopted),
        because("it is gone", event(6, 10_101, "dies/0", EventKind::Restarting)),
        event(7, 10_102, "dies/0", EventKind::Starting),
        event(8, 10_103, "dies/0", EventKind::Running),
    ]);
    let before = (0..400).map(|index| 4_000 + index * 15);
    let after = (0..5_000).map(|index| 10_110 + index * 15);
    before.chain(after).for_each(|at_s| draft.point(&"hive".into(), &sample(at_s, 1.0)));
    let report = draft.finish();
    let times = |name: &str| report.daemons.iter().find(|daemon| daemon.name == name).unwrap().availability;
    // Its last sample was at 4000 + 399 * 15 = 9985.
    assert_eq!((times("hive").down_ms, times("hive").unknown_ms), (115_000, 0));
    assert_eq!((times("stays/0").down_ms, times("stays/0").unknown_ms), (0, 0));
    assert_eq!((times("dies/0").down_ms, times("dies/0").unknown_ms), (1_000, 116_000));
    assert_eq!(times("stays/0").percent, Some(100.0));
    let dies = report.daemons.iter().find(|daemon| daemon.name == "dies/0").unwrap();
    assert_eq!(dies.restarts.causes[0].cause, "it is gone");
}

/// REPT-02
#[test]
fn a_hive_of_a_fleet_names_itself_and_its_workers_go_on_in_the_run_they_were_in() {
    let mut draft = draft(hive());
    let told = |event: Event| Event { hive: Some("local".to_owned()), incarnation: Some(3), ..event };
    draft.events([
        told(event(1, 3_600, "hive", EventKind::Running)),
        told(event(2, 3_600, "w/0", EventKind::Running)),
        told(event(3, 10_000, "hive", EventKind::Starting)),
        told(because("it was taken over", event(4, 10_000, "w/0", EventKind::Running))),
        told(event(5, 10_000, "w/0", EventKind::Adopted)),
    ]);
    let report = draft.finish();
    assert_eq!(report.daemons.iter().map(|daemon| daemon.name.as_str()).collect::<Vec<_>>(), ["hive", "w/0"]);
    assert_eq!(report.daemons[1].availability.unknown_ms, 0, "from the beginning of the period on");
    assert_eq!(report.daemons[1].restarts.total, 0);
}

/// REPT-07
#[test]
fn a_clock_that_jumped_back_is_said() {
    let mut draft = draft(hive());
    draft.events([
        event(1, 50_000, "w/0", EventKind::Running),
        event(2, 46_400, "w/0", EventKind::Restarting),
        event(3, 46_401, "w/0", EventKind::Running),
    ]);
    let report = draft.finish();
    assert_eq!(report.notes.len(), 1, "{:?}", report.notes);
    assert!(report.notes[0].contains("set back by 1h") || report.notes[0].contains("3600"), "{}", report.notes[0]);
    let times = report.daemons[0].availability;
    assert_eq!((times.down_ms, times.up_ms), (1_000, 43_599_000));
}

/// REPT-02
#[test]
fn after_lost_events_nothing_is_known_of_anybody_until_the_next_word_of_it() {
    let mut draft = draft(hive());
    draft.events([
        event(1, 3_600, "a/0", EventKind::Running),
        event(2, 3_600, "b/0", EventKind::Running),
        because("the disk was full", event(3, 50_000, "a/0", EventKind::Gap)),
        event(4, 60_000, "b/0", EventKind::Restarting),
        event(5, 60_001, "b/0", EventKind::Running),
    ]);
    let report = draft.finish();
    let unknown: Vec<u64> = report.daemons.iter().map(|daemon| daemon.availability.unknown_ms / 1_000).collect();
    assert_eq!(unknown, [40_000, 10_000]);
    assert!(report.notes[0].contains("lost") && report.notes[0].contains("the disk was full"), "{:?}", report.notes);
}

/// REPT-10
#[test]
fn queen_knows_of_a_silent_hive_what_it_had_told_and_no_more() {
    let mut draft = draft(Tier::Queen { local_hive: None });
    let told = |event: Event| Event { hive: Some("far".to_owned()), ..event };
    draft.events([
        event(1, 10_000, "queen", EventKind::Running),
        told(event(2, 10_000, "w/0", EventKind::Running)),
        told(event(3, 10_000, "off/0", EventKind::Stopped)),
    ]);
    draft.silent_since("far", Timestamp::from_second(80_000).unwrap());
    let report = draft.finish();
    assert_eq!((report.daemons[0].name.as_str(), report.daemons[0].hive.as_deref()), ("queen", None));
    let times = |name: &str| report.daemons.iter().find(|daemon| daemon.name == name).unwrap().availability;
    assert_eq!((times("w/0").up_ms, times("w/0").unknown_ms), (70_000_000, 16_400_000));
    assert_eq!(times("off/0").off_ms, 80_000_000, "nobody starts it but by order");
}
