//! What every program of ours needs around its own job: directories, configuration, token, logging,
//! listening sockets, shutdown, HTTP manners.
//!
//! No policy about daemons lives here, and nothing that only one program needs.
//!
//! The environment is read in one place ([`env::Env::read`]) and passed on as a value, so tests set
//! what they need without touching the process.

pub mod binaries;
pub mod config;
pub mod dirs;
pub mod env;
mod error_chain;
pub mod http;
pub mod listen;
pub mod logging;
pub mod notify;
pub mod process_figures;
pub mod self_check;
pub mod services;
pub mod shutdown;
pub mod token;
pub mod watchdog;

pub use error_chain::error_chain;
