//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// What `--help` shows at its end.
const EXAMPLES: &str = "\
Examples:
  queen-rbee                                     run with the configuration of this machine
  queen-rbee run --config ./rbee.toml            run with another one
  queen-rbee run --listen 127.0.0.1:0            run on any free port
  RBEE_HOME=./home queen-rbee run               run with all files below one folder

Usually `rbee-keeper up` or `rbee-keeper queen start` starts it.
Exit codes: 0 ended as asked; 64 usage; 75 try again (another queen, port taken); 78 configuration; 1 anything else.";

/// The orchestrator of rbee: places workers on hives and serves the OpenAI-compatible API.
#[derive(Debug, Parser)]
#[command(name = "queen-rbee", version, after_help = EXAMPLES)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Run,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run in the foreground (the default)
    Run(Run),
    /// Say who this is and whether it could run here, and end: asked before an upgrade
    SelfCheck(Run),
}

/// How to run.
#[derive(Debug, Clone, Default, Args)]
pub struct Run {
    /// Configuration file [env: RBEE_CONFIG] [default: rbee.toml in the configuration folder]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where to listen, instead of what the configuration says; an inherited socket wins over both
    #[arg(long, value_name = "ADDR:PORT")]
    pub listen: Option<SocketAddr>,
    /// Leave this machine's hive to whoever else starts it: a service manager
    #[arg(long)]
    pub without_hive: bool,
    /// More in the log; twice for debug
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// One JSON object a log line
    #[arg(long)]
    pub log_json: bool,
}

impl Cli {
    /// Whether only the self-check is asked for.
    #[must_use]
    pub const fn is_self_check(&self) -> bool {
        matches!(self.command, Some(Command::SelfCheck(_)))
    }

    /// What to do, wherever the options stand.
    #[must_use]
    pub fn into_run(self) -> Run {
        let outer = self.run;
        match self.command {
            None => outer,
            Some(Command::Run(inner) | Command::SelfCheck(inner)) => Run {
                config: inner.config.or(outer.config),
                listen: inner.listen.or(outer.listen),
                without_hive: inner.without_hive || outer.without_hive,
                verbose: inner.verbose.max(outer.verbose),
                log_json: inner.log_json || outer.log_json,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_run_is_the_default() {
        Cli::command().debug_assert();
        for args in [
            &["queen-rbee", "--listen", "127.0.0.1:1"] as &[_],
            &["queen-rbee", "run", "--listen", "127.0.0.1:1"],
            &["queen-rbee", "--listen", "127.0.0.1:1", "run"],
        ] {
            let run = Cli::try_parse_from(args).unwrap().into_run();
            assert_eq!(run.listen, "127.0.0.1:1".parse().ok(), "{args:?}");
        }
        assert!(Cli::try_parse_from(["queen-rbee", "--listen", "here"]).is_err());
    }
}
