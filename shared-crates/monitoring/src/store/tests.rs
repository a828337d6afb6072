//! Locked, full, corrupt, newer: what the history makes of it.
