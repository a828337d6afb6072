//! Reports of hives on their way into the fleet's.

use std::time::Duration;

use jiff::Timestamp;
use rbee_api::Event;
use rbee_api::event::EventKind;
use rbee_api::report::Period;

use super::super::support::{because, event};
use super::super::{Draft, Point, Tier};
use super::*;

fn draft(tier: Tier) -> Draft {
    Draft::new(tier, Period::Hour, Timestamp::from_second(10_000).unwrap(), Duration::from_secs(15))
}

fn hives_report(name: &str) -> Report {
    let mut draft = draft(Tier::Hive(name.to_owned()));
    draft.events([event(1, 7_000, "hive", EventKind::Running), event(2, 7_000, "w/0", EventKind::Running)]);
    draft.point(
        &"hive".into(),
        &Point { at_ms: 8_000_000, covers_ms: 0, count: 1, cpu: Some((1.0, 1.0)), memory: None },
    );
    draft.note("a note");
    draft.finish()
}

fn queens_report() -> Report {
    let mut draft = draft(Tier::Queen { local_hive: None });
    let of = |hive: &str, event: Event| Event { hive: Some(hive.to_owned()), ..event };
    draft.events([
        event(1, 6_000, "queen", EventKind::Running),
        of("b", event(2, 6_000, "hive", EventKind::Running)),
        of("b", because("signal 9 ended it", event(3, 7_000, "hive", EventKind::Restarting))),
        of("b", event(4, 7_001, "hive", EventKind::Starting)),
        of("b", event(5, 7_002, "hive", EventKind::Running)),
        of("b", event(6, 7_003, "old/0", EventKind::Running)),
        of("c", event(7, 6_000, "w/0", EventKind::Running)),
    ]);
    draft.finish()
}

/// REPT-10
#[test]
fn a_fleets_report_has_every_hive_once_and_names_those_that_are_missing() {
    let answers = vec![
        ("b".to_owned(), Ok(hives_report("b"))),
        ("c".to_owned(), Err("it does not answer".to_owned())),
        ("a".to_owned(), Ok(hives_report("a"))),
    ];
    let report = merge(queens_report(), answers);
    let names: Vec<String> = report
        .daemons
        .iter()
        .map(|daemon| format!("{}:{}", daemon.hive.as_deref().unwrap_or_default(), daemon.name))
        .collect();
    // What hive b has forgotten of `old/0` is not in its own report, so it is not told.
    assert_eq!(names, [":queen", "a:hive", "a:w/0", "b:hive", "b:w/0", "c:w/0"]);
    assert_eq!(report.sources, ["queen", "a", "b"]);
    assert_eq!(report.missing, [Missing { hive: "c".to_owned(), reason: "it does not answer".to_owned() }]);
    assert_eq!(report.notes, ["b: a note", "a: a note"]);
}

/// REPT-10
#[test]
fn a_hives_falls_are_told_by_its_supervisor_and_its_usage_by_itself() {
    let report = merge(queens_report(), vec![("b".to_owned(), Ok(hives_report("b")))]);
    let hive = report.daemons.iter().find(|daemon| daemon.name == "hive").unwrap();
    assert_eq!(hive.restarts.causes[0].cause, "signal 9 ended it");
    assert_eq!(hive.availability.down_ms, 1_000);
    assert_eq!(hive.cpu_percent.map(|cpu| cpu.peak), Some(1.0));
}
