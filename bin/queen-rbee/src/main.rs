//! queen-rbee: from command line, environment and file to [`queen_rbee::queen::live`], and from errors to exit codes.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use daemon_lifecycle::is_successor;
use queen_rbee::cli::{Cli, Run};
use queen_rbee::lock::LifeLockError;
use queen_rbee::queen::{QueenError, Setup, live};
use queen_rbee::store::Store;
use queen_rbee::upgrade::{Predecessor, Relaunch};
use rbee_runtime::binaries;
use rbee_runtime::config::{ConfigError, Overrides, Settings};
use rbee_runtime::dirs::{Dirs, DirsError};
use rbee_runtime::env::Env;
use rbee_runtime::listen::{self, ListenError};
use rbee_runtime::logging;
use rbee_runtime::self_check::SelfCheck;
use rbee_runtime::shutdown::Shutdown;
use rbee_runtime::token::{Token, TokenError};

const EX_USAGE: u8 = 64;
const EX_TEMPFAIL: u8 = 75;
const EX_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let (run, is_self_check) = match Cli::try_parse() {
        Ok(cli) => {
            let is_self_check = cli.is_self_check();
            (cli.into_run(), is_self_check)
        }
        Err(error) => {
            let usage = error.use_stderr();
            // Nobody is left to tell when even this cannot be written.
            let _ = error.print();
            return if usage { ExitCode::from(EX_USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let env = Env::read();
    if is_self_check {
        return match self_check(run, &env) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let _ = report(&error);
                ExitCode::from(exit_code(&error))
            }
        };
    }
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

/// Whether this binary could be queen here, without touching anything; a line of JSON says who it is.
fn self_check(run: Run, env: &Env) -> anyhow::Result<()> {
    let dirs = Dirs::from_env(env)?;
    let flags = Overrides { config: run.config, ..Overrides::default() };
    Settings::resolve(&flags, env, dirs.config_file()).load()?;
    Store::check(&dirs.queen_store_file())?;
    let said = serde_json::to_string(&SelfCheck::of(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")))?;
    writeln!(std::io::stdout(), "{said}").context("cannot write")
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
    let pid_file = dirs.queen_pid_file();
    let (listener, predecessor) = match env.handover.as_deref().filter(|word| is_successor(word)) {
        Some(word) => {
            let (listener, line) = listen::from_predecessor()?;
            (listener, Some(Predecessor::new(line, word, pid_file.clone())))
        }
        None => (listen::listener(run.listen.unwrap_or(loaded.config.queen.listen), true)?, None),
    };
    let relaunch = Relaunch {
        program: binaries::own_program().context("cannot tell which program this is")?,
        args: std::env::args_os().skip(1).collect(),
        pid_file,
    };
    let shutdown = Shutdown::on_signals().context("cannot listen for signals")?;
    let setup = Setup {
        config: loaded.config,
        config_file: loaded.path,
        dirs,
        token,
        listener,
        shutdown,
        relaunch: Some(relaunch),
        predecessor,
        without_hive: run.without_hive,
    };
    live(setup).await?;
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
        || matches!(find(error), Some(QueenError::Store { .. } | QueenError::Lock { .. } | QueenError::Keys { .. }));
    match (try_again, configuration) {
        (true, _) => EX_TEMPFAIL,
        (false, true) => EX_CONFIG,
        (false, false) => 1,
    }
}

fn find<E: std::error::Error + 'static>(error: &anyhow::Error) -> Option<&E> {
    error.chain().find_map(|cause| cause.downcast_ref())
}
