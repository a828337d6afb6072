//! The binary over HTTP, on a real model. Needs a GGUF file in RBEE_TEST_MODEL.

mod answers;
mod lifecycle;
mod refusals;
mod worker;
