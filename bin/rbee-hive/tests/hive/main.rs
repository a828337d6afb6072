//! The hive with real processes: alone, under a queen, and killed.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod fleet;
mod process;
mod standalone;
mod support;
