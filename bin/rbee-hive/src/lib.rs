//! rbee-hive: runs and keeps the workers of one machine, for queen or alone.

pub mod api;
pub mod container;
pub mod events;
pub mod link;
pub mod monitor;
pub mod orders;
pub mod pool;
pub mod ports;
pub mod reconcile;
mod reload;
pub mod run;
pub mod settle;
pub mod source;
pub mod state;
pub mod upgrade;
pub mod view;
