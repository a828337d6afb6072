//! Order between units.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use supervision::{
    Action, Core, Event, ExitHow, Incarnation, Now, Phase, Restart, SpawnErrorKind, Spec, Stage, StopMode, UnitName,
};

/// A core whose units are given as `name <- needs`.
struct Tree {
    core: Core,
}

impl Tree {
    fn new(edges: &[(&str, &[&str])]) -> Self {
        Self::with_core(Core::new(1), edges)
    }

    fn with_core(mut core: Core, edges: &[(&str, &[&str])]) -> Self {
        for (name, needs) in edges {
            let depends_on = needs.iter().map(|need| UnitName::new(need)).collect();
            let restart = Restart { backoff_min_ms: 0, backoff_max_ms: 0, ..Restart::default() };
            let spec = Spec { depends_on, restart, ..Spec::default() };
            let last_incarnation = Incarnation::NONE;
            let _ = core.step(Now::from_ms(0), Event::Declare { unit: UnitName::new(name), spec, last_incarnation });
        }
        Self { core }
    }

    fn give(&mut self, event: Event) -> String {
        let word = |action: &Action| match action {
            Action::Spawn { unit, .. } => Some(format!("spawn:{unit}")),
            Action::Terminate { unit, .. } => Some(format!("term:{unit}")),
            Action::Kill { unit, .. } => Some(format!("kill:{unit}")),
            _ => None,
        };
        self.core.step(Now::from_ms(0), event).iter().filter_map(word).collect::<Vec<_>>().join(" ")
    }

    fn start(&mut self, name: &str) -> String {
        self.give(Event::Start { unit: UnitName::new(name) })
    }

    fn stop(&mut self, name: &str, mode: StopMode) -> String {
        self.give(Event::Stop { unit: UnitName::new(name), mode })
    }

    /// The spawn ordered last succeeds and the process proves that it is ready.
    fn up(&mut self, name: &str) -> String {
        let (unit, incarnation) = self.live(name);
        let spawned = self.give(Event::Spawned { unit: unit.clone(), incarnation });
        [spawned, self.give(Event::Ready { unit, incarnation })].concat()
    }

    fn gone(&mut self, name: &str, how: ExitHow) -> String {
        let (unit, incarnation) = self.live(name);
        self.give(Event::Exited { unit, incarnation, how })
    }

    fn live(&self, name: &str) -> (UnitName, Incarnation) {
        let unit = UnitName::new(name);
        let incarnation = self.core.unit(&unit).unwrap().incarnation();
        (unit, incarnation)
    }

    fn phase(&self, name: &str) -> Phase {
        self.core.unit(&UnitName::new(name)).unwrap().phase()
    }

    fn reason(&self, name: &str) -> &str {
        self.core.unit(&UnitName::new(name)).unwrap().reason().unwrap_or("")
    }
}

const CHAIN: &[(&str, &[&str])] = &[("db", &[]), ("api", &["db"]), ("web", &["api"])];

fn chain_up() -> Tree {
    let mut tree = Tree::new(CHAIN);
    tree.start("web");
    for name in ["db", "api", "web"] {
        tree.up(name);
    }
    tree
}

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
