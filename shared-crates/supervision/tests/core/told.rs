//! What somebody hears of a unit who only listens.

use supervision::{Core, Event, Excess, ExitHow, Incarnation, Now, Resource, Spec, Stage, UnitName};

use crate::table::{Table, at_once, told};

const BAD: fn(UnitName, Incarnation) -> Event =
    |unit, incarnation| Event::HealthFailed { unit, incarnation, reason: "refused".to_owned() };
const BUSY: fn(UnitName, Incarnation) -> Event = |unit, incarnation| Event::HealthBusy { unit, incarnation };

fn over(restarts: bool) -> impl Fn(UnitName, Incarnation) -> Event {
    move |unit, incarnation| {
        let excess = Excess { resource: Resource::Cpu, used: 250, limit: 200, for_ms: 60_000 };
        Event::OverThreshold { unit, incarnation, excess, restarts }
    }
}

/// EVNT-01
#[test]
fn a_takeover_is_told_with_what_it_found() {
    for (stage, change) in [
        (Stage::Ready, "u#7 stopped > running: taken over from an earlier supervisor"),
        (Stage::Starting, "u#7 stopped > starting: taken over from an earlier supervisor"),
        (Stage::Ending, "u#7 stopped > stopping: taken over from an earlier supervisor"),
    ] {
        let mut t = Table::new(Spec::default());
        let adopted = |unit, incarnation| Event::Adopted { unit, incarnation, stage, restarts: 0 };
        assert_eq!(t.told(adopted, 7), ["u#7 adopted", change]);
        assert_eq!(t.told(adopted, 7), [""; 0], "it is taken over once");
    }
}

/// EVNT-02
#[test]
fn each_failed_probe_is_told_and_the_last_with_what_follows() {
    let mut t = Table::running(Spec { health_failures_max: 2, ..Spec::default() });
    assert_eq!(t.told(BAD, 1), ["u#1 ill 1/2: unhealthy: refused"]);
    assert_eq!(t.told(BAD, 1), ["u#1 ill 2/2: unhealthy: refused", "u#1 running > stopping: unhealthy: refused"]);
    assert_eq!(t.told(BAD, 1), [""; 0], "it is ending already");
}

/// EVNT-02
#[test]
fn of_probes_that_restart_nothing_the_first_in_a_row_is_told() {
    let mut t = Table::running(Spec { health_failures_max: 0, ..Spec::default() });
    assert_eq!(t.told(BAD, 1), ["u#1 ill 1/0: unhealthy: refused"]);
    assert_eq!(t.told(BAD, 1), [""; 0]);
    assert_eq!(t.told(|unit, incarnation| Event::HealthOk { unit, incarnation }, 1), [""; 0]);
    assert_eq!(t.told(BAD, 1), ["u#1 ill 1/0: unhealthy: refused"]);
}

/// EVNT-02
#[test]
fn silence_and_endless_work_are_told_as_ill_health() {
    let mut t = Table::running(Spec { health_busy_max: 2, ..Spec::default() });
    assert_eq!(t.told(BUSY, 1), [""; 0], "busy is not ill");
    let hung = "too busy to answer 2 health probes in a row";
    assert_eq!(t.told(BUSY, 1), [format!("u#1 ill 2/2: {hung}"), format!("u#1 running > stopping: {hung}")]);
    let mut t = Table::running(Spec::default());
    t.told(|unit, incarnation| Event::WatchdogArmed { unit, incarnation, timeout_ms: 1_000 }, 1);
    let silent = "no sign of life within its watchdog's 1 s";
    let tick = t.after(1_000).told(|_, _| Event::Tick, 1);
    assert_eq!(tick, [format!("u#1 ill 1/1: {silent}"), format!("u#1 running > stopping: {silent}")]);
}

/// EVNT-03
#[test]
fn a_threshold_warns_or_restarts_and_is_told_either_way() {
    let mut t = Table::running(at_once());
    let much = "used 250 % of a core, more than 200 %, for 60 s";
    assert_eq!(t.told(over(false), 1), [format!("u#1 much: {much}")]);
    assert_eq!(t.told(over(true), 1), [format!("u#1 too much: {much}"), format!("u#1 running > stopping: {much}")]);
    assert_eq!(t.told(over(true), 1), [""; 0], "it is ending already");
    t.exited(1, ExitHow::Code(0));
    assert_eq!(t.restarts(), 1, "that counts as a restart");
    assert_eq!(t.reason(), much);
    assert_eq!(t.told(over(true), 1), [""; 0], "that was the run before");
}

/// EVNT-03
#[test]
fn too_much_memory_is_told_as_a_threshold() {
    let mut t = Table::running(at_once());
    let high = |unit, incarnation| Event::MemoryHigh { unit, incarnation, bytes: 3 << 20, limit: 2 << 20 };
    let high = t.told(high, 1);
    assert_eq!(high[0], "u#1 too much: used 3.0 MiB of memory, more than 2.0 MiB");
    assert_eq!(high[1], "u#1 running > stopping: used 3.0 MiB of memory, more than 2.0 MiB");
}

/// EVNT-04
#[test]
fn a_cascade_is_told_of_each_who_falls_with_whom_it_needed() {
    let (mut core, now) = (Core::new(1), Now::from_ms(0));
    let names = ["db", "api", "web"].map(UnitName::new);
    for (nth, unit) in names.iter().enumerate() {
        let depends_on = nth.checked_sub(1).map(|below| names[below].clone()).into_iter().collect();
        let spec = Spec { depends_on, proves_ready: false, ..at_once() };
        let declare = Event::Declare { unit: unit.clone(), spec, last_incarnation: Incarnation::NONE };
        assert!(core.step(now, declare).is_empty());
    }
    let _ = core.step(now, Event::Start { unit: names[2].clone() });
    let run = Incarnation::new(1);
    for unit in &names {
        let _ = core.step(now, Event::Spawned { unit: unit.clone(), incarnation: run });
    }
    let heard =
        told(&core.step(now, Event::Exited { unit: names[0].clone(), incarnation: run, how: ExitHow::Code(1) }));
    assert_eq!(
        heard,
        [
            "db#1 running > restarting: ended with exit code 1",
            "db#2 restarting > starting: back-off over",
            "api#1 pulled down by db",
            "api#1 running > stopping: its dependency `db` is not running",
            "web#1 pulled down by api",
            "web#1 running > stopping: its dependency `api` is not running",
        ]
    );
}
