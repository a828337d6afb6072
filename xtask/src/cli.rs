//! The commands, each with an example.

use clap::{Parser, Subcommand};

/// What is done with this checkout.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "Everything that is done with this checkout",
    after_help = "Start here:\n  cargo xtask up      a running chain and its first streamed answer\n  cargo xtask test    every test there is"
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Bring what is missing, build, start the chain, print the first streamed answer
    #[command(after_help = "Run again at any time: it takes seconds and changes nothing that is right.\n\n\
            Examples:\n  cargo xtask up\n  RBEE_HOME=$PWD/target/home cargo xtask up     everything under one folder")]
    Up,
    /// Build all binaries and run every test, the end-to-end ones on the real model too
    #[command(after_help = "Example:\n  cargo xtask test")]
    Test,
    /// Run the end-to-end scenarios on the real model, as a table
    #[command(
        after_help = "Examples:\n  cargo xtask e2e\n  cargo xtask e2e kill-hive     this scenario only\n  cargo xtask e2e help          the names"
    )]
    E2e {
        /// Run the scenarios whose name contains this
        scenario: Option<String>,
    },
    /// Play simulated worlds around the supervision core
    #[command(after_help = "Example:\n  cargo xtask sim --seed 0 --count 100000")]
    Sim {
        /// The first world
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// How many worlds
        #[arg(long, default_value_t = 10_000)]
        count: u64,
    },
    /// Measure, side by side in one run, printed as ratios
    #[command(after_help = "Example:\n  cargo xtask bench chain     what the way through queen costs; crash-to-ready")]
    Bench {
        /// What to measure
        #[arg(default_value = "chain")]
        name: String,
    },
    /// All that must hold before a commit: fmt, tidy, clippy, docs, tests
    #[command(after_help = "Example:\n  cargo xtask ci")]
    Ci,
    /// Check what no compiler checks: file lengths, names, cited requirements, the core's purity
    #[command(after_help = "Example:\n  cargo xtask tidy")]
    Tidy,
}
