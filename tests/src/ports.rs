//! Ports for a chain of its own. Those that must be known beforehand are taken from below the ephemeral range, so that
//! no outgoing connection gets them meanwhile.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 12_000;
const COUNT: u32 = 20_000;

static TAKEN: AtomicU32 = AtomicU32::new(0);

/// A port nobody listens on.
///
/// # Panics
/// When none is free.
pub fn free() -> u16 {
    for _ in 0..COUNT {
        // Tests run as processes side by side: each begins somewhere else.
        let offset = std::process::id().wrapping_mul(37).wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + offset).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}
