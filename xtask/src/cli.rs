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
        after_help = "Examples:\n  cargo xtask e2e\n  cargo xtask e2e kill-hive     this scenario only\n  cargo xtask e2e help          the names\n  \
            cargo xtask e2e clients       the clients people use: openai for Python and Node, LangChain\n  \
            cargo xtask e2e chaos --seconds 60 --seed 7    streams while everything below them is killed"
    )]
    E2e {
        /// Run the scenarios whose name contains this; or `clients`, or `chaos` with its flags
        #[arg(value_name = "SCENARIO", trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Play simulated worlds around the supervision core
    #[command(after_help = "Examples:\n  cargo xtask sim                      100,000 worlds\n  \
            cargo xtask sim --seed 7 --count 1   this world again\n  \
            cargo xtask sim --mutants            plant known bugs one by one: does it catch them all?")]
    Sim {
        /// The first world
        #[arg(long, default_value_t = 0, conflicts_with = "mutants")]
        seed: u64,
        /// How many worlds; with --mutants, how many for each bug
        #[arg(long, default_value_t = 100_000)]
        count: u64,
        /// Plant each known bug and say which invariant catches it; exit 1 if one escapes
        #[arg(long)]
        mutants: bool,
    },
    /// Measure, side by side in one run, printed as ratios
    #[command(
        after_help = "Examples:\n  cargo xtask bench chain        what the way through queen costs; crash-to-ready\n  \
            cargo xtask bench gateway      the way through queen with a mock worker, beside nginx as a plain proxy\n  \
            cargo xtask bench worker       the worker beside llama.cpp itself; the first token with a kept prefix\n  \
            cargo xtask bench supervise    rbee-hive alone beside a bare spawn loop, s6, runit, supervisord, pm2\n  \
            cargo xtask bench monitor      what sampling a hundred workers costs\n  \
            cargo xtask bench supervise --n 100 --runs 5 --peers none"
    )]
    Bench {
        /// What to measure
        #[arg(default_value = "chain")]
        name: String,
        /// Passed on; `cargo xtask bench NAME -- --help` tells which there are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Kill the hive with SIGKILL at random moments under load; nothing may be lost, doubled or left
    #[command(
        after_help = "Examples:\n  cargo xtask chaos\n  cargo xtask chaos --kills 100 --seed 7     these moments again"
    )]
    Chaos {
        /// How often
        #[arg(long, default_value_t = 500)]
        kills: u32,
        /// Of all that is random; absent: another each time, which is printed
        #[arg(long)]
        seed: Option<u64>,
    },
    /// All that must hold before a commit: fmt, tidy, clippy, docs, tests
    #[command(after_help = "Example:\n  cargo xtask ci")]
    Ci,
    /// Check what no compiler checks: file lengths, names, cited requirements, the core's purity
    #[command(after_help = "Example:\n  cargo xtask tidy")]
    Tidy,
}
