//! Measures side by side in one run, and prints ratios: `bench chain`. Numbers of a busy machine say little alone;
//! what is compared is taken in turn, so that both meet the same noise.
#![expect(clippy::print_stdout, reason = "a command-line tool")]

mod chain;
mod sample;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("chain") => chain::run(),
        Some("--help" | "-h" | "help") => {
            println!(
                "usage: cargo xtask bench [NAME]\n\nbenches:\n  chain   what the way through queen costs; crash-to-ready of a worker"
            );
            Ok(())
        }
        other => bail!("no bench is called '{}'; known: chain", other.unwrap_or_default()),
    }
}
