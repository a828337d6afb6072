//! queen-rbee: the orchestrator. Decides which hive runs what, keeps that over restarts, and streams inference
//! requests straight to workers.

pub mod desired;
pub mod lease;
pub mod placement;
pub mod store;
