//! Several units in one core.

use supervision::{Action, Core, Event, ExitHow, Incarnation, Now, Phase, Restart, Spec, StopMode, UnitName};

/// A core whose units are given as `name <- needs`.
pub(crate) struct Tree {
    pub(crate) core: Core,
}

impl Tree {
    pub(crate) fn new(edges: &[(&str, &[&str])]) -> Self {
        Self::with_core(Core::new(1), edges)
    }

    pub(crate) fn with_core(mut core: Core, edges: &[(&str, &[&str])]) -> Self {
        for (name, needs) in edges {
            let depends_on = needs.iter().map(|need| UnitName::new(need)).collect();
            let restart = Restart { backoff_min_ms: 0, backoff_max_ms: 0, ..Restart::default() };
            let spec = Spec { depends_on, restart, ..Spec::default() };
            let last_incarnation = Incarnation::NONE;
            let _ = core.step(Now::from_ms(0), Event::Declare { unit: UnitName::new(name), spec, last_incarnation });
        }
        Self { core }
    }

    pub(crate) fn give(&mut self, event: Event) -> String {
        let word = |action: &Action| match action {
            Action::Spawn { unit, .. } => Some(format!("spawn:{unit}")),
            Action::Terminate { unit, .. } => Some(format!("term:{unit}")),
            Action::Kill { unit, .. } => Some(format!("kill:{unit}")),
            _ => None,
        };
        self.core.step(Now::from_ms(0), event).iter().filter_map(word).collect::<Vec<_>>().join(" ")
    }

    pub(crate) fn start(&mut self, name: &str) -> String {
        self.give(Event::Start { unit: UnitName::new(name) })
    }

    pub(crate) fn stop(&mut self, name: &str, mode: StopMode) -> String {
        self.give(Event::Stop { unit: UnitName::new(name), mode })
    }

    /// The spawn ordered last succeeds and the process proves that it is ready.
    pub(crate) fn up(&mut self, name: &str) -> String {
        let (unit, incarnation) = self.live(name);
        let spawned = self.give(Event::Spawned { unit: unit.clone(), incarnation });
        [spawned, self.give(Event::Ready { unit, incarnation })].concat()
    }

    pub(crate) fn gone(&mut self, name: &str, how: ExitHow) -> String {
        let (unit, incarnation) = self.live(name);
        self.give(Event::Exited { unit, incarnation, how })
    }

    pub(crate) fn live(&self, name: &str) -> (UnitName, Incarnation) {
        let unit = UnitName::new(name);
        let incarnation = self.core.unit(&unit).unwrap().incarnation();
        (unit, incarnation)
    }

    pub(crate) fn phase(&self, name: &str) -> Phase {
        self.core.unit(&UnitName::new(name)).unwrap().phase()
    }

    pub(crate) fn reason(&self, name: &str) -> &str {
        self.core.unit(&UnitName::new(name)).unwrap().reason().unwrap_or("")
    }
}

/// web needs api, api needs db.
pub(crate) const CHAIN: &[(&str, &[&str])] = &[("db", &[]), ("api", &["db"]), ("web", &["api"])];

pub(crate) fn chain_up() -> Tree {
    let mut tree = Tree::new(CHAIN);
    tree.start("web");
    for name in ["db", "api", "web"] {
        tree.up(name);
    }
    tree
}
