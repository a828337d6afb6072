//! The core, driven from outside: tables of state × event, trees, vital signs, causes.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod chaos;
mod dependencies;
mod life;
mod table;
mod told;
mod tree;
mod vitals;
mod why;
