//! How much of a unit's log is kept.

use std::time::Duration;

/// How much of a unit's log is kept, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPolicy {
    /// A file that would grow beyond this is put aside (bytes). A single line that is longer has a file for itself.
    pub file_bytes_max: u64,
    /// Files kept beside the one that is written to.
    pub files_kept: u32,
    /// A file whose first line is older than this is put aside; one put aside whose last line is older goes.
    pub age_max: Duration,
}

impl Default for LogPolicy {
    fn default() -> Self {
        Self { file_bytes_max: 10 * 1024 * 1024, files_kept: 5, age_max: Duration::from_hours(7 * 24) }
    }
}
