//! rbee-keeper: the command line that manages queen, hives and workers. It does not stay.
//!
//! `cli` says what can be asked, `commands` does it, `ui` alone prints, `failure` turns what went wrong into
//! words and an exit code.

mod cli;
mod commands;
mod context;
mod doctor;
mod exit;
mod failure;
mod feeds;
mod file_tail;
mod guard;
mod inference;
mod optimize;
mod recovery;
mod report;
mod services;
mod ui;
mod view;

use std::process::ExitCode;

use clap::Parser;

use cli::Cli;
use context::Context;
use exit::Exit;
use failure::Failure;
use ui::Ui;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refused(&error).into(),
    };
    let env = rbee_runtime::env::Env::read();
    let ui = Ui::new(&cli.global, &env);
    let ended = run(cli, env, ui.clone());
    match ended {
        Ok(exit) => exit,
        Err(failure) => ui.failure(&failure),
    }
    .into()
}

fn run(cli: Cli, env: rbee_runtime::env::Env, ui: Ui) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new("internal", "cannot start the async runtime").because(&error))?;
    let limit = cli.global.timeout;
    let command = async {
        let context = Context::new(&cli.global, env, ui)?;
        commands::run(&context, cli.command).await
    };
    let ended = runtime.block_on(async {
        match limit {
            Some(limit) => {
                tokio::time::timeout(limit, command).await.unwrap_or_else(|_| Err(Failure::timed_out(limit)))
            }
            None => command.await,
        }
    });
    // A blocking wait may still be under way after a time-out; it must not hold us up.
    runtime.shutdown_background();
    ended
}

/// Help and version are answers; everything else clap says is a usage error.
fn refused(error: &clap::Error) -> Exit {
    if error.use_stderr() {
        let words: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
        let json = words.iter().any(|word| word == "--json");
        Ui::bare(json).failure(&Failure::usage(error, &words))
    } else {
        Ui::bare(false).help(error);
        Exit::DONE
    }
}
