//! What the model made of a text's beginning (its keys and values), kept over restarts: who goes on with a conversation
//! does not wait for all of it to be read again.
//!
//! ```text
//!   slot ──worker goes down──▶ [`file`] version, identity, tokens, state, checksum ──▶ folder, oldest out over the budget
//!   slot ◀──a prompt begins with its tokens── checked again ◀──worker starts: all checked, wrong ones deleted──┘
//! ```
//!
//! A file is used only if it is whole and was made by this very model, context and engine on this kind of processor.

pub mod file;
mod store;

pub use store::{Store, StoreConfig};
