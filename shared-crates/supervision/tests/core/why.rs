//! Why a unit restarted: cascades down to their root, bounded.

use supervision::{
    Cause, EPISODES_MAX, Event, ExitHow, Fate, Incarnation, Now, Outcome, Policy, Restart, SpawnErrorKind, Spec,
    StopMode, UnitName, Why,
};

use crate::table::{Table, at_once};
use crate::tree::{CHAIN, Tree, chain_up};

impl Tree {
    fn why(&self, name: &str) -> Why {
        self.core.why(&UnitName::new(name)).unwrap()
    }

    /// The newest sentence.
    fn sentence(&self, name: &str) -> String {
        self.why(name).episodes[0].link.to_string()
    }
}

/// WHY-01
#[test]
fn a_cascade_is_told_to_its_root() {
    let mut tree = chain_up();
    tree.gone("db", ExitHow::Code(1));
    tree.gone("web", ExitHow::Code(0));
    tree.gone("api", ExitHow::Code(0));
    for name in ["db", "api", "web"] {
        tree.up(name);
    }
    assert_eq!(tree.sentence("db"), "db restarted because it exited with code 1");
    assert_eq!(tree.sentence("api"), "api restarted because its dependency db restarted because it exited with code 1");
    assert_eq!(
        tree.why("web").to_string(),
        "web is running\nweb restarted because its dependency api restarted because its dependency db restarted \
         because it exited with code 1"
    );
    let why = tree.why("web");
    let links: Vec<_> = why.episodes[0].link.chain().map(|link| (link.unit.as_str(), link.incarnation.get())).collect();
    assert_eq!(links, [("web", 1), ("api", 1), ("db", 1)], "each names the run that fell");
    let new_run = Outcome::Running { incarnation: Incarnation::new(2), since: Now::from_ms(0) };
    assert_eq!((why.episodes[0].outcome, why.episodes[0].ended), (new_run, Some(ExitHow::Code(0))));
}

/// WHY-01
#[test]
fn a_restart_by_hand_and_a_stop_cascade_by_their_names() {
    let mut tree = chain_up();
    tree.give(Event::Restart { unit: UnitName::new("db") });
    assert_eq!(tree.sentence("api"), "api restarted because its dependency db restarted because that was asked for");
    let mut tree = chain_up();
    tree.stop("db", StopMode::Graceful);
    assert_eq!(tree.sentence("api"), "api restarted because its dependency db stopped because that was asked for");
}

/// WHY-01
#[test]
fn a_dependency_that_gives_up_says_so() {
    let mut tree = chain_up();
    let restart = Restart { restarts_max: 0, ..Restart::default() };
    let declare = |spec| Event::Declare { unit: UnitName::new("db"), spec, last_incarnation: Incarnation::NONE };
    tree.give(declare(Spec { restart, ..Spec::default() }));
    tree.gone("db", ExitHow::Signal(11));
    assert_eq!(
        tree.sentence("api"),
        "api restarted because its dependency db failed because signal 11 ended it and gave up after 0 restarts within \
         3600 s"
    );
}

/// WHY-02
#[test]
fn every_cause_has_its_clause() {
    for (cause, clause) in [
        (Cause::Exited(ExitHow::Unknown), "it ended, and nobody can say how"),
        (Cause::StartTimedOut { after_ms: 1_500 }, "it was not ready within 1.5 s"),
        (Cause::ReloadTimedOut { after_ms: 2_000 }, "it had its reload not done within 2 s"),
        (Cause::Unhealthy { reason: "refused".to_owned() }, "it was unhealthy: refused"),
        (Cause::Hung { busy_probes: 3 }, "it was too busy to answer 3 health probes in a row"),
        (Cause::WatchdogMissed { timeout_ms: 500 }, "it gave no sign of life within its watchdog's 0.5 s"),
        (Cause::MemoryHigh { bytes: 3 << 20, limit: 1 << 20 }, "it used 3.0 MiB of memory, more than 1.0 MiB"),
        (Cause::SpawnFailed { reason: "EAGAIN".to_owned() }, "it could not be started: EAGAIN"),
        (Cause::SpecChanged, "its configuration changed"),
        (Cause::Adopted, "it was being ended when its supervisor died"),
    ] {
        assert_eq!(cause.clause(), clause);
    }
}

/// WHY-03
#[test]
fn the_history_is_bounded_and_newest_first() {
    let restart = Restart { restarts_max: 100, ..at_once().restart };
    let mut t = Table::running(Spec { restart, ..Spec::default() });
    for n in 1..=20 {
        t.after(1).exited(n, ExitHow::Code(i32::try_from(n).unwrap()));
        t.spawned(n + 1);
        t.ready(n + 1);
    }
    let why = t.why();
    assert_eq!(why.episodes.len(), EPISODES_MAX);
    let runs: Vec<u64> = why.episodes.iter().map(|episode| episode.link.incarnation.get()).collect();
    assert_eq!(runs, [20, 19, 18, 17, 16, 15, 14, 13]);
    assert_eq!(why.episodes[0].link.at, Now::from_ms(20));
}

/// WHY-03
#[test]
fn a_long_chain_keeps_its_ends() {
    let names: Vec<String> = (0..100).map(|n| format!("u{n:02}")).collect();
    let needs: Vec<Vec<&str>> = (0..100).map(|n| if n == 0 { vec![] } else { vec![names[n - 1].as_str()] }).collect();
    let edges: Vec<(&str, &[&str])> = names.iter().map(String::as_str).zip(needs.iter().map(Vec::as_slice)).collect();
    let mut tree = Tree::new(&edges);
    tree.start("u99");
    for name in &names {
        tree.up(name);
    }
    tree.gone("u00", ExitHow::Code(7));
    let why = tree.why("u99");
    let chain: Vec<&UnitName> = why.episodes[0].link.chain().map(|link| &link.unit).collect();
    assert!(chain.len() <= supervision::CHAIN_MAX, "{}", chain.len());
    assert_eq!((chain[0].as_str(), chain[chain.len() - 1].as_str()), ("u99", "u00"));
    let newest = &why.episodes[0].link.cause;
    assert_eq!(*newest, Cause::DependencyLost { dependency: UnitName::new("u98") }, "who pulled it down is named");
}

/// WHY-04
#[test]
fn what_came_of_a_fall_is_told() {
    let mut t = Table::running(Spec::default());
    t.exited(1, ExitHow::Code(1));
    assert_eq!(t.why().episodes[0].outcome, Outcome::Pending);
    let unit = t.unit.clone();
    t.give(Event::Retry { unit, force: false });
    let failed = |unit, incarnation| Event::SpawnFailed {
        unit,
        incarnation,
        kind: SpawnErrorKind::Unavailable,
        reason: "no such file".to_owned(),
    };
    t.report(2, failed);
    let why = t.why();
    assert_eq!(why.to_string().lines().next(), Some("u is unavailable: could not be started: no such file"));
    assert_eq!(why.episodes[0].link.to_string(), "u became unavailable because it could not be started: no such file");
    assert_eq!(why.episodes[0].outcome, Outcome::Down { since: Now::from_ms(0) });
    assert_eq!(why.episodes[1].outcome, Outcome::Overtaken);
}

/// WHY-04
#[test]
fn a_stop_overtakes_a_restart() {
    let mut t = Table::running(Spec::default());
    t.exited(1, ExitHow::Code(1));
    t.stop(StopMode::Graceful);
    let episodes = t.why().episodes;
    assert_eq!(episodes[0].link.to_string(), "u stopped because that was asked for");
    assert_eq!((episodes[1].outcome, episodes[1].link.fate), (Outcome::Overtaken, Fate::Restarted));
}

/// WHY-04
#[test]
fn one_that_ended_as_its_policy_allows_stopped() {
    let restart = Restart { policy: Policy::OnFailure, ..Restart::default() };
    let mut t = Table::running(Spec { restart, ..Spec::default() });
    t.exited(1, ExitHow::Code(0));
    assert_eq!(t.why().episodes[0].link.to_string(), "u stopped because it exited with code 0");
}

/// WHY-01
#[test]
fn who_waits_says_for_what_and_has_no_history() {
    let mut tree = Tree::new(CHAIN);
    tree.start("web");
    assert_eq!(tree.why("web").to_string(), "web is starting: waits for `api`, which is starting");
}
