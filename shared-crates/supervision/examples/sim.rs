//! Plays simulated worlds: `cargo xtask sim --seed N --count N`.

use std::process::ExitCode;

use supervision::sim::{Stats, run};

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1)?.parse::<u64>().ok()
    };
    let (seed, count) = (value("--seed").unwrap_or(0), value("--count").unwrap_or(10_000));
    let mut total = Stats::default();
    for seed in seed..seed.saturating_add(count) {
        match run(seed) {
            Ok(stats) => total.add(stats),
            Err(broken) => {
                eprintln!("{broken}");
                return ExitCode::FAILURE;
            }
        }
    }
    println!("{count} worlds from seed {seed}: every invariant held");
    println!(
        "{} events, {} spawns, {} ends, {} kills, {} supervisor deaths, {} adoptions, {} failed units",
        total.events,
        total.spawns,
        total.crashes,
        total.kills,
        total.supervisor_deaths,
        total.adoptions,
        total.failures
    );
    ExitCode::SUCCESS
}
