//! Which file and which values hold: flags before environment before file before defaults.

use std::path::{Path, PathBuf};

use super::DEFAULT_TEXT;
use super::problem::ConfigError;
use super::schema::Config;
use crate::env::Env;

/// What the command line says; absent where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--config FILE`.
    pub config: Option<PathBuf>,
    /// Queen's URL.
    pub queen: Option<String>,
    /// `--hive URL`.
    pub hive: Option<String>,
}

/// Where to look and whom to call, before any file is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The file to read.
    pub config_file: PathBuf,
    /// Whether a flag or variable names that file: then it must exist.
    pub explicit: bool,
    /// Queen's URL, where flag or variable name one; else the configuration says it.
    pub queen: Option<String>,
    /// URL of a hive that stands alone, where one is asked for.
    pub hive: Option<String>,
}

impl Settings {
    /// Flags win over the environment; `default_file` is read when neither names a file.
    #[must_use]
    pub fn resolve(flags: &Overrides, env: &Env, default_file: PathBuf) -> Self {
        let named = flags.config.clone().or_else(|| env.rbee_config.clone());
        Self {
            explicit: named.is_some(),
            config_file: named.unwrap_or(default_file),
            queen: flags.queen.clone().or_else(|| env.rbee_queen.clone()),
            hive: flags.hive.clone().or_else(|| env.rbee_hive.clone()),
        }
    }

    /// Reads the configuration; without a file that was asked for, the built-in one holds.
    ///
    /// # Errors
    /// As [`Config::load`]; a file named by flag or variable that does not exist is an error.
    pub fn load(&self) -> Result<Loaded, ConfigError> {
        match Config::load(&self.config_file) {
            Ok(config) => Ok(Loaded { config, path: Some(self.config_file.clone()) }),
            Err(ConfigError::Read { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound && !self.explicit =>
            {
                Ok(Loaded { config: Config::built_in()?, path: None })
            }
            Err(error) => Err(error),
        }
    }
}

/// A configuration and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What holds.
    pub config: Config,
    /// The file; absent: the built-in configuration.
    pub path: Option<PathBuf>,
}

impl Config {
    /// The configuration that holds when there is no file: what `config init` would write.
    ///
    /// # Errors
    /// None in a released build: a test parses the text.
    pub fn built_in() -> Result<Self, ConfigError> {
        Self::parse(DEFAULT_TEXT, Path::new("built-in configuration"))
    }
}
