//! The process layer, the manager and the supervisor against real processes that misbehave.
//!
//! Here, not beside them, because cargo tells the path of a binary only to the tests of its own package.

#![expect(clippy::unwrap_used, reason = "a test stops at its first surprise, in its helpers too")]

mod forking;
mod limits;
mod logs;
mod manager;
mod manager_trouble;
mod scene;
mod spawn;
mod supervisor;
mod supervisor_after_exit;
mod supervisor_events;
mod supervisor_forking;
mod supervisor_health;
mod supervisor_many;
mod supervisor_notify;
mod supervisor_sockets;
mod survival;
mod tree;
