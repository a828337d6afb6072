//! `service …`: what can be asked about the machine's service manager.

use clap::{Args, Subcommand, ValueEnum};
use service_definition::{Manager, ServiceName, Tier};

#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Have the service manager start queen and hive, now and at boot; return when they are ready
    #[command(
        after_help = "Without queen or hive: what the role of this machine asks for. As root a service of the machine, else one of \
        yours; yours goes on after you log out (linger). What runs already goes on: its workers are adopted.\n\nA service of the \
        machine keeps everything below RBEE_HOME, or /var/lib/NAME without it. Installing again puts into force what has changed; \
        installing the same changes nothing.\n\nExamples:\n  rbee-keeper service install\n  \
        sudo RBEE_HOME=/srv/rbee rbee-keeper service install --system --run-as rbee\n  \
        rbee-keeper service install hive"
    )]
    Install {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        how: How,
    },
    /// Stop them and have the service manager forget them; nothing of it is left
    #[command(
        after_help = "Configuration, models and logs stay. Without queen or hive: both.\n\nExample:\n  rbee-keeper service uninstall"
    )]
    Uninstall {
        #[command(flatten)]
        which: Which,
    },
    /// Show what the service manager says of them
    #[command(after_help = "Exit code 0: what is installed runs; 3: it does not, or nothing is installed.\n\n\
        Example:\n  rbee-keeper service status --json | jq '.units[].active'")]
    Status {
        #[command(flatten)]
        which: Which,
    },
    /// Print the files and commands, and touch nothing
    #[command(after_help = "For one daemon, stdout is its file alone.\n\nExamples:\n  rbee-keeper service show\n  \
        rbee-keeper service show queen --manager launchd > dev.rbee.queen.plist\n  \
        rbee-keeper service show hive --manager supervisord | sudo tee /etc/supervisor/conf.d/rbee-hive.conf")]
    Show {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        how: How,
    },
    /// Asked by a unit after its daemon has ended: a stop that took too long leaves nothing either
    #[command(hide = true, after_help = "Example:\n  rbee-keeper service after-end rbee-hive.service")]
    AfterEnd {
        /// The unit
        unit: String,
    },
}

/// Which service.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Which {
    /// One of the two alone
    #[arg(value_enum)]
    pub(crate) tier: Option<TierWord>,
    /// Whose service manager [default: this system's]
    #[arg(long, value_enum, value_name = "MANAGER")]
    pub(crate) manager: Option<ManagerWord>,
    /// A service of the machine [default for root]
    #[arg(long, conflicts_with = "user")]
    pub(crate) system: bool,
    /// A service of this user [default for everybody else]
    #[arg(long)]
    pub(crate) user: bool,
    /// What the units' names begin with, where several installations share a machine
    #[arg(long, value_name = "NAME", default_value = "rbee", value_parser = service_name)]
    pub(crate) name: ServiceName,
}

/// What it shall be like.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct How {
    /// The user that a service of the machine runs as [default: who owns RBEE_HOME, else who called sudo]
    #[arg(long, value_name = "NAME")]
    pub(crate) run_as: Option<String>,
    /// A line for people
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum TierWord {
    /// This machine's orchestrator
    Queen,
    /// This machine's pool manager
    Hive,
}

impl From<TierWord> for Tier {
    fn from(word: TierWord) -> Self {
        match word {
            TierWord::Queen => Self::Queen,
            TierWord::Hive => Self::Hive,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ManagerWord {
    /// Linux
    Systemd,
    /// macOS
    Launchd,
    /// Windows, by WinSW
    Windows,
    /// supervisord
    Supervisord,
}

impl From<ManagerWord> for Manager {
    fn from(word: ManagerWord) -> Self {
        match word {
            ManagerWord::Systemd => Self::Systemd,
            ManagerWord::Launchd => Self::Launchd,
            ManagerWord::Windows => Self::Windows,
            ManagerWord::Supervisord => Self::Supervisord,
        }
    }
}

fn service_name(text: &str) -> Result<ServiceName, String> {
    text.parse().map_err(|refusal: service_definition::Refusal| refusal.to_string())
}
