//! What a worker is: from an assignment's words to a daemon that can be supervised.
//!
//! Thin by intention: nothing here starts, probes or signals a process.

mod engine;
mod template;
mod unit;

pub use container_order::ContainerEngine;
pub use engine::{ENGINE_PROGRAM, EngineMissing, Programs, default_threads};
pub use unit::{Machine, Placement, UnitError, state_dir, unit_spec, wants_port};
