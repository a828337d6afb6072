//! `monitor …`: what can be asked about keeper's guard.

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum MonitorCommand {
    /// Guard queen: start her again when she falls, and when she no longer answers
    #[command(
        after_help = "For machines where no service manager does that (`rbee-keeper service install` is the better way where there is \
        one). What is stopped by `queen stop` or `down` stays down. On a machine without a queen the hive is guarded. \
        `[monitor] guard = { interval, timeout, failures, restart }` in rbee.toml says how.\n\nExample:\n  rbee-keeper monitor start"
    )]
    Start,
    /// Guard no more; what runs goes on
    #[command(after_help = "Example:\n  rbee-keeper monitor stop")]
    Stop,
    /// Show whether there is a guard, and what it does
    #[command(after_help = "Exit code 0: it guards; 1: it has died; 3: there is none.\n\nExamples:\n  \
        rbee-keeper monitor status\n  rbee-keeper monitor status --detailed\n  \
        rbee-keeper monitor status --detailed --json | jq '.daemons[] | [.name, .healthy, .cpu_percent]'")]
    Status {
        /// Health, processor, memory, disk and uptime of every daemon
        #[arg(long)]
        detailed: bool,
    },
    /// Be the guard, in the foreground, until SIGTERM
    #[command(hide = true, after_help = "Example:\n  rbee-keeper monitor run")]
    Run,
}
