//! The scenarios, in the order they run: each finds a running chain and leaves one, but for the last.

use std::net::TcpStream;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use rbee_tests::openai::Client;
use rbee_tests::{model, processes};
use serde_json::Value;

use crate::chain::Chain;

/// One line of the table.
pub struct Scenario {
    pub name: &'static str,
    /// What must hold.
    pub claim: &'static str,
    /// Checks it; returns what was seen.
    pub run: fn(&mut Chain<'_>) -> Result<String>,
}

pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "up", claim: "`up` returns when queen, hive and worker run", run: up },
    Scenario { name: "infer", claim: "`infer` answers, and greedily the same twice", run: infer },
    Scenario { name: "openai-chat", claim: "the openai client gets an answer", run: openai_chat },
    Scenario { name: "openai-stream", claim: "the openai client gets the same answer, streamed", run: openai_stream },
    Scenario { name: "kill-worker", claim: "kill -9 of the worker: a new incarnation answers", run: kill_worker },
    Scenario {
        name: "kill-hive",
        claim: "kill -9 of the hive: the same worker answers throughout, the hive comes back and adopts it",
        run: kill_hive,
    },
    Scenario {
        name: "kill-queen",
        claim: "kill -9 of queen: `queen start` adopts hive and worker, pids unchanged",
        run: kill_queen,
    },
    Scenario { name: "two-queens", claim: "two `queen start` at once: one queen, both say her pid", run: two_queens },
    Scenario { name: "fifty-streams", claim: "50 streams at once all complete", run: fifty_streams },
    Scenario { name: "down", claim: "`down` leaves no process, no port, no run file", run: down },
];

const STREAMS: usize = 50;

fn up(chain: &mut Chain<'_>) -> Result<String> {
    chain.keeper(&["up"])?;
    let pids = chain.pids()?;
    chain.keeper(&["up"])?;
    ensure!(chain.pids()? == pids, "a second `up` changed {pids:?} to {:?}", chain.pids()?);
    Ok(format!("queen {}, hive {}, worker {}; a second `up` changes nothing", pids.queen, pids.hive, pids.worker))
}

fn infer(chain: &mut Chain<'_>) -> Result<String> {
    let words =
        ["infer", "--model", model::NAME, "--max-tokens", "16", "--temperature", "0", "What is the capital of France?"];
    let first = chain.keeper(&words)?;
    let second = chain.keeper(&words)?;
    ensure!(!first.trim().is_empty(), "an empty answer");
    ensure!(first == second, "two greedy answers differ: {first:?}, {second:?}");
    Ok(format!("{:?}", first.trim()))
}

/// Asks with the real client; KEEP-08's counterpart over HTTP.
fn openai(chain: &Chain<'_>, mode: &str) -> Result<Value> {
    let python =
        std::env::var_os("RBEE_TEST_PYTHON").context("RBEE_TEST_PYTHON is not set; `cargo xtask e2e` sets it")?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/python/openai_client.py");
    let base_url = format!("{}/v1", chain.home.queen_url());
    let mut client = Command::new(python);
    client.args([script, &base_url, model::NAME, mode, "What is the capital of France?"]);
    #[expect(clippy::disallowed_methods, reason = "the client is a program that runs and ends")]
    let output = client.output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the client failed: {}", stderr.trim_end().lines().last().unwrap_or_default());
    let answer: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(answer["text"].as_str().is_some_and(|text| !text.is_empty()), "no text: {answer}");
    ensure!(
        answer["models"].as_array().is_some_and(|models| models.contains(&model::NAME.into())),
        "no models: {answer}"
    );
    ensure!(matches!(answer["finish_reason"].as_str(), Some("stop" | "length")), "no finish reason: {answer}");
    ensure!(answer["completion_tokens"].as_u64() > Some(0), "no usage: {answer}");
    Ok(answer)
}

fn openai_chat(chain: &mut Chain<'_>) -> Result<String> {
    let answer = openai(chain, "plain")?;
    Ok(format!("{}, {} tokens", answer["text"], answer["completion_tokens"]))
}

fn openai_stream(chain: &mut Chain<'_>) -> Result<String> {
    let (streamed, plain) = (openai(chain, "stream")?, openai(chain, "plain")?);
    ensure!(streamed["text"] == plain["text"], "streamed {} but plain {}", streamed["text"], plain["text"]);
    ensure!(streamed["pieces"].as_u64() > Some(1), "it came in one piece: {streamed}");
    Ok(format!("{} pieces, the same text", streamed["pieces"]))
}

fn kill_worker(chain: &mut Chain<'_>) -> Result<String> {
    let before = chain.pids()?;
    let begun = Instant::now();
    processes::crash(before.worker);
    let after = chain.wait_for("a new incarnation of the worker", |pids| pids.incarnation > before.incarnation);
    let answer = chain.ask()?;
    ensure!(after.worker != before.worker, "the same pid {} after a kill", after.worker);
    ensure!((after.queen, after.hive) == (before.queen, before.hive), "others changed: {before:?} to {after:?}");
    Ok(format!(
        "pid {} → {}, incarnation {} → {}, answers {answer:?} after {:.1} s",
        before.worker,
        after.worker,
        before.incarnation,
        after.incarnation,
        begun.elapsed().as_secs_f64()
    ))
}

/// Asks again and again until told to stop; returns how many answers came, or the first that did not.
fn ask_until(client: &Client, stop: &AtomicBool) -> Result<usize, String> {
    let mut answers = 0;
    while !stop.load(Ordering::SeqCst) {
        client.chat("Count to five.", 8)?;
        answers += 1;
    }
    Ok(answers)
}

fn kill_hive(chain: &mut Chain<'_>) -> Result<String> {
    let before = chain.pids()?;
    let (client, stop) = (chain.home.client(), AtomicBool::new(false));
    let (after, answers) = thread::scope(|scope| {
        let asking = scope.spawn(|| ask_until(&client, &stop));
        let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            processes::crash(before.hive);
            chain.wait_for("a new hive", |pids| pids.hive != before.hive)
        }));
        stop.store(true, Ordering::SeqCst);
        (seen, asking.join())
    });
    let after = after.map_err(|_| anyhow!("no new hive: {}", chain.home.status()))?;
    let answers =
        answers.map_err(|_| anyhow!("the client died"))?.map_err(|error| anyhow!("an answer failed: {error}"))?;
    ensure!(answers > 0, "nothing was asked meanwhile");
    ensure!(
        (after.worker, after.incarnation) == (before.worker, before.incarnation),
        "the worker was not adopted: {before:?} to {after:?}"
    );
    ensure!(after.queen == before.queen, "queen changed: {before:?} to {after:?}");
    chain.ask()?;
    Ok(format!(
        "hive {} → {}, worker {} throughout, {answers} answers meanwhile",
        before.hive, after.hive, after.worker
    ))
}

fn kill_queen(chain: &mut Chain<'_>) -> Result<String> {
    let before = chain.pids()?;
    processes::crash(before.queen);
    chain.direct(&before).chat("Count to five.", 8).map_err(|error| anyhow!("without queen the worker: {error}"))?;
    chain.keeper(&["queen", "start"])?;
    let after = chain.wait_for("the new queen's tree", |pids| pids.queen != before.queen);
    ensure!(
        (after.hive, after.worker, after.incarnation) == (before.hive, before.worker, before.incarnation),
        "not adopted: {before:?} to {after:?}"
    );
    let answer = chain.ask()?;
    Ok(format!(
        "queen {} → {}, hive {} and worker {} as before, answers {answer:?}",
        before.queen, after.queen, after.hive, after.worker
    ))
}

fn two_queens(chain: &mut Chain<'_>) -> Result<String> {
    let before = chain.pids()?;
    processes::crash(before.queen);
    let answers = thread::scope(|scope| {
        let starts: Vec<_> = (0..2).map(|_| scope.spawn(|| chain.home.json(&["queen", "start"]))).collect();
        starts
            .into_iter()
            .map(|start| start.join().map_err(|_| anyhow!("a start panicked")))
            .collect::<Result<Vec<_>>>()
    })?;
    let after = chain.wait_for("the new queen's tree", |pids| pids.queen != before.queen);
    for (answer, code) in &answers {
        ensure!(*code == 0, "a start failed with {code}: {answer}");
        ensure!(answer["pid"] == after.queen, "a start says {answer}, but she is {}", after.queen);
    }
    let queens: Vec<_> =
        chain.home.processes().into_iter().filter(|process| process.command.contains("queen-rbee")).collect();
    ensure!(queens.len() == 1, "not one queen: {queens:?}");
    ensure!((after.hive, after.worker) == (before.hive, before.worker), "not adopted: {before:?} to {after:?}");
    chain.ask()?;
    Ok(format!("both say {}, and there is no other", after.queen))
}

fn fifty_streams(chain: &mut Chain<'_>) -> Result<String> {
    let client = chain.home.client();
    let begun = Instant::now();
    let streams = thread::scope(|scope| {
        let streams: Vec<_> = (0..STREAMS)
            .map(|number| {
                scope.spawn({
                    let client = &client;
                    move || client.stream(&format!("Say the number {number}."), 16)
                })
            })
            .collect();
        streams
            .into_iter()
            .map(|stream| stream.join().map_err(|_| anyhow!("a client died")))
            .collect::<Result<Vec<_>>>()
    })?;
    let mut pieces = 0;
    for (number, stream) in streams.iter().enumerate() {
        match stream {
            Ok(stream) if stream.is_complete() => pieces += stream.pieces,
            other => bail!("stream {number} is not complete: {other:?}"),
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    Ok(format!("{STREAMS} of {STREAMS} complete, {pieces} tokens, {:.0} a second in all", pieces as f64 / seconds))
}

fn down(chain: &mut Chain<'_>) -> Result<String> {
    let pids = chain.pids()?;
    let known = chain.home.processes();
    chain.keeper(&["down"])?;
    let left: Vec<_> = known.iter().filter(|process| processes::is_alive(process.pid)).collect();
    ensure!(left.is_empty(), "still alive: {left:?}");
    ensure!(chain.home.processes().is_empty(), "started meanwhile: {:?}", chain.home.processes());
    let files = chain.home.run_files();
    ensure!(files.is_empty(), "left in the run folder: {files:?}");
    for port in [chain.home.queen_port, chain.home.hive_port, pids.worker_port] {
        ensure!(TcpStream::connect(("127.0.0.1", port)).is_err(), "somebody still listens on port {port}");
    }
    let (_, code) = chain.home.json(&["status"]);
    ensure!(code == 3, "`status` says {code} instead of 3 (not running)");
    chain.keeper(&["down"])?;
    Ok(format!("{} processes ended, run folder empty, ports closed; a second `down` is content", known.len()))
}
