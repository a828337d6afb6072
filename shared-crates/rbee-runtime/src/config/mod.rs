//! `rbee.toml`: what it may say, its defaults, and everything that can be wrong in it.
//!
//! ```text
//!   text ──document──▶ tree with spans ──schema──▶ Config ──check──▶ Config that makes sense
//!               └─ syntax        └─ unknown keys, bad values   └─ bounds, references   (all reported together)
//! ```

mod changed;
mod check;
mod container;
mod dependencies;
mod document;
mod hooks;
mod in_force;
mod limits;
mod monitor;
mod problem;
mod queen;
mod restart;
mod schema;
mod settings;
mod to_spec;
mod values;

pub use changed::changed_keys;
pub use check::REPLICAS_MAX;
pub use container::{ContainerConfig, DOCKER_HOST_DEFAULT};
pub use hooks::{HooksConfig, OnConfig};
pub use in_force::NotInForce;
pub use model_store::{ModelSource, Sha256Digest};
pub use monitor::{GuardConfig, MonitorConfig, ThresholdAction, ThresholdsConfig};
pub use problem::{ConfigError, Problem};
pub use queen::{KeyConfig, QueenConfig};
pub use restart::{RestartConfig, RestartPolicy};
pub use schema::{Config, HealthConfig, HiveConfig, IoClass, LimitsConfig, LogConfig, ModelConfig, Role, WorkerConfig};
pub use settings::{Loaded, Overrides, Settings};
pub use to_spec::UnknownProfile;
pub use values::{InvalidValue, PortRange, Probe, Ready, StopSignal};

use std::path::Path;

/// What `config init` writes, and what holds when there is no file.
pub const DEFAULT_TEXT: &str = include_str!("default.toml");

impl Config {
    /// Parses and checks a configuration; `path` is named in errors only.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with everything that is wrong in it, in the order of lines.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let mut document = document::Document::read(text);
        let config: Option<Self> = document.deserialize();
        if let Some(config) = &config {
            check::check(config, &mut document);
        }
        match (config, document.into_problems()) {
            (Some(config), problems) if problems.is_empty() => Ok(config),
            (_, problems) => Err(ConfigError::Invalid { path: path.to_owned(), problems }),
        }
    }

    /// Reads, parses and checks a file.
    ///
    /// # Errors
    /// When the file cannot be read, and as [`Config::parse`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path)
    }
}

#[cfg(test)]
mod tests;
