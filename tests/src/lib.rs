//! The harness of black-box tests: a home of its own for every chain, what runs in it, and a client.
#![expect(clippy::unwrap_used, reason = "a harness that cannot go on fails its test")]

pub mod chaos;
pub mod clock;
pub mod docker;
pub mod home;
pub mod mock;
pub mod model;
pub mod openai;
pub mod ports;
pub mod processes;
pub mod random;
pub mod registry;
pub mod terminal;
pub mod wait;
pub mod wire;
