//! The binary over HTTP, on a real model. Needs a GGUF file in RBEE_TEST_MODEL.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking and says when it is skipped")]

mod answers;
mod kept;
mod lifecycle;
mod refusals;
mod resume;
mod surface;
mod worker;
