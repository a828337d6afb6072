//! `completions SHELL`.

use clap::CommandFactory;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

pub(super) fn run(context: &Context, shell: Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "rbee-keeper", &mut script);
    if context.ui.is_json() {
        let script = String::from_utf8_lossy(&script);
        context.ui.json(&serde_json::json!({ "shell": shell.to_string(), "script": script }));
    } else {
        // A reader that left (`| head`) is no error.
        let _ = context.ui.stream(&script);
    }
    Ok(Exit::DONE)
}
