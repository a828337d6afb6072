//! What the core costs with many units, counted in comparisons of names: every look at a unit is some of those.

use std::cell::Cell;

use crate::{Core, Event, ExitHow, Incarnation, Now, Restart, Spec, Stage, StopMode, UnitName};

thread_local! {
    static COMPARED: Cell<u64> = const { Cell::new(0) };
}

/// Two names were compared.
pub(crate) fn compared() {
    COMPARED.set(COMPARED.get() + 1);
}

/// How many units need each other.
#[derive(Debug, Clone, Copy)]
enum Shape {
    /// All need the first.
    Hub,
    /// The last needs all others.
    Target,
    /// Each needs the one before it.
    Chain,
    /// Each needs three of ten bases.
    Layers,
    Alone,
}

struct Crowd {
    core: Core,
    names: Vec<UnitName>,
}

impl Crowd {
    fn new(count: usize, shape: Shape, starts_max: usize) -> Self {
        let names: Vec<UnitName> = (0..count).map(|n| UnitName::new(&format!("u{n:05}"))).collect();
        let mut core = Core::new(1).with_starts_max(starts_max);
        for (n, unit) in names.iter().enumerate() {
            let needs: Vec<usize> = match shape {
                Shape::Hub if n > 0 => vec![0],
                Shape::Target if n + 1 == count => (0..n).collect(),
                Shape::Chain if n > 0 => vec![n - 1],
                Shape::Layers if n >= 10 => vec![n % 10, (n / 10) % 10, (n / 100) % 10],
                _ => Vec::new(),
            };
            let depends_on = needs.iter().map(|need| names[*need].clone()).collect();
            let restart = Restart { backoff_min_ms: 0, backoff_max_ms: 0, ..Restart::default() };
            let spec = Spec { depends_on, restart, ..Spec::default() };
            let declare = Event::Declare { unit: unit.clone(), spec, last_incarnation: Incarnation::NONE };
            let _ = core.step(Now::from_ms(0), declare);
        }
        Self { core, names }
    }

    fn give(&mut self, event: Event) {
        let mut events = vec![event];
        // Everything asked of the shell works out at once.
        while let Some(event) = events.pop() {
            for action in self.core.step(Now::from_ms(0), event) {
                match action {
                    crate::Action::Spawn { unit, incarnation } => events.push(Event::Spawned { unit, incarnation }),
                    crate::Action::AwaitReady { unit, incarnation } => events.push(Event::Ready { unit, incarnation }),
                    crate::Action::Terminate { unit, incarnation } | crate::Action::Kill { unit, incarnation } => {
                        events.push(Event::Exited { unit, incarnation, how: ExitHow::Code(0) });
                    }
                    _ => {}
                }
            }
        }
    }

    fn give_each(&mut self, event: impl Fn(UnitName) -> Event) {
        for unit in self.names.clone() {
            self.give(event(unit));
        }
    }
}

/// Comparisons for one life of `count` units: adopted, ended by a crash of the first, restarted, pinged, stopped, started
/// in both orders, removed.
fn cost(count: usize, shape: Shape, starts_max: usize) -> u64 {
    COMPARED.set(0);
    let mut crowd = Crowd::new(count, shape, starts_max);
    let run = Incarnation::new(1);
    crowd.give_each(|unit| Event::Adopted { unit, incarnation: run, stage: Stage::Ready, restarts: 0 });
    crowd.give(Event::AdoptionDone);
    crowd.give_each(|unit| Event::Start { unit });
    crowd.give_each(|unit| Event::WatchdogArmed { unit, incarnation: run, timeout_ms: 1_000 });
    crowd.give_each(|unit| Event::WatchdogPing { unit, incarnation: run });
    crowd.give(Event::Exited { unit: crowd.names[0].clone(), incarnation: run, how: ExitHow::Code(1) });
    crowd.give(Event::StopAll { mode: StopMode::Graceful });
    assert!(crowd.core.is_quiet());
    crowd.give_each(|unit| Event::Start { unit });
    crowd.give(Event::StopAll { mode: StopMode::Now });
    for unit in crowd.names.clone().into_iter().rev() {
        crowd.give(Event::Start { unit });
    }
    assert!(crowd.core.units().all(|(_, unit)| unit.phase() == crate::Phase::Running));
    crowd.give_each(|unit| Event::Remove { unit });
    assert_eq!(crowd.core.units().count(), 0);
    COMPARED.get()
}

/// DEPS-09
#[test]
fn many_units_cost_as_many_times_one() {
    for shape in [Shape::Hub, Shape::Target, Shape::Chain, Shape::Layers, Shape::Alone] {
        for starts_max in [usize::MAX, 4] {
            let (few, many) = (cost(60, shape, starts_max), cost(240, shape, starts_max));
            // Four times the units, and deeper searches. Squared it would be sixteen times.
            let limit = few * 7;
            assert!(many <= limit, "{shape:?}, {starts_max} at once: {few} comparisons for 60 units, {many} for 240");
        }
    }
}
