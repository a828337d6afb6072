//! The command line of rbee-hive.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use daemon_lifecycle::{SelfRecord, SupervisorError};
use rbee_hive::container::ContainerCommand;
use rbee_hive::pool::PoolError;
use rbee_hive::run::{Hive, Settings};
use rbee_hive::source::Source;
use rbee_hive::state::StateFiles;
use rbee_hive::upgrade::{Relaunch, Replacement};
use rbee_runtime::config::{ConfigError, Overrides, Settings as ConfigSettings};
use rbee_runtime::dirs::Dirs;
use rbee_runtime::env::Env;
use rbee_runtime::listen::ListenError;
use rbee_runtime::self_check::SelfCheck;
use rbee_runtime::shutdown::Shutdown;
use rbee_runtime::token::Token;
use rbee_runtime::{binaries, logging, notify};

/// Model pulls, log reads and state files at the same time; more wait.
const BLOCKING_THREADS_MAX: usize = 16;
/// Exit codes of sysexits.h.
const UNAVAILABLE: u8 = 69;
const TRY_AGAIN: u8 = 75;
const CONFIG: u8 = 78;

/// Runs and keeps the workers of one machine, for queen or alone.
#[derive(Debug, Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the hive in the foreground until SIGTERM.
    #[command(after_help = EXAMPLES)]
    Run(RunArgs),
    /// Say who this is and whether it could run here, and end: asked before an upgrade.
    SelfCheck(RunArgs),
    /// Stand for a container; for the hive itself to call.
    #[command(subcommand, hide = true)]
    Container(ContainerCommand),
}

#[derive(Debug, Args)]
struct RunArgs {
    /// Configuration file [default: rbee.toml in RBEE_HOME, else in the XDG configuration folder]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on, over `[hive] listen`
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Name in the fleet, over `[hive] name`
    #[arg(long)]
    name: Option<String>,
    /// Queen's URL, over `[hive] queen`; without either, the hive stands alone
    #[arg(long, value_name = "URL")]
    queen: Option<String>,
    /// Set of workers to start when standing alone, over `profile`
    #[arg(long)]
    profile: Option<String>,
    /// Log more; twice for even more
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

const EXAMPLES: &str = "\
Examples:
  rbee-hive run --config rbee.toml            supervise the file's workers, as supervisord or s6 would
  rbee-hive run --queen http://10.0.0.1:7833  take orders from queen
  RBEE_HOME=./demo rbee-hive run              keep everything below one folder
  kill -HUP $(pidof rbee-hive)                read the file again: only what it says otherwise is touched
  rbee-keeper --hive http://127.0.0.1:7835 hive reload       the same, and shows what it did
  rbee-keeper --hive http://127.0.0.1:7835 worker why api    why a worker is as it is

Signals: SIGTERM or SIGINT stops all workers, then the hive; a second one stops them at once. SIGHUP reloads.
After SIGKILL the workers go on, and the next hive takes them over.

Exit codes: 0 stopped in order; 69 port taken; 75 another hive runs here; 78 configuration.";

fn main() -> ExitCode {
    let ended = match Cli::parse().command {
        Command::Container(command) => return command.carry_out(),
        Command::Run(args) => start(&args),
        Command::SelfCheck(args) => self_check(&args).map(|()| None),
    };
    match ended {
        Ok(None) => ExitCode::SUCCESS,
        // Whoever supervises us starts us anew, and the workers need not know.
        Ok(Some(replacement)) => {
            fail(&anyhow::Error::new(replacement.carry_out()).context("cannot become the new binary"))
        }
        Err(error) => fail(&error),
    }
}

/// Whether this binary could be the hive here, without touching anything; a line of JSON says who it is.
fn self_check(args: &RunArgs) -> anyhow::Result<()> {
    let env = Env::read();
    let dirs = Dirs::from_env(&env)?;
    source(args, &env, &dirs).read()?;
    StateFiles::new(&dirs).check()?;
    let said = serde_json::to_string(&SelfCheck::of(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION")))?;
    writeln!(std::io::stdout(), "{said}")?;
    Ok(())
}

fn source(args: &RunArgs, env: &Env, dirs: &Dirs) -> Source {
    let overrides = Overrides { config: args.config.clone(), ..Overrides::default() };
    let mut settings = ConfigSettings::resolve(&overrides, env, dirs.config_file());
    // Read again later, from wherever we are then.
    settings.config_file = std::path::absolute(&settings.config_file).unwrap_or(settings.config_file);
    Source {
        settings,
        profile: args.profile.clone(),
        listen: args.listen,
        name: args.name.clone(),
        queen: args.queen.clone(),
    }
}

fn start(args: &RunArgs) -> anyhow::Result<Option<Replacement>> {
    let env = Env::read();
    let dirs = Dirs::from_env(&env)?;
    if let Some(name) = &args.name {
        anyhow::ensure!(rbee_api::ids::is_valid_name(name), Usage(format!("`{name}` is no name for a hive")));
    }
    let source = source(args, &env, &dirs);
    let config = source.read()?;
    dirs.create()?;
    let token = Token::find_or_create(env.rbee_token.as_deref(), &dirs.token_file())?;
    let _log = logging::init(&logging::Options {
        default_filter: logging::filter_for("info", args.verbose),
        rust_log: env.rust_log,
        json: false,
        no_color: env.no_color,
    })?;
    let relaunch = Relaunch { program: binaries::own_program()?, args: std::env::args_os().skip(1).collect() };
    let settings = Settings {
        config,
        source,
        dirs,
        token,
        path: std::env::var_os("PATH"),
        relaunch: Some(relaunch),
        handover: env.handover,
        docker_host: env.docker_host,
    };
    // One thread is enough to decide, and each further one costs memory; what blocks has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()?;
    let result = runtime.block_on(serve(settings));
    // What still runs then (a download, a log stream) must not hold up our end.
    runtime.shutdown_background();
    result
}

async fn serve(settings: Settings) -> anyhow::Result<Option<Replacement>> {
    let shutdown = Shutdown::on_signals()?;
    let (name, pid_file) = (settings.config.hive.name.clone(), settings.dirs.hive_pid_file(&settings.config.hive.name));
    let hive = Hive::start(settings).await?;
    let (listen, stop_timeout) = (Some(hive.address()), hive.stop_timeout());
    write_record(SelfRecord { pid_file: pid_file.clone(), unit: name, listen, stop_timeout }).await;
    tracing::info!(url = hive.url(), "ready");
    notify::ready();
    let replacement = hive.keep(&shutdown).await?;
    if replacement.is_none()
        && let Err(error) = SelfRecord::remove(&pid_file)
    {
        tracing::warn!(error = &error as &dyn std::error::Error, "the PID file is left behind");
    }
    Ok(replacement)
}

/// Where nobody of ours started it, it writes itself down: keeper looks there.
async fn write_record(record: SelfRecord) {
    match tokio::task::spawn_blocking(move || record.write()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "keeper does not know that this hive runs");
        }
        Err(error) => tracing::warn!(%error, "keeper does not know that this hive runs"),
    }
}

/// A mistake on the command line that clap cannot see.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Usage(String);

#[expect(clippy::print_stderr, reason = "the last words of a daemon that cannot run; its log may not exist")]
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    if let Some(hint) = hint(error) {
        eprintln!("hint: {hint}");
    }
    ExitCode::from(exit_code(error))
}

fn exit_code(error: &anyhow::Error) -> u8 {
    if error.is::<ConfigError>() || error.is::<rbee_runtime::config::UnknownProfile>() {
        CONFIG
    } else if error.is::<Usage>() {
        64
    } else if is_locked(error) {
        TRY_AGAIN
    } else if error.is::<ListenError>() {
        UNAVAILABLE
    } else {
        1
    }
}

fn hint(error: &anyhow::Error) -> Option<String> {
    if is_locked(error) {
        return Some("another hive runs here; stop it first, or give this one its own RBEE_HOME".to_owned());
    }
    if let Some(profile) = error.downcast_ref::<rbee_runtime::config::UnknownProfile>() {
        return profile.hint();
    }
    error.downcast_ref::<ListenError>().and_then(ListenError::hint).map(str::to_owned)
}

fn is_locked(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<PoolError>(), Some(PoolError::Supervisor { source: SupervisorError::Locked { .. } }))
}
