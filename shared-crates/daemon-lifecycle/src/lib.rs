//! daemon-lifecycle
