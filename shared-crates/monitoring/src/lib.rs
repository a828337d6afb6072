//! What a tier keeps about its daemons over time: one SQLite file, bounded, written beside the work and never in its way.

pub mod report;
mod sample;
mod store;

pub use sample::{Sample, Spread, Summary};
pub use store::{Bounds, History, HistoryError, Opened};
