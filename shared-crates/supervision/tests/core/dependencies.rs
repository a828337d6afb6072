//! Order between units.

use supervision::{
    Core, Event, ExitHow, Incarnation, Now, Phase, Restart, SpawnErrorKind, Spec, Stage, StopMode, UnitName,
};

use crate::tree::{CHAIN, Tree, chain_up};

/// DEPS-02
#[test]
fn a_start_goes_up_the_dependencies_each_when_ready() {
    let mut tree = Tree::new(CHAIN);
    assert_eq!(tree.start("web"), "spawn:db");
    assert_eq!(tree.reason("api"), "waits for `db`, which is starting");
    assert_eq!(tree.up("db"), "spawn:api");
    assert_eq!(tree.up("api"), "spawn:web");
    tree.up("web");
    assert_eq!((tree.phase("web"), tree.reason("web")), (Phase::Running, ""));
}

/// DEPS-03
#[test]
fn a_stop_goes_down_the_dependents_first() {
    let mut tree = chain_up();
    assert_eq!(tree.give(Event::StopAll { mode: StopMode::Graceful }), "term:web");
    assert_eq!(tree.gone("web", ExitHow::Code(0)), "term:api");
    assert_eq!(tree.gone("api", ExitHow::Code(0)), "term:db");
    tree.gone("db", ExitHow::Code(0));
    assert!(tree.core.is_quiet());
}

/// DEPS-03
#[test]
fn a_stop_at_once_waits_for_nobody() {
    let mut tree = chain_up();
    assert_eq!(tree.give(Event::StopAll { mode: StopMode::Now }), "kill:api kill:db kill:web");
}

/// DEPS-04
#[test]
fn stopping_a_dependency_lets_its_dependents_wait_for_it() {
    let mut tree = chain_up();
    assert_eq!(tree.stop("db", StopMode::Graceful), "term:web");
    tree.gone("web", ExitHow::Code(0));
    assert_eq!(tree.gone("api", ExitHow::Code(0)), "term:db");
    tree.gone("db", ExitHow::Code(0));
    assert_eq!(tree.reason("api"), "waits for `db`, which is stopped");
    assert_eq!(tree.start("db"), "spawn:db");
    assert_eq!(tree.up("db"), "spawn:api");
    assert_eq!(tree.up("api"), "spawn:web");
}

/// DEPS-05
#[test]
fn a_crash_cascades_and_counts_for_nobody_else() {
    let mut tree = chain_up();
    assert_eq!(tree.gone("db", ExitHow::Code(1)), "spawn:db term:web");
    assert_eq!(tree.gone("web", ExitHow::Code(0)), "term:api");
    assert_eq!(tree.up("db"), "");
    assert_eq!(tree.gone("api", ExitHow::Code(0)), "spawn:api");
    assert_eq!(tree.up("api"), "spawn:web");
    for (name, restarts) in [("db", 1), ("api", 0), ("web", 0)] {
        assert_eq!(tree.core.unit(&UnitName::new(name)).unwrap().restarts(), restarts, "{name}");
    }
}

/// DEPS-06
#[test]
fn who_waits_says_why() {
    let mut tree = Tree::new(CHAIN);
    tree.start("web");
    let (unit, incarnation) = tree.live("db");
    let kind = SpawnErrorKind::Unavailable;
    tree.give(Event::SpawnFailed { unit, incarnation, kind, reason: "no such file".into() });
    assert_eq!(tree.phase("api"), Phase::Starting);
    assert_eq!(tree.reason("api"), "waits for `db`, which is unavailable");
    tree.stop("web", StopMode::Graceful);
    assert_eq!(tree.phase("web"), Phase::Stopped, "who waits can be stopped at once");
}

/// DEPS-07
#[test]
fn adoption_of_a_tree_without_its_root_ends_what_needs_it() {
    let mut tree = Tree::new(CHAIN);
    for name in ["api", "web"] {
        let incarnation = Incarnation::new(5);
        let adopted = Event::Adopted { unit: UnitName::new(name), incarnation, stage: Stage::Ready, restarts: 0 };
        assert_eq!(tree.give(adopted), "", "the root may still be reported");
    }
    assert_eq!(tree.give(Event::AdoptionDone), "term:web");
    assert_eq!(tree.gone("web", ExitHow::Unknown), "term:api");
    tree.gone("api", ExitHow::Unknown);
    assert_eq!(tree.start("db"), "spawn:db");
    assert_eq!(tree.up("db"), "spawn:api");
}

/// DEPS-08
#[test]
fn only_so_many_are_on_their_way_up_at_once() {
    let mut tree = Tree::with_core(Core::new(1).with_starts_max(2), &[("a", &[]), ("b", &[]), ("c", &[]), ("d", &[])]);
    assert_eq!(["a", "b", "c", "d"].map(|name| tree.start(name)), ["spawn:a", "spawn:b", "", ""]);
    assert_eq!(tree.reason("c"), "waits for a start slot");
    assert_eq!(tree.up("b"), "spawn:c", "who waited longest is next");
    assert_eq!(tree.gone("a", ExitHow::Code(1)), "spawn:d", "a slot of one that failed is free too");
    assert_eq!(tree.up("c"), "spawn:a");
}

impl Tree {
    /// Declares a unit anew, as a reload does.
    fn redeclare(&mut self, name: &str, needs: &[&str]) -> String {
        let depends_on = needs.iter().map(|need| UnitName::new(need)).collect();
        let restart = Restart { backoff_min_ms: 0, backoff_max_ms: 0, ..Restart::default() };
        let spec = Spec { depends_on, restart, ..Spec::default() };
        let unit = UnitName::new(name);
        let declared = self.give(Event::Declare { unit, spec, last_incarnation: Incarnation::NONE });
        [declared, self.give(Event::AdoptionDone)].concat()
    }
}

/// DEPS-10
#[test]
fn a_stop_does_not_wait_for_one_that_needs_it_no_more() {
    let mut tree = chain_up();
    assert_eq!(tree.stop("db", StopMode::Graceful), "term:web");
    assert_eq!(tree.redeclare("api", &[]), "term:db");
}

/// DEPS-10
#[test]
fn one_that_waits_goes_up_when_it_needs_that_no_more() {
    let mut tree = Tree::new(CHAIN);
    tree.start("api");
    assert_eq!(tree.reason("api"), "waits for `db`, which is starting");
    assert_eq!(tree.redeclare("api", &[]), "spawn:api");
}

/// DEPS-10
#[test]
fn a_new_need_that_does_not_run_ends_who_has_it() {
    let mut tree = Tree::new(&[("a", &[]), ("b", &[])]);
    tree.start("b");
    tree.up("b");
    assert_eq!(tree.redeclare("b", &["a"]), "term:b");
    tree.gone("b", ExitHow::Code(0));
    assert_eq!(tree.reason("b"), "waits for `a`, which is stopped");
}

/// DEPS-11
#[test]
fn who_has_to_go_goes_before_others_are_spawned() {
    let mut tree = Tree::new(&[("a", &[]), ("b", &["a"])]);
    let restart = Restart { backoff_min_ms: 100, backoff_max_ms: 100, ..Restart::default() };
    let spec = Spec { restart, depends_on: vec![UnitName::new("a")], ..Spec::default() };
    let b = UnitName::new("b");
    tree.give(Event::Declare { unit: b.clone(), spec, last_incarnation: Incarnation::NONE });
    tree.start("b");
    tree.up("a");
    tree.up("b");
    tree.gone("b", ExitHow::Code(1));
    let (unit, incarnation) = tree.live("a");
    tree.give(Event::WatchdogArmed { unit, incarnation, timeout_ms: 100 });
    let late = tree.core.step(Now::from_ms(150), Event::Tick);
    assert!(late.iter().all(|action| !matches!(action, supervision::Action::Spawn { .. })), "{late:?}");
    assert_eq!(tree.phase("a"), Phase::Stopping);
    assert_eq!(tree.reason("b"), "waits for `a`, which is stopping");
}

/// DEPS-02
#[test]
fn a_restart_of_what_is_down_starts_what_it_needs() {
    let mut tree = Tree::new(CHAIN);
    assert_eq!(tree.give(Event::Restart { unit: UnitName::new("web") }), "spawn:db");
    assert_eq!([tree.up("db"), tree.up("api"), tree.up("web")], ["spawn:api", "spawn:web", ""]);
}
