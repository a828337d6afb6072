//! Model files of this machine: where they come from, fetched once, checked, kept.
//!
//! [`ModelSource`] and [`Sha256Digest`] are the config's words and need next to nothing to compile. The store itself
//! (`ModelStore`: downloads, locks, receipts) is behind the feature `fetch`, for those who fetch.

mod digest;
mod source;

pub use digest::{DigestError, Sha256Digest};
pub use source::{ModelSource, SourceError};
