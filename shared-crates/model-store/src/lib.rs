//! Model files of this machine: where they come from, fetched once, checked, kept.
//!
//! [`ModelSource`] and [`Sha256Digest`] are the config's words and need next to nothing to compile. The store itself
//! (`ModelStore`: downloads, locks, receipts) is behind the feature `fetch`, for those who fetch.

mod digest;
mod source;

#[cfg(feature = "fetch")]
mod error;
#[cfg(feature = "fetch")]
mod fetch;
#[cfg(feature = "fetch")]
mod progress;
#[cfg(feature = "fetch")]
mod receipt;
#[cfg(feature = "fetch")]
mod store;

pub use digest::{DigestError, Sha256Digest};
pub use source::{ModelSource, SourceError};

#[cfg(feature = "fetch")]
pub use error::ModelError;
#[cfg(feature = "fetch")]
pub use progress::{Progress, Stage};
#[cfg(feature = "fetch")]
pub use store::{ModelStore, StoredModel};
