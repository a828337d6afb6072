//! The process layer, the manager and the supervisor against real processes that misbehave.
//!
//! Here, not beside them, because cargo tells the path of a binary only to the tests of its own package.

mod manager;
mod manager_trouble;
mod scene;
mod supervisor;
mod survival;
