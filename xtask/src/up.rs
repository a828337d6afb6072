//! `cargo xtask up`: from a clone to the first streamed answer. Each part looks first and does only what is missing.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::paths::Paths;
use crate::tools::Tools;
use crate::{build, child, say};

const QUESTION: &str = "Why is the sky blue?";

pub(crate) fn up(paths: &Paths) -> Result<()> {
    let tools = Tools::bring(paths)?;
    build::release(paths, &tools)?;
    let keeper = paths.binaries(true).join("rbee-keeper");
    ensure_config(&keeper)?;
    let model = pull_models(&keeper)?;
    child::shown(Command::new(&keeper).arg("up"))?;

    say::note(format!("\n> {QUESTION}"));
    let mut infer = Command::new(&keeper);
    infer.args(["infer", "--model", &model, "--max-tokens", "64", "--temperature", "0", QUESTION]);
    child::shown(&mut infer)?;
    how_to_go_on(paths, &keeper, &model);
    Ok(())
}

fn ensure_config(keeper: &Path) -> Result<()> {
    let answer = child::output(Command::new(keeper).args(["config", "path", "--json"]))?;
    let answer: Value = serde_json::from_str(&answer).context("`config path --json` printed no JSON")?;
    let config = answer["config_file"].as_str().context("`config path --json` names no file")?;
    if Path::new(config).exists() {
        return Ok(());
    }
    child::shown(Command::new(keeper).args(["config", "init"]))
}

/// Fetches what the configuration names and is not here; returns the model to ask.
fn pull_models(keeper: &Path) -> Result<String> {
    let answer = child::output(Command::new(keeper).args(["model", "list", "--json"]))?;
    let answer: Value = serde_json::from_str(&answer).context("`model list --json` printed no JSON")?;
    let models =
        answer["models"].as_array().or_else(|| answer.as_array()).context("`model list --json` lists nothing")?;
    let names: Vec<&str> = models.iter().filter_map(|model| model["name"].as_str()).collect();
    for name in &names {
        child::shown(Command::new(keeper).args(["model", "pull", name]))?;
    }
    match names.iter().find(|name| **name == "smollm2").or(names.first()) {
        Some(name) => Ok((*name).to_owned()),
        None => bail!("the configuration names no model; see `rbee-keeper config path` and README.md"),
    }
}

fn how_to_go_on(paths: &Paths, keeper: &Path, model: &str) {
    let keeper = keeper.strip_prefix(&paths.root).unwrap_or(keeper).display();
    say::line(format!(
        "\nIt runs, and goes on running. How to go on:\n  \
         {keeper} status\n  \
         {keeper} infer --model {model} \"What is a queen bee?\"\n  \
         {keeper} down\n\
         Any OpenAI client: `{keeper} status --json` has queen's url; add /v1 to it. `{keeper} config path` tells where things are."
    ));
}
