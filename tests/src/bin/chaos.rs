//! `chaos [--kills N] [--seed N]`: kills the hive again and again, and says whether its work noticed.
#![expect(clippy::print_stdout, reason = "a command-line tool")]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use clap::Parser;
use rbee_tests::chaos::Chaos;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask chaos")]
struct Cli {
    /// How often the hive is killed
    #[arg(long, default_value_t = 500)]
    kills: u32,
    /// Repeats the moments of a run before; absent: another each time
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let seed = cli.seed.unwrap_or_else(|| u64::try_from(now()).unwrap_or_default());
    let repeat = format!("cargo xtask chaos --kills {} --seed {seed}", cli.kills);
    println!("{repeat}");
    let begun = Instant::now();
    let survived = Chaos { kills: cli.kills, seed }.run().with_context(|| format!("repeat with: {repeat}"))?;
    println!(
        "{} kills of a ready hive and {} of a starting one in {:.0} s: nothing lost, doubled or torn ({} runs, {} lines)",
        survived.kills_ready,
        survived.kills_starting,
        begun.elapsed().as_secs_f64(),
        survived.runs,
        survived.lines,
    );
    Ok(())
}
