//! What it says by the notify protocol when it is told to, and how it keeps busy.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::thread;
use std::time::Duration;

use crate::options::Options;

/// Starts what is asked for, each in a thread.
pub fn begin(options: &Options) {
    if let Some(path) = options.relay.clone() {
        thread::spawn(move || relay(&path));
    }
    if let Some(every) = options.ping_every {
        thread::spawn(move || ping(every));
    }
    if options.burn {
        thread::spawn(|| {
            loop {
                std::hint::black_box((0..1_000_000).sum::<u64>());
            }
        });
    }
}

/// Sends on every line of a FIFO; `;` stands for a line's end.
fn relay(path: &std::path::Path) {
    // Opened for both, so that no end is seen between two writers.
    let Ok(fifo) = File::options().read(true).write(true).open(path) else { return };
    for line in BufReader::new(fifo).lines().map_while(Result::ok) {
        // Whoever listened may be gone.
        let _ = crate::notify(&line.replace(';', "\n"));
    }
}

fn ping(every: Duration) {
    loop {
        let _ = crate::notify("WATCHDOG=1");
        thread::park_timeout(every);
    }
}
