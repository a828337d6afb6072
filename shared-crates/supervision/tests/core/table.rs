//! One unit in a core of its own, driven event by event.

use supervision::{
    Action, Change, Core, Event, ExitHow, Happening, Incarnation, Now, Phase, Restart, Spec, StopMode, UnitName, What,
    Why,
};

/// One unit in a core of its own, and a clock.
pub(crate) struct Table {
    pub(crate) core: Core,
    pub(crate) unit: UnitName,
    now_ms: u64,
}

impl Table {
    pub(crate) fn new(spec: Spec) -> Self {
        let (mut core, unit) = (Core::new(1), UnitName::new("u"));
        let declare = Event::Declare { unit: unit.clone(), spec, last_incarnation: Incarnation::NONE };
        assert!(core.step(Now::from_ms(0), declare).is_empty());
        Self { core, unit, now_ms: 0 }
    }

    pub(crate) fn give(&mut self, event: Event) -> String {
        words(&self.core.step(Now::from_ms(self.now_ms), event))
    }

    /// What an event has told, and nothing else.
    pub(crate) fn told(&mut self, event: impl Fn(UnitName, Incarnation) -> Event, n: u64) -> Vec<String> {
        let event = event(self.unit.clone(), Incarnation::new(n));
        told(&self.core.step(Now::from_ms(self.now_ms), event))
    }

    pub(crate) fn after(&mut self, ms: u64) -> &mut Self {
        self.now_ms += ms;
        self
    }

    pub(crate) fn start(&mut self) -> String {
        let unit = self.unit.clone();
        self.give(Event::Start { unit })
    }

    pub(crate) fn stop(&mut self, mode: StopMode) -> String {
        let unit = self.unit.clone();
        self.give(Event::Stop { unit, mode })
    }

    pub(crate) fn restart(&mut self) -> String {
        let unit = self.unit.clone();
        self.give(Event::Restart { unit })
    }

    pub(crate) fn spawned(&mut self, n: u64) -> String {
        let unit = self.unit.clone();
        self.give(Event::Spawned { unit, incarnation: Incarnation::new(n) })
    }

    pub(crate) fn ready(&mut self, n: u64) -> String {
        let unit = self.unit.clone();
        self.give(Event::Ready { unit, incarnation: Incarnation::new(n) })
    }

    pub(crate) fn exited(&mut self, n: u64, how: ExitHow) -> String {
        let unit = self.unit.clone();
        self.give(Event::Exited { unit, incarnation: Incarnation::new(n), how })
    }

    pub(crate) fn running(spec: Spec) -> Self {
        let mut table = Self::new(spec);
        table.start();
        table.spawned(1);
        table.ready(1);
        assert_eq!(table.phase(), Phase::Running);
        table
    }

    pub(crate) fn phase(&self) -> Phase {
        self.core.unit(&self.unit).unwrap().phase()
    }

    pub(crate) fn reason(&self) -> &str {
        self.core.unit(&self.unit).unwrap().reason().unwrap_or("")
    }

    /// A report of run `n`.
    pub(crate) fn report(&mut self, n: u64, event: impl Fn(UnitName, Incarnation) -> Event) -> String {
        self.give(event(self.unit.clone(), Incarnation::new(n)))
    }

    pub(crate) fn why(&self) -> Why {
        self.core.why(&self.unit).unwrap()
    }

    pub(crate) fn restarts(&self) -> u32 {
        self.core.unit(&self.unit).unwrap().restarts()
    }
}

/// Actions as short words: `spawn#1 starting`.
pub(crate) fn words(actions: &[Action]) -> String {
    let word = |action: &Action| match action {
        Action::Spawn { incarnation, .. } => format!("spawn{incarnation}"),
        Action::AwaitReady { incarnation, .. } => format!("await{incarnation}"),
        Action::WatchHealth { incarnation, .. } => format!("watch{incarnation}"),
        Action::Terminate { incarnation, .. } => format!("term{incarnation}"),
        Action::Kill { incarnation, .. } => format!("kill{incarnation}"),
        Action::Cleanup { incarnation, .. } => format!("clean{incarnation}"),
        Action::Forget { .. } => "forget".to_owned(),
        Action::Changed(change) => change.to.to_string(),
        Action::Happened(_) => String::new(),
    };
    // What is only told has a table of its own.
    actions.iter().filter(|action| !matches!(action, Action::Happened(_))).map(word).collect::<Vec<_>>().join(" ")
}

/// The same actions to somebody who only listens.
pub(crate) fn told(actions: &[Action]) -> Vec<String> {
    let line = |action: &Action| match action {
        Action::Changed(Change { unit, incarnation, from, to, cause }) => {
            Some(format!("{unit}{incarnation} {from} > {to}: {cause}"))
        }
        Action::Happened(Happening { unit, incarnation, what }) => Some(match what {
            What::Adopted => format!("{unit}{incarnation} adopted"),
            What::Cascade { dependency } => format!("{unit}{incarnation} pulled down by {dependency}"),
            What::HealthFailed { cause, in_a_row, limit } => {
                format!("{unit}{incarnation} ill {in_a_row}/{limit}: {cause}")
            }
            What::Threshold { cause, restarts } => {
                format!("{unit}{incarnation} {}: {cause}", if *restarts { "too much" } else { "much" })
            }
        }),
        _ => None,
    };
    actions.iter().filter_map(line).collect()
}

/// Restarts at once, twice.
pub(crate) fn at_once() -> Spec {
    let restart = Restart { backoff_min_ms: 0, backoff_max_ms: 0, restarts_max: 2, ..Restart::default() };
    Spec { restart, ..Spec::default() }
}
