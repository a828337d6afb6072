//! What can be asked of keeper, with an example for every verb.

mod advice;
mod monitor;
mod news;
mod report;
mod service;
mod worker;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

pub(crate) use advice::{InitArgs, OptimizeArgs};
pub(crate) use monitor::MonitorCommand;
pub(crate) use news::{EventsArgs, StatusArgs};
pub(crate) use report::{ReportArgs, ReportFormat};
pub(crate) use service::{How, ServiceCommand, Which};
pub(crate) use worker::{WorkerArgs, WorkerCommand};

/// Manages queen, hives and workers of this machine.
#[derive(Debug, Parser)]
#[command(
    name = "rbee-keeper",
    version,
    about = "Your own machines as one private, self-healing inference service",
    after_help = "Start here:\n  rbee-keeper up                                start everything, wait until it is ready\n  \
        rbee-keeper infer --model smollm2 \"Hello\"     ask a model\n  \
        rbee-keeper status                            what runs\n  \
        rbee-keeper down                              stop everything\n\n\
        Environment: RBEE_HOME (one folder for everything), RBEE_CONFIG, RBEE_QUEEN (URL), RBEE_HIVE (URL), RBEE_TOKEN, NO_COLOR\n\
        Exit codes: 0 done, 1 failed, 64 usage, 69 unreachable, 75 try again, 78 configuration; \
        status: 0 running, 1 stale, 3 not running, 4 unknown",
    arg_required_else_help = true,
    max_term_width = 110
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Flags that every verb takes.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// Configuration file [env: RBEE_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Talk to a hive that stands alone [env: RBEE_HIVE]
    #[arg(long, global = true, value_name = "URL", value_parser = http_url)]
    pub(crate) hive: Option<String>,
    /// Print one JSON document on stdout
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print results and errors only
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
    /// Tell more; twice for even more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Do not start a queen that crashed [env: RBEE_NO_RECOVER]
    #[arg(long, global = true)]
    pub(crate) no_recover: bool,
    /// No colours [env: NO_COLOR]
    #[arg(long, global = true)]
    pub(crate) no_color: bool,
    /// Give up waiting after this time, such as 30s (exit code 75)
    #[arg(long, global = true, value_name = "DURATION", value_parser = positive_duration)]
    pub(crate) timeout: Option<Duration>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start what this machine's role and profile ask for; return when all is ready
    #[command(after_help = "Examples:\n  rbee-keeper up --timeout 5m\n  rbee-keeper up --profile minimal")]
    Up {
        /// Run this set of workers, over the configuration's `profile`; workers outside it are stopped
        #[arg(long, value_name = "PROFILE")]
        profile: Option<String>,
    },
    /// Stop everything, workers first; return when nothing is left
    #[command(after_help = "Example:\n  rbee-keeper down --now")]
    Down {
        /// Do not wait for requests in flight
        #[arg(long)]
        now: bool,
    },
    /// Show the tree queen → hives → workers
    #[command(
        after_help = "Examples:\n  rbee-keeper status\n  rbee-keeper status --watch\n  rbee-keeper status --json | jq '.hives[].workers[].phase'"
    )]
    Status(StatusArgs),
    /// Show what has happened: starts, falls and their causes, drains, leases; with -f go on
    #[command(
        after_help = "Examples:\n  rbee-keeper events -f\n  rbee-keeper events --since 1h --kind failed --kind restarting\n  \
        rbee-keeper events -f --json | jq -r '.daemon'"
    )]
    Events(EventsArgs),
    /// Tell how the last hour, day or week went: availability, falls, usage, requests
    #[command(
        after_help = "Queen asks every hive; one that does not answer is named. What nobody saw is said to be unknown.\n\nExamples:\n  \
        rbee-keeper report\n  rbee-keeper report --period week --format html --output week.html\n  \
        rbee-keeper report --json | jq '.daemons[] | [.name, .availability.percent]'\n  \
        rbee-keeper --hive http://127.0.0.1:7835 report --period hour    of a hive that stands alone"
    )]
    Report(ReportArgs),
    /// This machine's orchestrator
    #[command(subcommand, arg_required_else_help = true)]
    Queen(QueenCommand),
    /// Pool managers, one a machine
    #[command(subcommand, arg_required_else_help = true)]
    Hive(HiveCommand),
    /// Workers: what serves models, and any other command in the configuration
    #[command(subcommand, arg_required_else_help = true)]
    Worker(WorkerCommand),
    /// Model files of this machine
    #[command(subcommand, arg_required_else_help = true)]
    Model(ModelCommand),
    /// Ask a model; the answer streams to stdout
    #[command(after_help = "Examples:\n  rbee-keeper infer --model smollm2 \"Why is the sky blue?\"\n  \
            git diff | rbee-keeper infer --model smollm2 --system \"Summarise this diff\" -")]
    Infer(InferArgs),
    /// The configuration file
    #[command(subcommand, arg_required_else_help = true)]
    Config(ConfigCommand),
    /// Propose a configuration that suits this machine and what it has seen
    #[command(
        after_help = "It looks at cores, memory, limits and disks, and at the last week, where a daemon tells it. Each proposal says \
        what was seen and what it is expected to do. --apply changes these keys alone: comments and order stay. Workers whose keys \
        change may be restarted by the reload, each after what it has in flight.\n\nExamples:\n  rbee-keeper optimize\n  \
        rbee-keeper optimize --apply\n  rbee-keeper optimize --json | jq -r '.proposals[].key'"
    )]
    Optimize(OptimizeArgs),
    /// Tell what is wrong here and what to do about it; exit code 1 if anything is
    #[command(
        after_help = "It looks at the configuration, files and their permissions, ports, limits, cgroups, disks, the clock, programs, \
        models, what is recorded and what runs. It repairs nothing, and needs no daemon.\n\nExamples:\n  rbee-keeper doctor\n  \
        rbee-keeper doctor --json | jq -r '.findings[] | select(.severity != \"note\") | .what'"
    )]
    Doctor,
    /// Queen and hive as services: started by the system, now and at boot
    #[command(subcommand, arg_required_else_help = true)]
    Service(ServiceCommand),
    /// A guard for queen, where no service manager is one; and how every daemon is
    #[command(subcommand, arg_required_else_help = true)]
    Monitor(MonitorCommand),
    /// Print a completion script for a shell
    #[command(
        after_help = "Example:\n  rbee-keeper completions bash > ~/.local/share/bash-completion/completions/rbee-keeper"
    )]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum QueenCommand {
    /// Start queen; she starts this machine's hive
    #[command(after_help = "Example:\n  rbee-keeper queen start")]
    Start,
    /// Stop queen and, unless told otherwise, everything below her
    #[command(after_help = "Example:\n  rbee-keeper queen stop --keep-hives")]
    Stop {
        /// Leave hives and workers running; the next queen takes them over
        #[arg(long)]
        keep_hives: bool,
    },
    /// Stop and start queen; hives and workers go on
    #[command(after_help = "Example:\n  rbee-keeper queen restart")]
    Restart,
    /// End queen with SIGKILL, as a crash would; hives and workers go on
    #[command(after_help = "Example:\n  rbee-keeper queen kill && rbee-keeper queen start")]
    Kill,
    /// Show whether queen runs
    #[command(after_help = "Example:\n  rbee-keeper queen status --json")]
    Status,
    /// Have queen read the configuration anew: only what it says otherwise is touched
    #[command(
        after_help = "A file that makes no sense changes nothing, and all that is wrong in it is told. What verbs changed \
        (stop, scale) stays so.\n\nExamples:\n  rbee-keeper queen reload\n  \
        kill -HUP $(pidof queen-rbee)    the same; the result is in her log"
    )]
    Reload,
    /// Have a new binary take queen's place; nobody who asks her something notices
    #[command(
        after_help = "The new process starts beside the old one and takes over its socket, store and hive; workers, and the hive, \
        go on untouched. Answers that are being written are finished by the old process. A binary that fails its self-check, \
        or does not get ready in time, changes nothing.\n\nHives are upgraded by `rbee-keeper hive upgrade NAME`, workers by \
        `rbee-keeper worker restart NAME --rolling`. With --binary she runs from there until she is started anew; to stay, put \
        the new binary in the old one's place and leave it out.\n\nExamples:\n  rbee-keeper queen upgrade\n  \
        rbee-keeper queen upgrade --binary ./target/release/queen-rbee"
    )]
    Upgrade {
        /// The new binary, on queen's machine [default: what stands now where she was started from]
        #[arg(long, value_name = "PATH")]
        binary: Option<PathBuf>,
    },
    /// Show queen's log
    #[command(after_help = "Example:\n  rbee-keeper queen logs -f -n 20")]
    Logs(LogArgs),
}

#[derive(Debug, Subcommand)]
pub(crate) enum HiveCommand {
    /// Show all hives
    #[command(after_help = "Example:\n  rbee-keeper hive list")]
    List,
    /// Show one hive and its workers
    #[command(after_help = "Example:\n  rbee-keeper hive status local")]
    Status {
        /// The hive
        name: String,
    },
    /// Give a hive no new work, and move its workers to other hives; return when nothing is in flight there
    #[command(
        after_help = "A worker goes when it is ready at its new place and has finished what it had. Where no other hive is open, \
        the workers stay and run, without new requests.\n\nExample:\n  rbee-keeper hive drain local"
    )]
    Drain {
        /// The hive
        name: String,
    },
    /// Give a drained hive work again
    #[command(after_help = "What went elsewhere stays there.\n\nExample:\n  rbee-keeper hive undrain local")]
    Undrain {
        /// The hive
        name: String,
    },
    /// Have a hive become the binary that stands on its machine now; its workers go on untouched
    #[command(
        after_help = "Put the new binary in the old one's place first. The process stays the same, and so do its workers, its socket \
        and its logs. A binary that fails its self-check changes nothing.\n\nExamples:\n  rbee-keeper hive upgrade local\n  \
        rbee-keeper --hive http://127.0.0.1:7835 hive upgrade local    one that stands alone"
    )]
    Upgrade {
        /// The hive
        name: String,
    },
    /// Have a hive that stands alone read its configuration anew: only what it says otherwise is touched
    #[command(
        after_help = "A file that makes no sense changes nothing, and all that is wrong in it is told. What verbs changed \
        (stop, scale) stays so until the file says something new about it.\n\nExamples:\n  \
        rbee-keeper --hive http://127.0.0.1:7835 hive reload\n  kill -HUP $(pidof rbee-hive)    the same; the result is in its log"
    )]
    Reload,
}

#[derive(Debug, Args)]
pub(crate) struct LogArgs {
    /// Go on with new lines as they come
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// How many of the newest lines
    #[arg(short = 'n', long, value_name = "N", default_value_t = 100)]
    pub(crate) lines: u32,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ModelCommand {
    /// Show the models of the configuration and whether they are here
    #[command(after_help = "Example:\n  rbee-keeper model list")]
    List,
    /// Fetch a model and check its digest
    #[command(after_help = "Example:\n  rbee-keeper model pull smollm2")]
    Pull {
        /// The model's table in the configuration
        name: String,
    },
    /// Remove a model's file
    #[command(after_help = "Example:\n  rbee-keeper model rm smollm2")]
    Rm {
        /// The model
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct InferArgs {
    /// The model; may be left out where one alone is served
    #[arg(short, long, value_name = "NAME")]
    pub(crate) model: Option<String>,
    /// Longest answer, in tokens
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = positive)]
    pub(crate) max_tokens: Option<u32>,
    /// 0 for the likeliest answer, up to 2 for variety
    #[arg(long, value_name = "T", allow_negative_numbers = true, value_parser = temperature)]
    pub(crate) temperature: Option<f64>,
    /// The same seed gives the same answer
    #[arg(long, value_name = "S")]
    pub(crate) seed: Option<u32>,
    /// System message
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// The question; `-` reads stdin
    pub(crate) prompt: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Write a first configuration, and the token
    #[command(
        after_help = "On a terminal it asks what the flags do not say. Elsewhere the defaults hold; without any flag it writes the \
        built-in configuration.\n\nExamples:\n  rbee-keeper config init                                  ask\n  \
        rbee-keeper config init --yes                            ask nothing\n  \
        rbee-keeper config init --role master --listen network --model smollm2 --slots 8 --yes\n  \
        rbee-keeper config init --role worker --queen http://10.0.0.5:7833 --name attic --yes"
    )]
    Init(InitArgs),
    /// Tell everything that is wrong in the configuration
    #[command(after_help = "Example:\n  rbee-keeper config check --config ./rbee.toml")]
    Check,
    /// Print the configuration that holds, defaults filled in
    #[command(after_help = "Example:\n  rbee-keeper config show --json")]
    Show,
    /// Print where files are
    #[command(after_help = "Example:\n  $EDITOR \"$(rbee-keeper config path)\"")]
    Path,
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("must not be 0".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; write it like 30s or 5m")),
    }
}

fn positive(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "must be a whole number above 0".to_owned())
}

fn temperature(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if (0.0..=2.0).contains(&value) => Ok(value),
        _ => Err("must be a number from 0 to 2".to_owned()),
    }
}

fn http_url(text: &str) -> Result<String, String> {
    let sound = text.starts_with("http://") || text.starts_with("https://");
    if sound { Ok(text.to_owned()) } else { Err("must be a URL such as http://127.0.0.1:7835".to_owned()) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_reads_well() {
        let mut command = Cli::command().term_width(100);
        insta::assert_snapshot!(command.render_help(), @r#"
        Your own machines as one private, self-healing inference service

        Usage: rbee-keeper [OPTIONS] <COMMAND>

        Commands:
          up           Start what this machine's role and profile ask for; return when all is ready
          down         Stop everything, workers first; return when nothing is left
          status       Show the tree queen → hives → workers
          events       Show what has happened: starts, falls and their causes, drains, leases; with -f go on
          report       Tell how the last hour, day or week went: availability, falls, usage, requests
          queen        This machine's orchestrator
          hive         Pool managers, one a machine
          worker       Workers: what serves models, and any other command in the configuration
          model        Model files of this machine
          infer        Ask a model; the answer streams to stdout
          config       The configuration file
          optimize     Propose a configuration that suits this machine and what it has seen
          doctor       Tell what is wrong here and what to do about it; exit code 1 if anything is
          service      Queen and hive as services: started by the system, now and at boot
          monitor      A guard for queen, where no service manager is one; and how every daemon is
          completions  Print a completion script for a shell
          help         Print this message or the help of the given subcommand(s)

        Options:
          -h, --help     Print help
          -V, --version  Print version

        Global options:
              --config <FILE>       Configuration file [env: RBEE_CONFIG]
              --hive <URL>          Talk to a hive that stands alone [env: RBEE_HIVE]
              --json                Print one JSON document on stdout
          -q, --quiet               Print results and errors only
          -v, --verbose...          Tell more; twice for even more
              --no-recover          Do not start a queen that crashed [env: RBEE_NO_RECOVER]
              --no-color            No colours [env: NO_COLOR]
              --timeout <DURATION>  Give up waiting after this time, such as 30s (exit code 75)

        Start here:
          rbee-keeper up                                start everything, wait until it is ready
          rbee-keeper infer --model smollm2 "Hello"     ask a model
          rbee-keeper status                            what runs
          rbee-keeper down                              stop everything

        Environment: RBEE_HOME (one folder for everything), RBEE_CONFIG, RBEE_QUEEN (URL), RBEE_HIVE (URL),
        RBEE_TOKEN, NO_COLOR
        Exit codes: 0 done, 1 failed, 64 usage, 69 unreachable, 75 try again, 78 configuration; status: 0
        running, 1 stale, 3 not running, 4 unknown
        "#);
    }

    #[test]
    fn every_verb_has_an_example() {
        fn check(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            if command.has_subcommands() {
                command.get_subcommands().filter(|c| c.get_name() != "help").for_each(|c| check(c, &path));
            } else {
                let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(after.contains("Example"), "{path} has no example");
            }
        }
        check(&Cli::command(), "");
    }
}
