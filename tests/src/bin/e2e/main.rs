//! End to end on the real model: `e2e [PART_OF_A_NAME | clients | chaos]`. One chain in a home of its own; a table, each
//! line asserted.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool")]

mod chain;
mod chaos;
mod clients;
mod scenarios;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use clap::Parser as _;
use rbee_tests::{home::Home, model};
use tokio::signal::unix::{SignalKind, signal};

use chain::Chain;
use scenarios::SCENARIOS;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    let mut words = std::env::args().skip(1);
    let wanted = words.next().unwrap_or_default();
    if matches!(wanted.as_str(), "help" | "--help" | "-h") {
        println!("usage: cargo xtask e2e [PART_OF_A_NAME | clients | chaos [--seconds N] [--seed N]]\n\nscenarios:");
        SCENARIOS.iter().for_each(|scenario| println!("  {:<16} {}", scenario.name, scenario.claim));
        println!("  {:<16} the clients people use: Python, Node, LangChain", "clients");
        println!("  {:<16} 64 streams while everything below them is killed; all complete, none differs", "chaos");
        return Ok(ExitCode::SUCCESS);
    }
    let model = model::file().context("the end-to-end scenarios need the real model")?;
    let home = Arc::new(Home::empty());
    let run: Box<dyn FnOnce(&Home) -> bool + Send> = match wanted.as_str() {
        "chaos" => {
            let options = chaos::Options::parse_from(std::iter::once("chaos".to_owned()).chain(words));
            home.write_config_with(chaos::QUEEN_KEYS, &chaos::config(&model));
            Box::new(move |home| chaos::run(home, &options))
        }
        "clients" => {
            home.write_config(&clients::config(&model));
            Box::new(clients::run)
        }
        _ => {
            let known = SCENARIOS.iter().any(|scenario| scenario.name.contains(&wanted));
            ensure!(known, "no scenario is called '{wanted}'; `e2e help` lists them");
            home.write_config(&chain::config(&model));
            Box::new(move |home| scenarios(home, &wanted))
        }
    };

    // What is started here outlives us by design: a signal must not leave it behind.
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let run = tokio::task::spawn_blocking({
        let home = Arc::clone(&home);
        move || run(&home)
    });
    let failed = tokio::select! {
        failed = run => failed?,
        _ = interrupt.recv() => { home.end(); std::process::exit(130) }
        _ = terminate.recv() => { home.end(); std::process::exit(143) }
    };
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Runs what is wanted, and prints it. Whether anything failed.
fn scenarios(home: &Home, wanted: &str) -> bool {
    let started = Instant::now();
    let mut chain = Chain::new(home);
    let (mut passed, mut failed, mut left_out) = (0, 0, 0);
    println!("{:<16} {:<6} {:>7}  seen", "scenario", "result", "time");
    for scenario in SCENARIOS {
        // Without a chain nothing else can be seen.
        let needed = scenario.name == "up" || scenario.name.contains(wanted);
        if !needed {
            left_out += 1;
            continue;
        }
        let begun = Instant::now();
        let result =
            catch_unwind(AssertUnwindSafe(|| (scenario.run)(&mut chain))).unwrap_or_else(|panic| Err(said(&*panic)));
        let (word, seen) = match &result {
            Ok(seen) => ("ok", seen.clone()),
            Err(error) => ("FAILED", format!("{error:#}")),
        };
        println!("{:<16} {word:<6} {:>5.1} s  {seen}", scenario.name, begun.elapsed().as_secs_f64());
        if result.is_ok() {
            passed += 1;
        } else {
            failed += 1;
            eprintln!("  claim: {}\n{}", scenario.claim, home.logs());
            if scenario.name == "up" {
                break;
            }
        }
    }
    let left = home.processes().len();
    home.end();
    let remaining = home.processes();
    println!(
        "{:<16} {:<6} {:>7}  {left} processes ended at the end, {} left",
        "cleanup",
        word(remaining.is_empty()),
        "",
        remaining.len()
    );
    failed += usize::from(!remaining.is_empty());
    // The form of cargo's own summary, for whoever reads the last line.
    println!(
        "\ntest result: {}. {passed} passed; {failed} failed; 0 ignored; 0 measured; {left_out} filtered out; finished in {:.2}s",
        if failed == 0 { "ok" } else { "FAILED" },
        started.elapsed().as_secs_f64()
    );
    failed > 0
}

fn word(good: bool) -> &'static str {
    if good { "ok" } else { "FAILED" }
}

fn said(panic: &(dyn std::any::Any + Send)) -> anyhow::Error {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    anyhow!("{}", text.unwrap_or("panicked"))
}

/// The longest anything of a chain may take to come back.
const BACK_WITHIN: Duration = Duration::from_secs(60);
