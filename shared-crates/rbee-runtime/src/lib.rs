//! rbee-runtime
