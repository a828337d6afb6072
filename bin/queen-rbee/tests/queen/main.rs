//! Queen as a whole, on real sockets: in this process for what is said, as a process of its own for how it lives.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on shall panic; clippy knows tests, not their helpers")]

mod control;
mod events;
mod failover;
mod farewell;
mod gateway;
mod harness;
mod keys;
mod process;
mod queue;
mod reports;
mod teller;
mod upkeep;
mod workers;
