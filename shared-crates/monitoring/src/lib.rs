//! What a tier keeps about its daemons over time: one SQLite file, bounded, written beside the work and never in its way.

mod counts;
mod gpu;
mod hooks;
mod journal;
mod own;
mod proc;
pub mod report;
mod sample;
mod store;
mod threshold;
pub mod words;

pub use counts::{Counts, HistoryFigures};
pub use hooks::{Hooks, On};
pub use journal::{EventParams, Follower, Journal, Listener, NewEvent, answer_events};
pub use own::OwnUsage;
pub use proc::{Disk, Rounds, Sampler, Target};
pub use sample::{Sample, Spread, Summary};
pub use store::{Bounds, History, HistoryError, Opened, put_aside};
pub use threshold::Crossings;
