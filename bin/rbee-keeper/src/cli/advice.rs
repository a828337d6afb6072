//! Words of `config init` and `optimize`.

use clap::Args;
use rbee_runtime::config::Role;

use super::http_url;
use crate::commands::config::answers;

#[derive(Debug, Default, Args)]
pub(crate) struct InitArgs {
    /// What this machine starts by itself: master, worker or leecher
    #[arg(long, value_name = "ROLE", value_parser = answers::read_role)]
    pub(crate) role: Option<Role>,
    /// Which workers start: full, minimal, or a list of your own under this name
    #[arg(long, value_name = "PROFILE", value_parser = answers::read_name)]
    pub(crate) profile: Option<String>,
    /// The hive's name
    #[arg(long, value_name = "NAME", value_parser = answers::read_name)]
    pub(crate) name: Option<String>,
    /// URL of a queen on another machine, who says what runs here
    #[arg(long, value_name = "URL", value_parser = http_url)]
    pub(crate) queen: Option<String>,
    /// Who may reach queen, or the hive of a worker: loopback, network or IP:PORT
    #[arg(long, value_name = "WHERE")]
    pub(crate) listen: Option<String>,
    /// A model to serve: smollm2, SOURCE, NAME=SOURCE or a .gguf file; may be given again
    #[arg(long, value_name = "MODEL", value_parser = answers::read_model, conflicts_with = "no_model")]
    pub(crate) model: Vec<answers::Model>,
    /// No model
    #[arg(long)]
    pub(crate) no_model: bool,
    /// Processes of each model
    #[arg(long, value_name = "N", value_parser = answers::read_number)]
    pub(crate) replicas: Option<u32>,
    /// Requests that each of them serves at the same time
    #[arg(long, value_name = "N", value_parser = answers::read_number)]
    pub(crate) slots: Option<u32>,
    /// Ask nothing: the defaults hold
    #[arg(short, long)]
    pub(crate) yes: bool,
    /// Replace an existing file
    #[arg(long)]
    pub(crate) force: bool,
}

impl InitArgs {
    /// Whether no flag says what to write.
    pub(crate) fn says_nothing(&self) -> bool {
        let texts = [&self.profile, &self.name, &self.queen, &self.listen];
        let given = texts.iter().any(|text| text.is_some())
            || self.role.is_some()
            || self.replicas.is_some()
            || self.slots.is_some();
        !given && self.model.is_empty() && !self.no_model && !self.yes
    }
}

#[derive(Debug, Args)]
pub(crate) struct OptimizeArgs {
    /// Write the proposals into the configuration, and have the running daemons read it
    #[arg(long)]
    pub(crate) apply: bool,
}
