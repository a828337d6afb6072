//! What a worker is: from an assignment's words to a daemon that can be supervised.
//!
//! Thin by intention: nothing here starts, probes or signals a process.

pub mod ports;
pub mod template;
