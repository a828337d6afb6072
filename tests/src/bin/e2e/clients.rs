//! `e2e clients`: the programs people talk to such a server with, unchanged: openai for Python and Node, LangChain.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rbee_tests::home::Home;
use rbee_tests::model;
use serde::Deserialize;

use crate::chain::Chain;

/// One program that runs checks and tells each in a line of JSON.
struct Program {
    name: &'static str,
    /// The variable that says what runs it; `cargo xtask` sets it where it can.
    runner: &'static str,
    script: &'static str,
    /// Where it may be missing.
    optional: bool,
}

const PROGRAMS: [Program; 3] = [
    Program { name: "openai-python", runner: "RBEE_TEST_PYTHON", script: "python/openai_surface.py", optional: false },
    Program {
        name: "langchain-openai",
        runner: "RBEE_TEST_PYTHON",
        script: "python/langchain_surface.py",
        optional: false,
    },
    Program { name: "openai-node", runner: "RBEE_TEST_NODE", script: "node/openai_surface.mjs", optional: true },
];

/// What a program says of one of its checks.
#[derive(Debug, Deserialize)]
struct Check {
    name: String,
    /// Absent: it holds.
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    seen: String,
    seconds: f64,
}

/// The chain they talk to.
pub fn config(model_file: &Path) -> String {
    let (name, sha256, file) = (model::NAME, model::SHA256, model_file.display());
    format!(
        "[model.{name}]\nsource = \"file:{file}\"\nsha256 = \"{sha256}\"\n\n[worker.{name}]\nmodel = \"{name}\"\n\
         slots = 4\ncontext = 2048\ndeterministic = true\n"
    )
}

/// Runs all of them and prints each check. Whether anything failed.
pub fn run(home: &Home) -> bool {
    let begun = Instant::now();
    let (mut passed, mut failed) = (0, 0);
    if let Err(error) = Chain::new(home).keeper(&["up"]) {
        eprintln!("{error:#}");
        failed += 1;
    } else {
        println!("{:<18} {:<28} {:<6} {:>7}  seen", "client", "check", "result", "time");
        for program in &PROGRAMS {
            match checks(program, home) {
                Ok(None) => println!("{:<18} SKIPPED: node or npm is not installed, or too old", program.name),
                Ok(Some(checks)) => {
                    for check in checks {
                        print(program.name, &check);
                        if check.error.is_some() { failed += 1 } else { passed += 1 }
                    }
                }
                Err(error) => {
                    println!("{:<18} FAILED: {error:#}", program.name);
                    failed += 1;
                }
            }
        }
    }
    if failed > 0 {
        eprintln!("{}", home.logs());
    }
    home.end();
    println!(
        "\ntest result: {}. {passed} passed; {failed} failed; 0 ignored; 0 measured; 0 filtered out; finished in {:.2}s",
        if failed == 0 { "ok" } else { "FAILED" },
        begun.elapsed().as_secs_f64()
    );
    failed > 0
}

fn print(client: &str, check: &Check) {
    let (word, seen) = match &check.error {
        None => ("ok", &check.seen),
        Some(error) => ("FAILED", error),
    };
    println!("{client:<18} {:<28} {word:<6} {:>5.1} s  {seen}", check.name, check.seconds);
}

/// None: it cannot be run here, and need not.
fn checks(program: &Program, home: &Home) -> Result<Option<Vec<Check>>> {
    let runner: OsString = match std::env::var_os(program.runner) {
        None if program.optional => return Ok(None),
        runner => runner.with_context(|| format!("{} is not set; `cargo xtask` sets it", program.runner))?,
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(program.script);
    let mut command = Command::new(runner);
    command.arg(script).args([format!("{}/v1", home.queen_url()), model::NAME.to_owned()]);
    #[expect(clippy::disallowed_methods, reason = "the client is a program that runs and ends")]
    let output = command.output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "it broke ({}): {}", output.status, stderr.trim_end());
    let stdout = String::from_utf8_lossy(&output.stdout);
    let checks: Vec<Check> = stdout
        .lines()
        .map(|line| serde_json::from_str(line).with_context(|| format!("it said {line}")))
        .collect::<Result<_>>()?;
    ensure!(!checks.is_empty(), "it checked nothing");
    Ok(Some(checks))
}
