//! worker-lifecycle
