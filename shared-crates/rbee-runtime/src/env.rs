//! The environment variables we look at, read once and passed on as a value.

use std::ffi::OsString;
use std::path::PathBuf;

/// Everything our programs take from their environment; all fields are absent when unset or empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Env {
    /// `HOME`: the user's home folder.
    pub home: Option<PathBuf>,
    /// `RBEE_HOME`: one folder for configuration, state and run files.
    pub rbee_home: Option<PathBuf>,
    /// `RBEE_CONFIG`: configuration file.
    pub rbee_config: Option<PathBuf>,
    /// `RBEE_QUEEN`: queen's URL.
    pub rbee_queen: Option<String>,
    /// `RBEE_HIVE`: URL of a hive that stands alone.
    pub rbee_hive: Option<String>,
    /// `RBEE_TOKEN`: bearer token; wins over the token file.
    pub rbee_token: Option<String>,
    /// `XDG_CONFIG_HOME`.
    pub xdg_config_home: Option<PathBuf>,
    /// `XDG_STATE_HOME`.
    pub xdg_state_home: Option<PathBuf>,
    /// `XDG_DATA_HOME`.
    pub xdg_data_home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// `TERM`: the kind of terminal.
    pub term: Option<String>,
    /// `NO_COLOR` is set and not empty.
    pub no_color: bool,
    /// `RUST_LOG`: log filter; wins over `-v`.
    pub rust_log: Option<String>,
    /// `DOCKER_HOST`: where the container engine listens.
    pub docker_host: Option<String>,
    /// `RBEE_NO_RECOVER` is set and not empty: keeper starts no queen that crashed.
    pub no_recover: bool,
    /// `RBEE_HANDOVER`: what the process says whose place we take; nobody else sets it.
    pub handover: Option<String>,
}

impl Env {
    /// Reads the process's environment.
    #[must_use]
    pub fn read() -> Self {
        Self::from_lookup(|name| std::env::var_os(name))
    }

    /// Builds the value from any lookup; this is the whole mapping, free of the process's state.
    ///
    /// ```
    /// use rbee_runtime::env::Env;
    /// let env = Env::from_lookup(|name| (name == "RBEE_QUEEN").then(|| "http://127.0.0.1:1".into()));
    /// assert_eq!(env.rbee_queen.as_deref(), Some("http://127.0.0.1:1"));
    /// ```
    #[must_use]
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name| lookup(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let text = |name| lookup(name).filter(|v| !v.is_empty()).map(|v| v.to_string_lossy().into_owned());
        // The XDG specification: a relative path is invalid and to be ignored.
        let absolute = |name| path(name).filter(|p: &PathBuf| p.is_absolute());
        Self {
            home: absolute("HOME"),
            rbee_home: path("RBEE_HOME"),
            rbee_config: path("RBEE_CONFIG"),
            rbee_queen: text("RBEE_QUEEN"),
            rbee_hive: text("RBEE_HIVE"),
            rbee_token: text("RBEE_TOKEN"),
            xdg_config_home: absolute("XDG_CONFIG_HOME"),
            xdg_state_home: absolute("XDG_STATE_HOME"),
            xdg_data_home: absolute("XDG_DATA_HOME"),
            xdg_runtime_dir: absolute("XDG_RUNTIME_DIR"),
            term: text("TERM"),
            no_color: text("NO_COLOR").is_some(),
            rust_log: text("RUST_LOG"),
            no_recover: text("RBEE_NO_RECOVER").is_some(),
            handover: text("RBEE_HANDOVER"),
            docker_host: text("DOCKER_HOST"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Env;

    #[test]
    fn empty_and_relative_values_count_as_unset() {
        let env = Env::from_lookup(|name| match name {
            "RBEE_TOKEN" => Some("".into()),
            "XDG_STATE_HOME" => Some("relative/state".into()),
            "RBEE_HOME" => Some("relative/home".into()),
            _ => None,
        });
        assert_eq!(env.rbee_token, None);
        assert_eq!(env.xdg_state_home, None);
        assert_eq!(env.rbee_home, Some("relative/home".into()));
    }
}
