//! What keeper does for each verb.

mod completions;
pub(crate) mod config;
mod doctor;
mod down;
mod events;
mod hive;
mod infer;
mod model;
mod monitor;
mod optimize;
pub(crate) mod queen;
mod reload;
mod report;
mod service;
pub(crate) mod status;
mod up;
mod upgrade;
mod watch;
pub(crate) mod worker;

use crate::cli::Command;
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;

/// Carries out a command; the answer is printed when this returns.
pub(crate) async fn run(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Up { profile } => up::run(context, profile.as_deref()).await,
        Command::Down { now } => down::run(context, now).await,
        Command::Status(args) => status::run(context, &args).await,
        Command::Events(args) => events::run(context, args).await,
        Command::Report(args) => report::run(context, args).await,
        Command::Queen(command) => queen::run(context, command).await,
        Command::Hive(command) => hive::run(context, command).await,
        Command::Worker(command) => worker::run(context, command).await,
        Command::Model(command) => model::run(context, command).await,
        Command::Infer(args) => infer::run(context, args).await,
        Command::Config(command) => config::run(context, command).await,
        Command::Optimize(args) => optimize::run(context, args).await,
        Command::Doctor => doctor::run(context).await,
        Command::Monitor(command) => monitor::run(context, command).await,
        Command::Service(command) => service::run(context, command).await,
        Command::Completions { shell } => completions::run(context, shell),
    }
}
