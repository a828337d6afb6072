//! The process layer: the only place that spawns, signals or waits, and the only one with `unsafe`. Linux 5.9 or newer.
//!
//! ```text
//! Command ──spawn──▶ Gated ──release──▶ Process ──exited──▶ (tree killed) ──reap──▶ ExitHow
//!                      │ dropped, or we die          ▲
//!                      ▼                             │ open: pid + start time + boot id still match
//!                  never ran                 ProcessIdentity (from a state file)
//! ```
//!
//! A process is held by its pidfd; a bare pid is never signalled.

mod child;
mod identity;
mod reap;
mod resolve;
mod signal;
mod spawn;
mod spawn_error;
mod tree;
mod wait;

pub(crate) use identity::{Process, ProcessIdentity, session_of};
pub use signal::{StopSignal, UnknownSignal};
pub(crate) use spawn::Command;
pub(crate) use spawn_error::SpawnError;
pub(crate) use tree::{RUN_ID_VARIABLE, bears_mark_of, kill_session_of_dead, kill_tree};
pub(crate) use wait::{ExitWatch, readable_until, watch_readable};
