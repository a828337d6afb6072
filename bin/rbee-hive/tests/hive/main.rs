//! The hive with real processes: alone, under a queen, and killed.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod events;
mod fleet;
mod monitor;
mod process;
mod reports;
mod standalone;
mod support;
