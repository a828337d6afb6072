//! `rbee-hive container …`: the shim that stands for a container as its unit's process, and its small helpers.
//!
//! ```text
//! Supervisor ──spawn──▶ shim (run) ──unix socket──▶ engine ──▶ container
//!     ▲ FIFOs, notify, exit code │                              │
//!     └──────────────────────────┴──◀── stdout, stderr, code ───┘        exec, listens: probes inside · remove: after each end
//! ```
//!
//! A crash of the hive disturbs neither; a crash of the shim is the end of the run, and the container goes with it.

mod create;
mod engine;
mod image;
mod inside;
mod life;
mod output;
mod tell;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use container_order::{ContainerOrder, ORDER_VARIABLE};

use engine::Engine;

/// What a helper waits for the engine; its caller has its own limit.
const HELPER_PATIENCE: Duration = Duration::from_secs(5);

/// What is done for one container.
#[derive(Debug, Subcommand)]
pub enum ContainerCommand {
    /// Make the container that the environment describes, and end with it.
    Run,
    /// Remove a unit's container, if there is one.
    Remove {
        /// Which container
        #[command(flatten)]
        which: Which,
        /// Whose it must be: others' are left alone
        #[arg(long)]
        owner: String,
    },
    /// Run a command inside, and end with its exit code.
    Exec {
        /// Which container
        #[command(flatten)]
        which: Which,
        /// What it may take, in milliseconds; it is killed then
        #[arg(long)]
        timeout_ms: u64,
        /// The command
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Whether anybody inside listens on this TCP port.
    Listens {
        /// Which container
        #[command(flatten)]
        which: Which,
        /// The container's port
        #[arg(long)]
        port: u16,
    },
}

/// Which container, of which engine.
#[derive(Debug, Args)]
pub struct Which {
    /// The engine's socket
    #[arg(long)]
    socket: PathBuf,
    /// The container's name
    #[arg(long)]
    name: String,
}

impl ContainerCommand {
    /// Does it; the exit code says how that went.
    #[must_use]
    pub fn carry_out(self) -> ExitCode {
        // One thread: there is one process like this for each container.
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return tell::failed(&format!("no runtime: {error}")),
        };
        let code = runtime.block_on(self.carried_out());
        runtime.shutdown_background();
        code
    }

    async fn carried_out(self) -> ExitCode {
        match self {
            Self::Run => match order() {
                Ok(order) => life::live(&order).await,
                Err(problem) => tell::failed(&problem),
            },
            Self::Remove { which, owner } => match which.engine().await {
                Ok(engine) => match engine.remove(&which.name, &owner).await {
                    Ok(()) => ExitCode::SUCCESS,
                    Err(trouble) => tell::failed(&trouble.to_string()),
                },
                Err(trouble) => tell::failed(&trouble.to_string()),
            },
            Self::Exec { which, timeout_ms, command } => {
                inside::exec(&which, command, Duration::from_millis(timeout_ms)).await
            }
            Self::Listens { which, port } => inside::listens(&which, port).await,
        }
    }
}

impl Which {
    async fn engine(&self) -> Result<Engine, engine::Trouble> {
        Engine::connect(&self.socket, HELPER_PATIENCE).await
    }
}

fn order() -> Result<ContainerOrder, String> {
    let text = std::env::var(ORDER_VARIABLE)
        .map_err(|_| format!("there is no order in {ORDER_VARIABLE}: this is for the hive to call"))?;
    serde_json::from_str(&text).map_err(|error| format!("the order in {ORDER_VARIABLE} makes no sense: {error}"))
}
