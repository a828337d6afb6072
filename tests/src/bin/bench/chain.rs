//! `bench chain`: the same requests direct to the worker and through queen, and how soon a killed worker is back.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rbee_tests::home::Home;
use rbee_tests::openai::Client;
use rbee_tests::{model, processes, wait};
use serde_json::Value;

use crate::sample::Sample;

const TOKENS: i64 = 48;
const ROUNDS_OF_ONE: usize = 15;
const STREAMS: usize = 32;
const ROUNDS_OF_MANY: usize = 5;
const CRASHES: usize = 5;
const BACK_WITHIN: Duration = Duration::from_secs(60);

/// One way to the model, and what was seen on it.
struct Way {
    name: &'static str,
    first_ms: Sample,
    tokens_per_s: Sample,
}

impl Way {
    fn new(name: &'static str) -> Self {
        Self { name, first_ms: Sample::default(), tokens_per_s: Sample::default() }
    }
}

pub fn run() -> Result<()> {
    let file = model::file().context("the bench needs the real model")?;
    let home = Home::with_config(&config(&file.display().to_string()));
    home.keeper(&["up"]).assert().try_success().map_err(|error| anyhow!("{error}"))?;
    let port = worker(&home)["port"].as_u64().context("the worker has no port")?;
    let direct = Client::new(&format!("http://127.0.0.1:{port}"), model::NAME).with_token(&home.token());
    let through = home.client();
    // Caches and pages warm for both.
    for client in [&direct, &through] {
        round("warming up", client, 1, 0)?;
    }
    println!("median (min … max); {TOKENS} tokens an answer; release build\n");
    println!("{:<28} {:>24} {:>24} {:>14}", "", "direct to the worker", "through queen", "ratio");
    for (streams, rounds) in [(1, ROUNDS_OF_ONE), (STREAMS, ROUNDS_OF_MANY)] {
        let (mut a, mut b) = (Way::new("direct"), Way::new("queen"));
        for number in 0..rounds {
            // In turn, and each goes first as often.
            if number % 2 == 0 {
                measure(&mut a, &direct, streams, number)?;
                measure(&mut b, &through, streams, number)?;
            } else {
                measure(&mut b, &through, streams, number)?;
                measure(&mut a, &direct, streams, number)?;
            }
        }
        compare(&format!("first token, {streams} streams, ms"), &a.first_ms, &b.first_ms);
        compare(&format!("tokens/s, {streams} streams"), &a.tokens_per_s, &b.tokens_per_s);
    }
    crash_to_ready(&home)?;
    home.keeper(&["down"]).assert().try_success().map_err(|error| anyhow!("{error}"))?;
    ensure!(home.processes().is_empty(), "left behind: {:?}", home.processes());
    Ok(())
}

fn config(file: &str) -> String {
    let (name, sha256) = (model::NAME, model::SHA256);
    format!(
        "[model.{name}]\nsource = \"file:{file}\"\nsha256 = \"{sha256}\"\n\n[worker.{name}]\nmodel = \"{name}\"\nslots = 8\n\
         context = 512\n\
         restart = {{ backoff_min = \"1ms\", backoff_max = \"1ms\", max_restarts = 100 }}\n"
    )
}

fn worker(home: &Home) -> Value {
    home.status()["hives"][0]["workers"][0].clone()
}

fn compare(what: &str, direct: &Sample, through: &Sample) {
    println!("{what:<28} {direct:>24} {through:>24} {:>13.2}×", through.median() / direct.median());
}

fn measure(way: &mut Way, client: &Client, streams: usize, number: usize) -> Result<()> {
    let (first_ms, tokens_per_s) = round(way.name, client, streams, number)?;
    way.first_ms.add(first_ms);
    way.tokens_per_s.add(tokens_per_s);
    Ok(())
}

/// One round of streams at once: median time to the first token in ms, and all tokens a second.
fn round(way: &str, client: &Client, streams: usize, number: usize) -> Result<(f64, f64)> {
    let begun = Instant::now();
    let answers = thread::scope(|scope| {
        let asked: Vec<_> = (0..streams)
            .map(|stream| {
                // Another prompt each time: an engine that keeps prefixes must find none.
                let prompt = format!("{way} {number}, stream {stream}: tell a story about a bee.");
                scope.spawn(move || client.stream(&prompt, TOKENS))
            })
            .collect();
        asked.into_iter().map(|asked| asked.join().map_err(|_| anyhow!("a client died"))).collect::<Result<Vec<_>>>()
    })?;
    let seconds = begun.elapsed().as_secs_f64();
    let (mut first_ms, mut tokens) = (Sample::default(), 0);
    for answer in answers {
        let answer = answer.map_err(|error| anyhow!(error))?;
        ensure!(answer.is_complete(), "an answer is not complete: {answer:?}");
        first_ms.add(answer.first.unwrap_or_default().as_secs_f64() * 1e3);
        tokens += answer.pieces;
    }
    Ok((first_ms.median(), tokens as f64 / seconds))
}

/// How long a worker killed with SIGKILL is away, beside how long a start in order takes.
fn crash_to_ready(home: &Home) -> Result<()> {
    let (mut start_ms, mut crash_ms) = (Sample::default(), Sample::default());
    for _ in 0..CRASHES {
        home.keeper(&["worker", "stop", model::NAME]).assert().try_success().map_err(|error| anyhow!("{error}"))?;
        let begun = Instant::now();
        home.keeper(&["worker", "start", model::NAME]).assert().try_success().map_err(|error| anyhow!("{error}"))?;
        start_ms.add(begun.elapsed().as_secs_f64() * 1e3);

        let before = worker(home);
        let pid = before["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).context("the worker has no pid")?;
        let begun = Instant::now();
        processes::crash(pid);
        wait::until("the worker's next incarnation", BACK_WITHIN, || {
            let now = worker(home);
            (now["phase"] == "running" && now["incarnation"] != before["incarnation"]).then_some(())
        });
        crash_ms.add(begun.elapsed().as_secs_f64() * 1e3);
    }
    println!("\n{:<28} {:>24} {:>24} {:>14}", "", "start in order", "crash to ready", "ratio");
    compare("worker away, ms", &start_ms, &crash_ms);
    println!("back-off 1 ms; both include loading the model, and a keeper's round trip to see that it is ready");
    Ok(())
}
