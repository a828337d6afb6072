//! What our worker costs beside llama.cpp itself, and what a kept prefix saves. Both in one run, one after the other in
//! each round, so that whatever else the machine does falls on both.
//!
//! The bare loop has a context of the same form as the worker's and one thread as the worker has; no server, no text, no
//! clients. The worker is the binary, asked over HTTP by as many streaming clients, who do no
//! more than read.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a command-line tool: results on stdout, failure by panic"
)]

mod bare;
mod served;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

/// Asked for: the worker's tokens a second as a share of the bare loop's.
const SHARE_MIN: f64 = 0.97;
/// Asked for: how many times quicker the first token is with a kept prefix of 512 tokens.
const WARM_MIN: f64 = 10.0;

/// Measures the worker beside llama.cpp itself.
#[derive(Debug, Parser)]
struct Args {
    /// The GGUF file.
    #[arg(long, env = "RBEE_TEST_MODEL")]
    model: PathBuf,
    /// Rounds; medians are told.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Tokens of each answer.
    #[arg(long, default_value_t = 160)]
    tokens: usize,
    /// Tokens of the prefix that is kept.
    #[arg(long, default_value_t = 512)]
    prefix: usize,
    /// Given by `cargo bench`; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut met = true;
    println!("{:<22} {:>16} {:>16} {:>8}", "decode, tokens/s", "llama.cpp", "worker", "share");
    for streams in [1, 8] {
        let (bare, worker, share) = decode(&args, streams);
        met &= share >= SHARE_MIN;
        let name = format!("{streams} stream{}", if streams == 1 { "" } else { "s" });
        println!(
            "{name:<22} {:>16} {:>16} {share:>8.3}  asked: {SHARE_MIN} {}",
            show(&bare),
            show(&worker),
            said(share >= SHARE_MIN)
        );
    }
    let (cold, warm) = runtime.block_on(served::first_token_ms(&args.model, args.prefix, args.rounds));
    let times = median(&cold) / median(&warm);
    met &= times >= WARM_MIN;
    println!("\n{:<22} {:>16} {:>16} {:>8}", "first token, ms", "computed", "kept", "times");
    let name = format!("{} tokens", args.prefix);
    println!(
        "{name:<22} {:>16} {:>16} {times:>8.1}  asked: {WARM_MIN} {}",
        show(&cold),
        show(&warm),
        said(times >= WARM_MIN)
    );
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tokens a second of both, and the median of their ratio within each round.
fn decode(args: &Args, streams: usize) -> (Vec<f64>, Vec<f64>, f64) {
    let bare = bare::Bare::load(&args.model, streams);
    let mut bare = bare.loop_of();
    let worker = served::Worker::start(&args.model, &["--slots", &streams.to_string()]);
    let (mut of_bare, mut of_worker, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    // The first round warms both up.
    for round in 0..=args.rounds {
        let first = bare.tokens_a_second(args.tokens);
        let second = worker.tokens_a_second(streams, args.tokens);
        if round > 0 {
            of_bare.push(first);
            of_worker.push(second);
            ratios.push(second / first);
        }
    }
    let share = median(&ratios);
    (of_bare, of_worker, share)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

fn show(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    let most = values.iter().copied().fold(0.0, f64::max);
    format!("{:.1} ({least:.0}…{most:.0})", median(values))
}

fn said(met: bool) -> &'static str {
    if met { "met" } else { "NOT MET" }
}
