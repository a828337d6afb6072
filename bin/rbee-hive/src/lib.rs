//! rbee-hive: runs and keeps the workers of one machine, for queen or alone.

pub mod orders;
pub mod reconcile;
