//! The tests, the end-to-end scenarios, the simulator and the benches: what each needs, and running it.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::build::{build, cargo};
use crate::paths::Paths;
use crate::python::Environment;
use crate::tools::Tools;
use crate::{child, node, say};

/// The clients the end-to-end tests use: versions that fit each other.
const CLIENTS: [&str; 3] = ["openai==3.54.0", "langchain-openai==1.7.3", "langchain-core==1.7.2"];
/// A short chaos: every kind of deed has its turn.
const CHAOS: [&str; 7] = ["chaos", "--seconds", "16", "--streams", "24", "--seed", "4"];

/// What a suite needs built.
#[derive(Clone, Copy)]
enum Built {
    BinariesAndTests,
    Binaries,
    Release,
}

/// What the black-box tests find in their environment.
struct Surroundings {
    variables: Vec<(&'static str, String)>,
}

impl Surroundings {
    /// Builds all binaries once; fetches the model and the client.
    fn bring(paths: &Paths, tools: &Tools, what: Built) -> Result<Self> {
        let arguments: &[&str] = match what {
            // Tests ask for other features of some crates: built together, everything is built once.
            Built::BinariesAndTests => &["--workspace", "--bins", "--tests"],
            Built::Binaries => &["--workspace", "--bins"],
            Built::Release => &["--workspace", "--bins", "--release"],
        };
        build("build (the first takes minutes)", paths, tools, arguments)?;
        let release = matches!(what, Built::Release);
        let binaries = paths.binaries(release);
        let model = fetch_model(paths, release)?;
        let environment = Environment::at(&paths.python())?;
        environment.install("Python clients (pip install)", &CLIENTS, &paths.log("python"))?;
        let mut variables = vec![
            ("RBEE_BIN_DIR", binaries.display().to_string()),
            ("RBEE_TEST_MODEL", model),
            ("RBEE_TEST_PYTHON", environment.python().display().to_string()),
        ];
        if let Some(node) = node::bring(paths) {
            variables.push(("RBEE_TEST_NODE", node.program.display().to_string()));
            variables.push(("RBEE_TEST_NODE_MODULES", node.modules.display().to_string()));
        }
        Ok(Self { variables })
    }

    fn apply(&self, command: &mut Command) {
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        // A test run writes nothing into the checkout.
        command.env("INSTA_UPDATE", "no");
        // The developer's own chain must not be met by a test.
        for name in ["RBEE_HOME", "RBEE_CONFIG", "RBEE_QUEEN", "RBEE_HIVE", "RBEE_TOKEN"] {
            command.env_remove(name);
        }
    }
}

fn fetch_model(paths: &Paths, release: bool) -> Result<String> {
    let mut fetch = Command::new(paths.binaries(release).join("fetch-test-model"));
    fetch.arg(paths.models());
    // Progress is on its stderr, which a first run shows as it is.
    child::step("test model (98 MB, once)", &mut fetch, &paths.log("model"))?;
    child::output(Command::new(paths.binaries(release).join("fetch-test-model")).arg(paths.models()))
}

pub(crate) fn test(paths: &Paths) -> Result<()> {
    let tools = Tools::bring(paths)?;
    let surroundings = Surroundings::bring(paths, &tools, Built::BinariesAndTests)?;
    let mut failed = Vec::new();
    let mut run = |title: &'static str, mut command: Command| {
        surroundings.apply(&mut command);
        say::note(format!("\n{title}"));
        if child::shown(&mut command).is_err() {
            failed.push(title);
        }
    };
    if has_nextest() {
        let mut tests = cargo(paths, &tools);
        tests.args(["nextest", "run", "--workspace", "--no-fail-fast"]);
        run("tests", tests);
        let mut doctests = cargo(paths, &tools);
        doctests.args(["test", "--workspace", "--doc", "--no-fail-fast"]);
        run("documentation's examples", doctests);
    } else {
        let mut tests = cargo(paths, &tools);
        tests.args(["test", "--workspace", "--no-fail-fast"]);
        run("tests", tests);
    }
    let e2e = |words: &[&str]| {
        let mut e2e = Command::new(paths.binaries(false).join("e2e"));
        e2e.args(words);
        e2e
    };
    run("end to end, on the real model", e2e(&[]));
    run("end to end, with the clients people use", e2e(&["clients"]));
    run("end to end, in chaos", e2e(&CHAOS));
    if failed.is_empty() { Ok(()) } else { bail!("failed: {}", failed.join("; ")) }
}

fn has_nextest() -> bool {
    child::succeeds(Command::new("cargo").args(["nextest", "--version"]))
}

pub(crate) fn e2e(paths: &Paths, words: &[String]) -> Result<()> {
    let tools = Tools::bring(paths)?;
    let surroundings = Surroundings::bring(paths, &tools, Built::Binaries)?;
    let mut e2e = Command::new(paths.binaries(false).join("e2e"));
    e2e.args(words);
    surroundings.apply(&mut e2e);
    child::shown(&mut e2e)
}

pub(crate) fn bench(paths: &Paths, name: &str, arguments: &[String]) -> Result<()> {
    let tools = Tools::bring(paths)?;
    let surroundings = Surroundings::bring(paths, &tools, Built::Release)?;
    let mut bench = Command::new(paths.binaries(true).join("bench"));
    bench.arg(name).args(arguments);
    surroundings.apply(&mut bench);
    child::shown(&mut bench)
}

/// The worker beside llama.cpp itself; only this bench links llama.cpp, so it is the worker's own.
pub(crate) fn bench_worker(paths: &Paths, arguments: &[String]) -> Result<()> {
    let tools = Tools::bring(paths)?;
    let needed = ["--release", "--bins", "--package", "llm-worker-rbee", "--package", "rbee-tests"];
    build("build (the first takes minutes)", paths, &tools, &needed)?;
    let model = fetch_model(paths, true)?;
    let mut bench = cargo(paths, &tools);
    bench.args(["bench", "--quiet", "--package", "llm-worker-rbee", "--bench", "worker", "--"]).args(arguments);
    child::shown(bench.env("RBEE_TEST_MODEL", model))
}

pub(crate) fn sim(paths: &Paths, seed: u64, count: u64) -> Result<()> {
    let arguments = ["--seed", &seed.to_string(), "--count", &count.to_string()];
    simulate(paths, "sim", &arguments).context("a world broke an invariant, or the simulator could not be built")
}

/// `count`: worlds a bug.
pub(crate) fn mutants(paths: &Paths, count: u64) -> Result<()> {
    let result = simulate(paths, "mutants", &[&count.to_string()]);
    result.context("a planted bug was not caught, or the simulator could not be built")
}

/// Runs the example of that name, which the feature of the same name belongs to.
fn simulate(paths: &Paths, name: &str, arguments: &[&str]) -> Result<()> {
    let mut sim = cargo(paths, &Tools::default());
    sim.args(["run", "--quiet", "--release", "--package", "supervision", "--features", name, "--example", name, "--"]);
    child::shown(sim.args(arguments))
}
