//! The process layer: the only place that spawns, signals or waits, and the only one with `unsafe`. Linux 5.9 or newer.
//!
//! ```text
//! Command ──spawn (the child records itself, then executes)──▶ Process ──ended──▶ (Tree killed) ──reap──▶ ExitHow
//!                                                                 ▲
//!                                                                 │ open: pid + start time + boot id still match
//!                                                         ProcessIdentity (from a state file)
//! ```
//!
//! A process is held by its pidfd; a bare pid is never signalled.

mod blocked_writers;
mod cgroup;
mod child;
mod child_limits;
mod clock;
mod clone;
mod format;
mod identity;
mod leftovers;
mod memory;
mod orphans;
mod payload;
mod reap;
mod replace;
mod resolve;
mod run_mark;
mod signal;
mod spawn;
mod spawn_error;
mod tree;
mod wait;

pub(crate) use blocked_writers::{tell_of_writes, writes_told};
pub(crate) use cgroup::Cgroup;
pub use cgroup::CgroupReach;
pub(crate) use child::Piece;
pub(crate) use child_limits::{ChildLimits, raise_open_files};
pub use clock::clock_is_synchronised;
pub(crate) use identity::{Process, ProcessIdentity, session_of};
pub use leftovers::end_rest_of_unit;
pub use memory::give_back as give_back_memory;
pub(crate) use orphans::adopt_and_reap;
pub(crate) use payload::memory_bytes as payload_memory_bytes;
pub(crate) use replace::replace_self;
pub(crate) use run_mark::{RUN_ID_VARIABLE, RunMark, bears_mark_of, new_run_id, own_run_id, runs_of};
pub use signal::{StopSignal, UnknownSignal};
pub(crate) use spawn::{Command, Output, Record};
pub(crate) use spawn_error::SpawnError;
pub(crate) use tree::{ScanNumber, Tree, TreeEnd};
pub(crate) use wait::{ExitWatch, readable_until, watch_readable};
