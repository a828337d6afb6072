//! What a tier keeps about its daemons over time: one SQLite file, bounded, written beside the work and never in its way.

mod store;

pub use store::{Bounds, History, HistoryError, Opened};
