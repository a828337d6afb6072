//! Serves one GGUF model over the OpenAI HTTP API: llama.cpp inside, continuous batching, sampling of our own.
//!
//! ```text
//!   http ──Job──▶ batcher (one thread, owns the engine) ──▶ scheduler (pure) ──▶ engine::decode
//!    ▲                │ sampler (pure), text (pure)
//!    └────Event───────┘
//! ```
//!
//! Invariants: llama.cpp is seen by `engine` alone; one thread owns its context; that thread never waits for a client;
//! every queue is bounded; a client that goes away frees its slot before the next batch.

pub mod batcher;
pub mod cli;
pub mod engine;
pub mod grammar;
pub mod http;
pub mod job;
pub mod kv;
pub mod logprobs;
pub mod metrics;
pub mod sampler;
pub mod scheduler;
pub mod serve;
pub mod shaping;
pub mod template;
pub mod text;
pub mod tools;
