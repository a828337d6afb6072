//! `cargo xtask`: from a clean clone to a running chain, and every check there is.

mod bench;
mod build;
mod child;
mod ci;
mod cli;
mod node;
mod paths;
mod python;
mod say;
mod suites;
mod tidy;
mod tools;
mod up;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};
use paths::Paths;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say::error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> anyhow::Result<()> {
    let paths = Paths::find()?;
    match command {
        Command::Up => up::up(&paths),
        Command::Test => suites::test(&paths),
        Command::E2e { words } => suites::e2e(&paths, words),
        Command::Sim { count, mutants: true, .. } => suites::mutants(&paths, *count),
        Command::Sim { seed, count, .. } => suites::sim(&paths, *seed, *count),
        Command::Bench { name, arguments } => bench::bench(&paths, name, arguments),
        Command::Chaos { kills, seed } => bench::chaos(&paths, *kills, *seed),
        Command::Ci => ci::ci(&paths),
        Command::Tidy => tidy::tidy(&paths),
    }
}
