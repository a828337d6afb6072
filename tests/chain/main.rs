//! Black-box tests of keeper, queen, hive and workers together, as a user meets them. One binary: it links once.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod advice;
mod alone;
mod bad_clients;
mod container;
mod events;
mod example;
mod foreign;
mod gateway;
mod hive_upgrade;
mod hooks;
mod identity;
mod jmake;
mod lotus;
mod mixed;
mod monitor;
mod reasons;
mod recovery;
mod refusals;
mod report;
mod ringrift;
mod roles;
mod status;
mod survival;
mod troubled;
mod upgrade;
mod upkeep;
mod watching;

use rbee_tests::home::Home;
use serde_json::Value;

/// A worker that does nothing, and is ready as soon as it runs.
const SLEEPER: &str = "[worker.sleeper]\ncommand = [\"sleep\", \"1000\"]\nready = \"started\"\n";

/// `up`, which must succeed.
fn up(home: &Home) -> Value {
    home.keeper(&["up"]).assert().success();
    home.status()
}

/// `down`, after which nothing may be left.
fn down(home: &Home) {
    let known = home.processes();
    home.keeper(&["down"]).assert().success();
    assert_eq!(home.processes(), [], "of {known:?}");
    assert_eq!(home.run_files(), Vec::<String>::new());
}

/// The only worker of the only hive.
fn worker(status: &Value) -> &Value {
    &status["hives"][0]["workers"][0]
}

fn pid(tier: &Value) -> u32 {
    tier["pid"].as_u64().and_then(|pid| pid.try_into().ok()).unwrap_or_else(|| panic!("no pid in {tier}"))
}

fn error_text(document: &Value) -> String {
    document["error"].to_string()
}
