//! queen-rbee: from command line, environment and file to [`queen_rbee::queen::live`], and from errors to exit codes.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use queen_rbee::cli::{Cli, Run};
use queen_rbee::lock::LifeLockError;
use queen_rbee::queen::{QueenError, Setup, live};
use rbee_runtime::config::{ConfigError, Overrides, Settings};
use rbee_runtime::dirs::{Dirs, DirsError};
use rbee_runtime::env::Env;
use rbee_runtime::listen::{self, ListenError};
use rbee_runtime::logging;
use rbee_runtime::shutdown::Shutdown;
use rbee_runtime::token::{Token, TokenError};

const EX_USAGE: u8 = 64;
const EX_TEMPFAIL: u8 = 75;
const EX_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let run = match Cli::try_parse() {
        Ok(cli) => cli.into_run(),
        Err(error) => {
            let usage = error.use_stderr();
            // Nobody is left to tell when even this cannot be written.
            let _ = error.print();
            return if usage { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let env = Env::read();
    let options = logging::Options {
        default_filter: logging::filter_for("info", run.verbose.saturating_mul(2)),
        rust_log: env.rust_log.clone(),
        json: run.log_json,
        no_color: env.no_color,
    };
    let result = logging::init(&options).context("cannot set up logging").and_then(|guard| {
        let result = start(run, &env);
        drop(guard);
        result
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = report(&error);
            ExitCode::from(exit_code(&error))
        }
    }
}

#[tokio::main]
async fn start(run: Run, env: &Env) -> anyhow::Result<()> {
    let dirs = Dirs::from_env(env)?;
    let flags = Overrides { config: run.config, ..Overrides::default() };
    let loaded = Settings::resolve(&flags, env, dirs.config_file()).load()?;
    for key in loaded.config.not_in_force() {
        tracing::warn!(key = key.key, "this key has no effect here");
    }
    dirs.create()?;
    let token = Token::find_or_create(env.rbee_token.as_deref(), &dirs.token_file())?;
    let listener = listen::listener(run.listen.unwrap_or(loaded.config.queen.listen), true)?;
    let shutdown = Shutdown::on_signals().context("cannot listen for signals")?;
    live(Setup { config: loaded.config, config_file: loaded.path, dirs, token, listener, shutdown }).await?;
    Ok(())
}

fn report(error: &anyhow::Error) -> std::io::Result<()> {
    let mut stderr = std::io::stderr().lock();
    let chain: Vec<String> = error.chain().map(ToString::to_string).collect();
    writeln!(stderr, "error: {}", chain.join(": "))?;
    match hint(error) {
        Some(hint) => writeln!(stderr, "hint: {hint}"),
        None => Ok(()),
    }
}

fn hint(error: &anyhow::Error) -> Option<String> {
    if let Some(error) = find::<ListenError>(error) {
        return error.hint().map(str::to_owned);
    }
    if matches!(find(error), Some(LifeLockError::Held { .. })) {
        return Some("stop it with `rbee-keeper queen stop`, or give this one its own RBEE_HOME".to_owned());
    }
    find::<ConfigError>(error).map(|_| "`rbee-keeper config check` lists everything that is wrong in it".to_owned())
}

fn exit_code(error: &anyhow::Error) -> u8 {
    let try_again = matches!(find(error), Some(LifeLockError::Held { .. }))
        || matches!(find(error), Some(ListenError::Taken { .. }))
        || matches!(find(error), Some(daemon_lifecycle::SupervisorError::Locked { .. }));
    let configuration = find::<ConfigError>(error).is_some()
        || find::<DirsError>(error).is_some()
        || find::<TokenError>(error).is_some()
        || find::<ListenError>(error).is_some()
        || matches!(find(error), Some(QueenError::Store { .. } | QueenError::Lock { .. }));
    match (try_again, configuration) {
        (true, _) => EX_TEMPFAIL,
        (false, true) => EX_CONFIG,
        (false, false) => 1,
    }
}

fn find<E: std::error::Error + 'static>(error: &anyhow::Error) -> Option<&E> {
    error.chain().find_map(|cause| cause.downcast_ref())
}
