//! Where a model comes from: defined once, in model-store (light without its feature `fetch`).

pub use model_store::{DigestError, ModelSource, Sha256Digest, SourceError as ModelSourceError};
