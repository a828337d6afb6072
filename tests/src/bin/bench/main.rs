//! Measures side by side in one run, and prints ratios. Numbers of a busy machine say little alone; what is compared is taken in
//! turn, so that both meet the same noise.
#![expect(clippy::print_stdout, reason = "a command-line tool")]

mod chain;
mod effort;
mod gateway;
mod monitor;
mod sample;
mod supervise;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measures, side by side in one run, printed as ratios.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench")]
struct Cli {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// What the way through queen costs; crash-to-ready of a worker
    Chain,
    /// What the way through queen costs with a worker that costs nothing, beside nginx as a plain proxy
    #[command(after_help = "Examples:\n  cargo xtask bench gateway\n  cargo xtask bench gateway --runs 1 --parts once")]
    Gateway(gateway::Options),
    /// What sampling a hundred workers costs, and how long a day's report takes
    #[command(after_help = "Examples:\n  cargo xtask bench monitor\n  cargo xtask bench monitor --n 500 --runs 3")]
    Monitor(monitor::Options),
    /// rbee-hive alone beside a bare spawn loop and other supervisors
    #[command(
        after_help = "Examples:\n  cargo xtask bench supervise\n  cargo xtask bench supervise --n 100 --peers none --runs 5"
    )]
    Supervise(supervise::Options),
    /// The bare loop itself
    #[command(hide = true)]
    Bare {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
}

fn main() -> Result<()> {
    match Cli::parse().bench {
        Bench::Chain => chain::run(),
        Bench::Gateway(options) => gateway::run(&options),
        Bench::Monitor(options) => monitor::run(&options),
        Bench::Supervise(options) => supervise::run(&options),
        Bench::Bare { words } => supervise::bare::run(&words),
    }
}
