//! The pure core of a supervisor: which process to start, signal or give up on, and when.
//!
//! [`Core::step`] takes the time and an [`Event`] and returns the [`Action`]s to carry out; [`Core::deadline`]
//! says until when the shell may sleep. There is no clock, no I/O, no async and no randomness but a seed in
//! here, so every race is a table test and every policy runs in the simulator (seed 003; DESIGN §6).
//!
//! ```
//! use supervision::{Action, Core, Event, Incarnation, Now, Phase, Spec, UnitName};
//!
//! let mut core = Core::new(42);
//! let name = UnitName::new("api");
//! let now = Now::from_ms(0);
//! let declared = core.step(now, Event::Declare { unit: name.clone(), spec: Spec::default(), last_incarnation: Incarnation::NONE });
//! assert!(declared.is_empty());
//! let actions = core.step(now, Event::Start { unit: name.clone() });
//! assert!(matches!(actions[0], Action::Spawn { .. }));
//! assert_eq!(core.unit(&name).map(|unit| unit.phase()), Some(Phase::Starting));
//! ```

mod action;
mod cause;
mod core;
mod dependencies;
mod event;
mod excess;
mod graph;
#[cfg(not(any(test, feature = "mutants")))]
mod mutants;
#[cfg(any(test, feature = "mutants"))]
pub mod mutants;
mod name;
mod restart;
mod slots;
mod spec;
#[cfg(test)]
mod tests;
mod time;
mod unit;
mod why;

#[cfg(any(test, feature = "sim"))]
pub mod sim;

pub use crate::core::Core;
pub use crate::dependencies::{DependencyError, check_dependencies};
pub use action::{Action, Change, Happening, What};
pub use cause::Cause;
pub use event::{Event, ExitHow, SpawnErrorKind, Stage, StopMode};
pub use excess::{Excess, Resource};
pub use name::{Incarnation, UnitName};
pub use restart::{RestartHistory, Verdict as RestartVerdict};
pub use spec::{InvalidSpec, Policy, Restart, Spec};
pub use time::Now;
pub use unit::{Phase, Unit};
pub use why::{CHAIN_MAX, EPISODES_MAX, Episode, Fate, Link, Outcome, Why};
