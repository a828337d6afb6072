//! State × event: what each race comes to.

use supervision::{
    Core, Event, ExitHow, Incarnation, Now, Phase, Policy, Restart, SpawnErrorKind, Spec, Stage, StopMode, UnitName,
};

use crate::table::{Table, at_once, words};

/// LIFE-01
#[test]
fn the_main_path() {
    let mut t = Table::new(Spec::default());
    assert_eq!(t.start(), "spawn#1 starting");
    assert_eq!(t.spawned(1), "await#1");
    assert_eq!(t.ready(1), "watch#1 running");
    assert_eq!(t.stop(StopMode::Graceful), "term#1 stopping");
    assert_eq!(t.exited(1, ExitHow::Code(0)), "clean#1 stopped");
    assert_eq!(t.core.deadline(), None);
}

/// LIFE-02
#[test]
fn verbs_are_idempotent() {
    let mut t = Table::running(Spec::default());
    assert_eq!(t.start(), "");
    t.stop(StopMode::Graceful);
    assert_eq!(t.stop(StopMode::Graceful), "");
    t.exited(1, ExitHow::Code(0));
    assert_eq!(t.stop(StopMode::Graceful), "");
}

/// LIFE-03
#[test]
fn stop_during_spawn_waits_for_the_report() {
    let mut t = Table::new(Spec::default());
    t.start();
    assert_eq!(t.stop(StopMode::Graceful), "stopping");
    assert_eq!(t.spawned(1), "term#1");
    assert_eq!(t.exited(1, ExitHow::Signal(15)), "clean#1 stopped");
}

/// LIFE-03
#[test]
fn a_spawn_that_fails_while_a_stop_waits_is_a_stop() {
    let mut t = Table::new(Spec::default());
    t.start();
    t.stop(StopMode::Now);
    let (unit, incarnation) = (t.unit.clone(), Incarnation::new(1));
    let failed = Event::SpawnFailed { unit, incarnation, kind: SpawnErrorKind::Failed, reason: "x".into() };
    assert_eq!(t.give(failed), "clean#1 stopped");
    assert_eq!(t.reason(), "");
}

/// LIFE-04
#[test]
fn start_during_stop_runs_again() {
    let mut t = Table::running(Spec::default());
    t.stop(StopMode::Graceful);
    assert_eq!(t.start(), "");
    assert_eq!(t.exited(1, ExitHow::Code(0)), "clean#1 spawn#2 starting");
}

/// LIFE-05
#[test]
fn a_second_stop_shortens_and_never_lengthens() {
    let mut t = Table::running(Spec::default());
    t.stop(StopMode::Within { timeout_ms: 100 });
    t.stop(StopMode::Within { timeout_ms: 5_000 });
    assert_eq!(t.core.deadline(), Some(Now::from_ms(100)));
    t.stop(StopMode::Within { timeout_ms: 50 });
    assert_eq!(t.core.deadline(), Some(Now::from_ms(50)));
    assert_eq!(t.stop(StopMode::Now), "kill#1");
    assert_eq!(t.stop(StopMode::Now), "", "it was killed already");
}

/// LIFE-06
#[test]
fn who_ignores_the_signal_is_killed() {
    let mut t = Table::running(Spec { stop_timeout_ms: 10, ..Spec::default() });
    t.stop(StopMode::Graceful);
    assert_eq!(t.after(9).give(Event::Tick), "");
    assert_eq!(t.after(1).give(Event::Tick), "kill#1");
    assert_eq!(t.exited(1, ExitHow::Signal(9)), "clean#1 stopped");
}

/// LIFE-07
#[test]
fn a_late_event_of_an_old_run_changes_nothing() {
    let mut t = Table::running(at_once());
    assert_eq!(t.exited(1, ExitHow::Code(1)), "clean#1 restarting spawn#2 starting");
    t.spawned(2);
    assert_eq!(t.ready(1), "");
    assert_eq!(t.exited(1, ExitHow::Code(1)), "");
    assert_eq!(t.phase(), Phase::Starting);
}

/// LIFE-08
#[test]
fn exit_before_ready_is_a_crash_whatever_its_code() {
    let spec = Spec { restart: Restart { policy: Policy::OnFailure, ..Restart::default() }, ..Spec::default() };
    let mut t = Table::new(spec);
    t.start();
    t.spawned(1);
    assert_eq!(t.exited(1, ExitHow::Code(0)), "clean#1 restarting");
    assert_eq!(t.reason(), "ended with exit code 0");
}

/// LIFE-09
#[test]
fn who_never_gets_ready_is_ended_and_restarted() {
    let mut t = Table::new(Spec { start_timeout_ms: 100, ..at_once() });
    t.start();
    t.spawned(1);
    assert_eq!(t.after(100).give(Event::Tick), "term#1 stopping");
    assert_eq!(t.exited(1, ExitHow::Signal(15)), "clean#1 restarting spawn#2 starting");
}

/// LIFE-10
#[test]
fn more_time_can_be_asked_for() {
    let mut t = Table::new(Spec { start_timeout_ms: 100, ..Spec::default() });
    t.start();
    t.spawned(1);
    let (unit, incarnation) = (t.unit.clone(), Incarnation::new(1));
    t.after(50).give(Event::ExtendTimeout { unit, incarnation, by_ms: 200 });
    assert_eq!(t.core.deadline(), Some(Now::from_ms(250)));
}

/// LIFE-11
#[test]
fn policies_decide_what_follows_an_end() {
    for (policy, how, phase) in [
        (Policy::Always, ExitHow::Code(0), Phase::Restarting),
        (Policy::Always, ExitHow::Signal(9), Phase::Restarting),
        (Policy::OnFailure, ExitHow::Code(0), Phase::Stopped),
        (Policy::OnFailure, ExitHow::Code(1), Phase::Restarting),
        (Policy::OnFailure, ExitHow::Unknown, Phase::Restarting),
        (Policy::Never, ExitHow::Code(0), Phase::Stopped),
        (Policy::Never, ExitHow::Code(1), Phase::Failed),
    ] {
        let mut t = Table::running(Spec { restart: Restart { policy, ..Restart::default() }, ..Spec::default() });
        t.exited(1, how);
        assert_eq!(t.phase(), phase, "{policy:?} {how:?}");
    }
}

/// LIFE-12
#[test]
fn too_many_restarts_are_a_failure_with_its_cause() {
    let mut t = Table::running(at_once());
    for n in 1..=2 {
        t.exited(n, ExitHow::Code(3));
        t.spawned(n + 1);
        t.ready(n + 1);
    }
    assert_eq!(t.exited(3, ExitHow::Code(3)), "clean#3 failed");
    assert_eq!(t.reason(), "ended with exit code 3; gave up after 2 restarts within 3600 s");
    assert_eq!(t.start(), "spawn#4 starting", "a start forgives");
    assert_eq!(t.restarts(), 0);
}

/// LIFE-13
#[test]
fn stability_resets_the_count() {
    let restart = Restart { reset_after_ms: 1_000, ..at_once().restart };
    let mut t = Table::running(Spec { restart, ..Spec::default() });
    t.exited(1, ExitHow::Code(1));
    t.spawned(2);
    t.ready(2);
    assert_eq!(t.restarts(), 1);
    t.after(1_000).give(Event::Tick);
    assert_eq!(t.restarts(), 0);
    assert_eq!(t.core.deadline(), None, "an idle unit wants no tick");
}

/// LIFE-14
#[test]
fn retry_skips_the_wait_and_force_forgets() {
    let mut t = Table::running(Spec::default());
    t.exited(1, ExitHow::Code(1));
    assert_eq!(t.phase(), Phase::Restarting);
    let unit = t.unit.clone();
    assert_eq!(t.give(Event::Retry { unit: unit.clone(), force: false }), "spawn#2 starting");
    assert_eq!(t.restarts(), 1);
    t.spawned(2);
    t.exited(2, ExitHow::Code(1));
    t.give(Event::Retry { unit, force: true });
    assert_eq!(t.restarts(), 0);
}

/// LIFE-15
#[test]
fn a_missing_binary_is_unavailable_until_asked_again() {
    let mut t = Table::new(Spec::default());
    t.start();
    let (unit, incarnation) = (t.unit.clone(), Incarnation::new(1));
    let reason = "no `x` in /bin".to_owned();
    let failed = Event::SpawnFailed { unit, incarnation, kind: SpawnErrorKind::Unavailable, reason };
    assert_eq!(t.give(failed), "clean#1 unavailable");
    assert_eq!(t.core.deadline(), None);
    assert_eq!(t.reason(), "could not be started: no `x` in /bin");
    assert_eq!(t.start(), "spawn#2 starting");
}

/// LIFE-15, CONT-05
#[test]
fn one_that_ends_and_says_what_is_missing_is_unavailable_unless_it_ran() {
    let unavailable = |t: &Table, n: u64| {
        let (unit, reason) = (t.unit.clone(), "no image `x`".to_owned());
        Event::Unavailable { unit, incarnation: Incarnation::new(n), how: ExitHow::Code(69), reason }
    };
    let mut t = Table::new(Spec { proves_ready: true, ..at_once() });
    t.start();
    t.spawned(1);
    let said = unavailable(&t, 1);
    assert_eq!(t.give(said), "clean#1 unavailable");
    assert_eq!(t.core.deadline(), None);
    assert_eq!(t.reason(), "could not be started: no image `x`");
    assert_eq!(t.start(), "spawn#2 starting");
    // What an old run says counts no more, and what a stop ends is stopped.
    let late = unavailable(&t, 1);
    assert_eq!(t.give(late), "");
    t.spawned(2);
    t.stop(StopMode::Graceful);
    let said = unavailable(&t, 2);
    assert_eq!(t.give(said), "clean#2 stopped");

    let mut t = Table::running(at_once());
    let said = unavailable(&t, 1);
    assert_eq!(t.give(said), "clean#1 restarting spawn#2 starting", "it was there once: worth another try");
    assert_eq!(t.restarts(), 1);
}

/// LIFE-16
#[test]
fn failing_probes_in_a_row_restart() {
    let mut t = Table::running(at_once());
    let (unit, incarnation) = (t.unit.clone(), Incarnation::new(1));
    let bad = Event::HealthFailed { unit: unit.clone(), incarnation, reason: "refused".into() };
    assert_eq!(t.give(bad.clone()), "");
    assert_eq!(t.give(Event::HealthOk { unit, incarnation }), "");
    assert_eq!(t.give(bad.clone()), "");
    assert_eq!(t.give(bad.clone()), "");
    assert_eq!(t.give(bad), "term#1 stopping");
    assert_eq!(t.reason(), "unhealthy: refused");
    assert_eq!(t.exited(1, ExitHow::Code(0)), "clean#1 restarting spawn#2 starting");
}

/// LIFE-17
#[test]
fn adoption_takes_over_where_the_last_supervisor_was() {
    for (stage, actions, phase) in [
        (Stage::Ready, "watch#7 running", Phase::Running),
        (Stage::Starting, "await#7 starting", Phase::Starting),
        (Stage::Ending, "term#7 stopping", Phase::Stopping),
    ] {
        let mut t = Table::new(Spec::default());
        let (unit, incarnation) = (t.unit.clone(), Incarnation::new(7));
        assert_eq!(t.give(Event::Adopted { unit, incarnation, stage, restarts: 3 }), actions);
        assert_eq!((t.phase(), t.restarts()), (phase, 3));
        t.start();
        assert_eq!(t.phase(), phase, "a wish changes nothing where it runs");
    }
}

/// LIFE-18
#[test]
fn an_end_that_was_under_way_when_the_supervisor_died_is_no_wish() {
    let spec = Spec { restart: Restart { policy: Policy::OnFailure, ..Restart::default() }, ..Spec::default() };
    let mut t = Table::new(spec);
    let (unit, incarnation) = (t.unit.clone(), Incarnation::new(7));
    t.give(Event::Adopted { unit, incarnation, stage: Stage::Ending, restarts: 0 });
    t.start();
    assert_eq!(t.exited(7, ExitHow::Code(0)), "clean#7 spawn#8 starting");
}

/// LIFE-19
#[test]
fn a_new_launch_restarts_and_a_new_policy_does_not() {
    let mut t = Table::running(Spec::default());
    let declare = |spec| Event::Declare { unit: UnitName::new("u"), spec, last_incarnation: Incarnation::NONE };
    assert_eq!(t.give(declare(Spec { stop_timeout_ms: 5, ..Spec::default() })), "");
    assert_eq!(
        t.give(declare(Spec { launch_fingerprint: 9, stop_timeout_ms: 5, ..Spec::default() })),
        "term#1 stopping"
    );
    assert_eq!(t.core.deadline(), Some(Now::from_ms(5)), "the new policy counts already");
    assert_eq!(t.exited(1, ExitHow::Code(0)), "clean#1 spawn#2 starting");
}

/// LIFE-20
#[test]
fn a_removed_unit_is_stopped_then_forgotten() {
    let mut t = Table::running(Spec::default());
    let unit = t.unit.clone();
    assert_eq!(t.give(Event::Remove { unit: unit.clone() }), "term#1 stopping");
    assert_eq!(t.exited(1, ExitHow::Code(0)), "clean#1 stopped forget");
    assert!(t.core.unit(&unit).is_none());
    assert_eq!(t.give(Event::Start { unit }), "", "an unknown unit is nobody");
}

/// LIFE-20
#[test]
fn a_wish_for_one_that_is_removed_changes_nothing() {
    let mut t = Table::running(Spec::default());
    let unit = t.unit.clone();
    t.give(Event::Remove { unit: unit.clone() });
    assert_eq!([t.start(), t.restart(), t.give(Event::Retry { unit, force: true })], ["", "", ""]);
    assert_eq!(t.exited(1, ExitHow::Code(0)), "clean#1 stopped forget");
    assert!(t.core.is_quiet());
}

/// LIFE-21
#[test]
fn restart_works_from_every_phase() {
    let mut t = Table::new(Spec::default());
    assert_eq!(t.restart(), "spawn#1 starting");
    assert_eq!(t.restart(), "stopping", "the run on its way may be of an old kind");
    assert_eq!(t.spawned(1), "term#1");
    assert_eq!(t.exited(1, ExitHow::Signal(15)), "clean#1 spawn#2 starting");
    t.spawned(2);
    t.exited(2, ExitHow::Code(1));
    assert_eq!(t.phase(), Phase::Restarting);
    assert_eq!(t.restart(), "spawn#3 starting");
}

/// LIFE-22
#[test]
fn stop_all_stops_all() {
    let mut core = Core::new(1);
    let now = Now::from_ms(0);
    for name in ["a", "b"] {
        let unit = UnitName::new(name);
        let declare = Event::Declare { unit: unit.clone(), spec: Spec::default(), last_incarnation: Incarnation::NONE };
        let _ = core.step(now, declare);
        let _ = core.step(now, Event::Start { unit: unit.clone() });
        let _ = core.step(now, Event::Spawned { unit, incarnation: Incarnation::new(1) });
    }
    assert!(!core.is_quiet());
    assert_eq!(words(&core.step(now, Event::StopAll { mode: StopMode::Now })), "kill#1 stopping kill#1 stopping");
}
