//! What can be asked of workers.

use clap::{Args, Subcommand};
use rbee_api::WorkerRef;
use rbee_runtime::config::REPLICAS_MAX;

use super::LogArgs;

const NAME_HELP: &str = "NAME is the table's name in the configuration; NAME/2 its replica 2 (counted from 0); \
    HIVE:NAME/2 where hives differ.";

#[derive(Debug, Subcommand)]
pub(crate) enum WorkerCommand {
    /// Show all workers
    #[command(after_help = "Example:\n  rbee-keeper worker list --json")]
    List,
    /// Start a worker; return when it is ready
    #[command(after_help = format!("{NAME_HELP}\n\nExample:\n  rbee-keeper worker start smollm2"))]
    Start(WorkerArgs),
    /// Stop a worker after what it has in flight
    #[command(after_help = format!("{NAME_HELP}\n\nExample:\n  rbee-keeper worker stop smollm2/1"))]
    Stop(WorkerArgs),
    /// Stop and start a worker; return when it is ready again
    #[command(after_help = format!("{NAME_HELP}\n\nExamples:\n  rbee-keeper worker restart smollm2\n  \
        rbee-keeper worker restart smollm2 --rolling   one replica after the other, each relieved first: no request fails\n  \
        rbee-keeper worker restart smollm2 --clean     what it saved (caches) is dropped"))]
    Restart {
        #[command(flatten)]
        worker: WorkerArgs,
        /// One replica after the other; another one stands in for it, and it finishes what it has first
        #[arg(long)]
        rolling: bool,
        /// Drop what it saved over restarts (caches)
        #[arg(long)]
        clean: bool,
    },
    /// Give a worker no new work; return when nothing is in flight there. It goes on running
    #[command(after_help = format!("{NAME_HELP}\n\nExample:\n  rbee-keeper worker drain smollm2/0"))]
    Drain(WorkerArgs),
    /// Give a drained worker work again
    #[command(after_help = format!("{NAME_HELP}\n\nExample:\n  rbee-keeper worker undrain smollm2/0"))]
    Undrain(WorkerArgs),
    /// End a worker with SIGKILL; it stays down
    #[command(after_help = format!("{NAME_HELP}\n\nExample:\n  rbee-keeper worker kill local:smollm2/0"))]
    Kill(WorkerArgs),
    /// Try a worker again now that gave up or waits out its back-off
    #[command(after_help = format!("{NAME_HELP}\n\nExamples:\n  rbee-keeper worker retry smollm2           one try more; the \
        restarts counted so far stay counted\n  rbee-keeper worker retry smollm2 --force   start afresh: the count begins anew"))]
    Retry {
        #[command(flatten)]
        worker: WorkerArgs,
        /// Forget the restarts counted so far
        #[arg(long)]
        force: bool,
    },
    /// Tell why a worker is as it is: its last falls, each with its causes down to the root
    #[command(after_help = format!("{NAME_HELP}\n\nExamples:\n  rbee-keeper worker why api\n  \
        rbee-keeper worker why api --json | jq -r '.workers[].falls[].summary'"))]
    Why(WorkerArgs),
    /// Show one worker: its limits and how they are kept, what it waits for, its reason
    #[command(after_help = format!("{NAME_HELP}\n\nExample:\n  rbee-keeper worker status smollm2"))]
    Status(WorkerArgs),
    /// Show a worker's log
    #[command(after_help = format!("{NAME_HELP}\n\nExample:\n  rbee-keeper worker logs smollm2/0 -f"))]
    Logs {
        #[command(flatten)]
        worker: WorkerArgs,
        #[command(flatten)]
        log: LogArgs,
    },
    /// Set the number of replicas; return when they are ready
    #[command(after_help = "Example:\n  rbee-keeper worker scale smollm2 3")]
    Scale {
        /// The worker
        name: String,
        /// How many of it
        #[arg(allow_negative_numbers = true, value_parser = replicas)]
        replicas: u32,
    },
}

#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    /// The worker: NAME, NAME/REPLICA or HIVE:NAME/REPLICA
    pub(crate) name: WorkerRef,
}

fn replicas(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| *number <= REPLICAS_MAX);
    number.ok_or_else(|| format!("must be a whole number from 0 to {REPLICAS_MAX}"))
}
