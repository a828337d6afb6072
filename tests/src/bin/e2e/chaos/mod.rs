//! `e2e chaos`: streams of the real client in a loop, while everything below its connection is killed, frozen, drained,
//! rolled, reloaded and replaced. Each stream completes once, with the text of the undisturbed run.
//!
//! ```text
//!   up ─▶ undisturbed answers ─▶ go ─┬─ streams, each again as soon as it has ended ───────────┬─ end ─▶ down
//!                                    ├─ every 2 s: SIGKILL to a random worker ─────────────────┤
//!                                    └─ now and then: the next of the other deeds, in turn ────┘
//! ```
//!
//! The seed gives moments and victims; what the machine does beside it, it does not.

mod client;
mod deeds;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use rbee_tests::home::Home;
use rbee_tests::model;
use rbee_tests::random::Random;

use crate::chain::Chain;
use client::{Client, Seen};
use deeds::Deeds;

const KILL_EVERY: Duration = Duration::from_secs(2);

/// How much of it.
#[derive(Debug, Clone, Parser)]
#[command(name = "cargo xtask e2e chaos")]
pub struct Options {
    /// How long, in seconds
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Streams at the same time
    #[arg(long, default_value_t = 64)]
    streams: usize,
    /// Of moments and victims; absent: another each time, which is printed
    #[arg(long)]
    seed: Option<u64>,
}

impl Options {
    fn seed(&self) -> u64 {
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
        self.seed.unwrap_or_else(|| u64::try_from(now() % 1_000_000).unwrap_or_default())
    }
}

/// The chain that is tormented: two replicas, and a supervisor that does not wait long.
pub fn config(model_file: &Path) -> String {
    let (name, sha256, file) = (model::NAME, model::SHA256, model_file.display());
    format!(
        "[model.{name}]\nsource = \"file:{file}\"\nsha256 = \"{sha256}\"\n\n[worker.{name}]\nmodel = \"{name}\"\nreplicas = 2\n\
         slots = 6\ncontext = 256\ndeterministic = true\nstop_timeout = \"4s\"\n\
         health = {{ probe = \"http:/health\", interval = \"2s\", timeout = \"2s\", failures = 2 }}\n\
         restart = {{ backoff_min = \"50ms\", backoff_max = \"500ms\", max_restarts = 100000 }}\n"
    )
}

/// Keys of `[queen]`. A request that meets five deaths in a row is taken for their cause, if the config does not say otherwise:
/// here it is not.
pub const QUEEN_KEYS: &str = "stall_timeout = \"3s\"\nattempts_max = 50\n";

/// Runs it and prints what happened. Whether anything failed.
pub fn run(home: &Home, options: &Options) -> bool {
    let seed = options.seed();
    let repeat =
        format!("cargo xtask e2e chaos --seconds {} --streams {} --seed {seed}", options.seconds, options.streams);
    println!("{repeat}");
    let begun = Instant::now();
    let result = torment(home, options, seed);
    home.end();
    let word = if result.is_ok() { "ok. 1 passed; 0 failed" } else { "FAILED. 0 passed; 1 failed" };
    if let Err(error) = &result {
        eprintln!("{error:#}\nrepeat with: {repeat}\n{}", home.logs());
    }
    println!(
        "\ntest result: {word}; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s",
        begun.elapsed().as_secs_f64()
    );
    result.is_err()
}

fn torment(home: &Home, options: &Options, seed: u64) -> Result<()> {
    let chain = Chain::new(home);
    chain.keeper(&["up"])?;
    let mut client = Client::start(&home.queen_url(), options.streams)?;
    let answers = client.reference()?;
    println!("{answers} answers undisturbed; now {} streams for {} s", options.streams, options.seconds);
    let mut random = Random::new(seed);
    let time = Duration::from_secs(options.seconds);
    let deeds = Deeds::new(home, Random::new(random.draw()), time);
    let over = AtomicBool::new(false);
    client.go()?;
    let until = Instant::now() + time;
    let (kills, done) = thread::scope(|scope| {
        let others = scope.spawn(|| deeds.until(&over));
        let mut kills = 0;
        while Instant::now() < until && !client.has_ended() {
            let next = Instant::now() + KILL_EVERY;
            kills += u32::from(deeds::kill_a_worker(home, &mut random));
            thread::park_timeout(next.min(until).saturating_duration_since(Instant::now()));
        }
        over.store(true, Ordering::SeqCst);
        (kills, others.join())
    });
    let done = done.map_err(|_| anyhow::anyhow!("what does the deeds panicked"))?;
    let seen = client.end().context("the client")?;
    print(&seen, kills, &done);
    judge(&seen, kills)?;
    chain.settled();
    chain.keeper(&["down"])?;
    ensure!(home.processes().is_empty(), "left after `down`: {:?}", home.processes());
    Ok(())
}

fn print(seen: &Seen, kills: u32, done: &[deeds::Done]) {
    println!("\n{:<34} {:>6} {:>7}", "what was done", "times", "failed");
    println!("{:<34} {kills:>6} {:>7}", "SIGKILL to a worker", 0);
    for deed in done {
        match &deed.missing {
            Some(missing) => println!("{:<34} {:>6} {:>7}  {missing}", deed.name, "–", "–"),
            None => {
                println!("{:<34} {:>6} {:>7}  {}", deed.name, deed.times, deed.failed.len(), deed.failed.join("; "))
            }
        }
    }
    let Seen { streams, resumed, resumes, resumes_max, errors, different, tokens, .. } = seen;
    println!("\n{:<34} {streams:>6}", "streams complete");
    println!("{:<34} {resumed:>6}  ({resumes} times in all, one of them {resumes_max} times)", "of them resumed");
    println!("{:<34} {different:>6}", "of them with another text");
    println!("{:<34} {errors:>6}", "errors at the client");
    println!("{:<34} {tokens:>6}", "tokens");
    println!("{:<34} {:>6.1} s, to the first token {:.1} s", "slowest stream", seen.slowest_s, seen.slowest_first_s);
}

/// The promise.
fn judge(seen: &Seen, kills: u32) -> Result<()> {
    if seen.errors > 0 || seen.different > 0 {
        bail!(
            "{} errors at the client, {} texts not as undisturbed:\n  {}",
            seen.errors,
            seen.different,
            seen.complaints.join("\n  ")
        );
    }
    ensure!(seen.streams > 0 && kills > 0, "nothing was tried: {seen:?}, {kills} kills");
    ensure!(seen.resumed > 0, "no stream was resumed: the deaths met nobody");
    Ok(())
}
