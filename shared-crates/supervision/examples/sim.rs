//! Plays simulated worlds: `cargo xtask sim --seed N --count N`.

use std::process::ExitCode;

use supervision::sim::{Broken, Stats, run};

/// Worlds do not know of each other: two at a time is what the smallest machine can do.
const THREADS: u64 = 2;

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |flag: &str| {
        let at = arguments.iter().position(|argument| argument == flag)?;
        arguments.get(at + 1)?.parse::<u64>().ok()
    };
    let (seed, count) = (value("--seed").unwrap_or(0), value("--count").unwrap_or(10_000));
    match play(seed, count) {
        Ok(total) => {
            println!("{count} worlds from seed {seed}: every invariant held");
            let parts: Vec<String> = total.named().iter().map(|(name, value)| format!("{value} {name}")).collect();
            println!("{}", parts.join(", "));
            ExitCode::SUCCESS
        }
        Err(broken) => {
            eprintln!("{broken}");
            ExitCode::FAILURE
        }
    }
}

/// Plays `count` worlds; `Err` is the first of them that broke an invariant.
fn play(first: u64, count: u64) -> Result<Stats, Box<Broken>> {
    let worlds = first..first.saturating_add(count);
    let play_share = &|share: u64| {
        let mut total = Stats::default();
        for seed in worlds.clone().filter(|seed| seed % THREADS == share) {
            total.add(run(seed)?);
        }
        Ok::<_, Box<Broken>>(total)
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|share| scope.spawn(move || play_share(share))).collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect()
    });
    let mut total = Stats::default();
    let mut broken: Option<Box<Broken>> = None;
    for result in results {
        match result {
            Ok(Ok(stats)) => total.add(stats),
            Ok(Err(other)) => broken = broken.filter(|known| known.seed < other.seed).or(Some(other)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    broken.map_or(Ok(total), Err)
}
