//! queen-lifecycle
