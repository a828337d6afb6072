//! Waiting on conditions, with an end.

use std::thread;
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until there is something to see, and returns it.
///
/// # Panics
/// After `timeout`, naming what was waited for.
pub fn until<T>(what: &str, timeout: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + timeout;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited {} s for {what}", timeout.as_secs());
        thread::park_timeout(LOOK_EVERY);
    }
}
