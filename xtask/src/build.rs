//! Building with cargo, with a line of progress.

use std::process::Command;

use anyhow::Result;

use crate::child;
use crate::paths::Paths;
use crate::tools::Tools;

/// The binaries a user runs.
pub(crate) const BINARIES: [&str; 4] = ["rbee-keeper", "queen-rbee", "rbee-hive", "llm-worker-rbee"];

/// A cargo command in the checkout, for the same target folder as ours.
pub(crate) fn cargo(paths: &Paths, tools: &Tools) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(&paths.root).env("CARGO_TARGET_DIR", &paths.target);
    tools.apply(&mut cargo);
    cargo
}

/// Builds what `arguments` say; shows cargo's own bar as progress.
pub(crate) fn build(title: &str, paths: &Paths, tools: &Tools, arguments: &[&str]) -> Result<()> {
    let mut command = cargo(paths, tools);
    command
        .arg("build")
        .args(arguments)
        .env("CARGO_TERM_PROGRESS_WHEN", "always")
        .env("CARGO_TERM_PROGRESS_WIDTH", "90")
        .env("CARGO_TERM_COLOR", "never");
    child::step(title, &mut command, &paths.log("build"))
}

/// Builds the four binaries, optimised.
pub(crate) fn release(paths: &Paths, tools: &Tools) -> Result<()> {
    let mut arguments = vec!["--release"];
    arguments.extend(BINARIES.iter().flat_map(|name| ["--package", name]));
    build("build (the first takes minutes)", paths, tools, &arguments)
}
