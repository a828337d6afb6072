//! Signs of life: health, busy, memory, watchdog, reload.

use supervision::{Event, ExitHow, Now, Phase, Policy, Restart, Spec};

use crate::table::{Table, at_once};

const BUSY: fn(supervision::UnitName, supervision::Incarnation) -> Event =
    |unit, incarnation| Event::HealthBusy { unit, incarnation };
const GOOD: fn(supervision::UnitName, supervision::Incarnation) -> Event =
    |unit, incarnation| Event::HealthOk { unit, incarnation };
const BAD: fn(supervision::UnitName, supervision::Incarnation) -> Event =
    |unit, incarnation| Event::HealthFailed { unit, incarnation, reason: "refused".to_owned() };
const PING: fn(supervision::UnitName, supervision::Incarnation) -> Event =
    |unit, incarnation| Event::WatchdogPing { unit, incarnation };
const RELOADING: fn(supervision::UnitName, supervision::Incarnation) -> Event =
    |unit, incarnation| Event::Reloading { unit, incarnation };

impl Table {
    fn arm(&mut self, n: u64, timeout_ms: u64) -> String {
        self.report(n, |unit, incarnation| Event::WatchdogArmed { unit, incarnation, timeout_ms })
    }

    fn memory(&mut self, n: u64) -> String {
        let (bytes, limit) = (3 << 30, 2 << 30);
        self.report(n, |unit, incarnation| Event::MemoryHigh { unit, incarnation, bytes, limit })
    }
}

/// LIFE-28
#[test]
fn too_much_memory_restarts_by_policy() {
    let mut t = Table::running(at_once());
    assert_eq!(t.memory(1), "term#1 stopping");
    assert_eq!(t.reason(), "used 3072.0 MiB of memory, more than 2048.0 MiB");
    assert_eq!(t.memory(1), "", "it is ending already");
    assert_eq!(t.exited(1, ExitHow::Code(0)), "clean#1 restarting spawn#2 starting");
    assert_eq!(t.restarts(), 1, "a leak that comes back too often is a failure in the end");
    t.spawned(2);
    assert_eq!(t.memory(1), "", "that was the run before");
    assert_eq!(t.memory(2), "term#2 stopping", "also before it is ready");
}

/// LIFE-28
#[test]
fn memory_of_one_that_never_restarts_ends_in_failed() {
    let restart = Restart { policy: Policy::Never, ..Restart::default() };
    let mut t = Table::running(Spec { restart, ..Spec::default() });
    t.memory(1);
    assert_eq!(t.exited(1, ExitHow::Code(0)), "clean#1 failed");
}

/// LIFE-29
#[test]
fn an_out_of_memory_kill_is_named() {
    let mut t = Table::running(Spec::default());
    t.exited(1, ExitHow::OutOfMemory);
    assert_eq!(t.reason(), "ended with an out-of-memory kill");
    assert_eq!(t.why().episodes[0].link.to_string(), "u restarted because the kernel killed it for want of memory");
}

/// LIFE-30
#[test]
fn silence_beyond_the_watchdog_restarts() {
    let mut t = Table::running(at_once());
    t.arm(1, 100);
    assert_eq!(t.core.deadline(), Some(Now::from_ms(100)));
    assert_eq!(t.after(90).report(1, PING), "");
    assert_eq!(t.after(20).give(Event::Tick), "");
    assert_eq!(t.core.deadline(), Some(Now::from_ms(190)));
    assert_eq!(t.after(80).give(Event::Tick), "term#1 stopping");
    assert_eq!(t.reason(), "no sign of life within its watchdog's 0.1 s");
}

/// LIFE-30
#[test]
fn the_watchdog_waits_until_the_unit_runs_and_dies_with_its_run() {
    let mut t = Table::new(at_once());
    t.start();
    t.spawned(1);
    t.arm(1, 100);
    assert_eq!(t.after(500).give(Event::Tick), "", "it may be busy with its start");
    t.ready(1);
    assert_eq!(t.core.deadline(), Some(Now::from_ms(600)));
    assert_eq!(t.exited(1, ExitHow::Code(1)), "clean#1 restarting spawn#2 starting");
    t.spawned(2);
    t.ready(2);
    assert_eq!(t.after(200).give(Event::Tick), "", "the new run has none");
}

/// LIFE-30
#[test]
fn a_watchdog_of_zero_is_none() {
    let mut t = Table::running(Spec::default());
    t.arm(1, 100);
    t.arm(1, 0);
    assert_eq!(t.core.deadline(), None);
}

/// LIFE-31
#[test]
fn a_supervisor_that_stood_still_blames_nobody() {
    let mut t = Table::running(at_once());
    t.arm(1, 100);
    assert_eq!(t.after(5_000).give(Event::Tick), "", "the signs of life may still stand in its queue");
    assert_eq!(t.after(100).give(Event::Tick), "term#1 stopping", "now it heard nothing for real");
}

/// LIFE-32
#[test]
fn a_reload_is_running_for_at_most_the_start_timeout() {
    let mut t = Table::running(Spec { start_timeout_ms: 100, ..at_once() });
    assert_eq!(t.report(1, RELOADING), "");
    assert_eq!(t.phase(), Phase::Running, "dependents go on");
    assert!(t.core.unit(&t.unit).unwrap().is_reloading());
    t.after(50).report(1, RELOADING);
    assert_eq!(t.core.deadline(), Some(Now::from_ms(100)), "saying it again does not lengthen it");
    assert_eq!(t.after(50).give(Event::Tick), "term#1 stopping");
    assert_eq!(t.reason(), "reload not done within 0.1 s");
}

/// LIFE-32
#[test]
fn probes_do_not_count_during_a_reload() {
    let mut t = Table::running(Spec { health_failures_max: 1, health_busy_max: 1, ..at_once() });
    t.report(1, RELOADING);
    assert_eq!([t.report(1, BAD), t.report(1, BUSY)], ["", ""]);
    assert_eq!(t.ready(1), "", "it was running all the time");
    assert!(!t.core.unit(&t.unit).unwrap().is_reloading());
    assert_eq!(t.report(1, BAD), "term#1 stopping");
}

/// LIFE-32
#[test]
fn a_reload_may_ask_for_more_time() {
    let mut t = Table::running(Spec { start_timeout_ms: 100, ..at_once() });
    t.report(1, RELOADING);
    t.report(1, |unit, incarnation| Event::ExtendTimeout { unit, incarnation, by_ms: 400 });
    assert_eq!(t.core.deadline(), Some(Now::from_ms(400)));
}

/// LIFE-33
#[test]
fn busy_is_not_ill_but_busy_for_too_long_is_hung() {
    let mut t = Table::running(Spec { health_failures_max: 2, health_busy_max: 3, ..at_once() });
    assert_eq!([t.report(1, BUSY), t.report(1, BUSY), t.report(1, GOOD)], ["", "", ""]);
    assert_eq!([t.report(1, BUSY), t.report(1, BUSY)], ["", ""], "a good answer made up for it");
    assert_eq!(t.report(1, BUSY), "term#1 stopping");
    assert_eq!(t.reason(), "too busy to answer 3 health probes in a row");
}

/// LIFE-33
#[test]
fn busy_does_not_make_up_for_failures() {
    let mut t = Table::running(Spec { health_failures_max: 2, health_busy_max: 100, ..at_once() });
    assert_eq!([t.report(1, BAD), t.report(1, BUSY)], ["", ""]);
    assert_eq!(t.report(1, BAD), "term#1 stopping");
    assert_eq!(t.reason(), "unhealthy: refused");
}

/// LIFE-33
#[test]
fn busy_counts_as_failed_where_no_patience_is_declared() {
    let mut t = Table::running(Spec { health_failures_max: 1, health_busy_max: 0, ..at_once() });
    assert_eq!(t.report(1, BUSY), "term#1 stopping");
    assert_eq!(t.reason(), "unhealthy: no answer in time");
}

/// LIFE-33
#[test]
fn health_that_never_restarts_includes_busy() {
    let mut t = Table::running(Spec { health_failures_max: 0, health_busy_max: 1, ..at_once() });
    assert_eq!([t.report(1, BUSY), t.report(1, BUSY), t.report(1, BAD)], ["", "", ""]);
}

/// LIFE-34
#[test]
fn one_wish_for_more_time_is_bounded() {
    let mut t = Table::new(Spec { start_timeout_ms: 100, ..Spec::default() });
    t.start();
    t.spawned(1);
    t.report(1, |unit, incarnation| Event::ExtendTimeout { unit, incarnation, by_ms: u64::MAX });
    assert_eq!(t.core.deadline(), Some(Now::from_ms(3_600_000)));
}
