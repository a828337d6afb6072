//! What every command needs to know: where files are, whom to call, how long to wait.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use daemon_lifecycle::DaemonManager;
use rbee_api::ControlClient;
use rbee_runtime::config::{Config, Loaded, Overrides, Settings};
use rbee_runtime::dirs::Dirs;
use rbee_runtime::env::Env;
use rbee_runtime::token::Token;

use crate::cli::Global;
use crate::failure::Failure;
use crate::ui::Ui;

/// How long verbs wait by default for what they asked for.
const WAIT_DEFAULT: Duration = Duration::from_secs(180);

/// One run of keeper.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(crate) ui: Ui,
    pub(crate) dirs: Dirs,
    pub(crate) settings: Settings,
    /// Leaves a queen that crashed as she is.
    pub(crate) no_recover: bool,
    /// What the environment says.
    pub(crate) env: Env,
    timeout: Option<Duration>,
}

/// Whom a command talks to.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// A queen; `local` when she is this machine's and keeper manages her.
    Queen {
        /// Where she listens.
        url: String,
        /// Whether her process is ours to look at.
        local: bool,
    },
    /// A hive that stands alone.
    Hive {
        /// Where it listens.
        url: String,
        /// Whether its process is ours to look at.
        local: bool,
    },
}

impl Target {
    /// Where it listens.
    pub(crate) fn url(&self) -> &str {
        match self {
            Self::Queen { url, .. } | Self::Hive { url, .. } => url,
        }
    }
}

impl Context {
    pub(crate) fn new(global: &Global, env: Env, ui: Ui) -> Result<Self, Failure> {
        let dirs = Dirs::from_env(&env)?;
        let flags = Overrides { config: global.config.clone(), queen: None, hive: global.hive.clone() };
        let settings = Settings::resolve(&flags, &env, dirs.config_file());
        let no_recover = global.no_recover || env.no_recover;
        Ok(Self { ui, dirs, settings, no_recover, env, timeout: global.timeout })
    }

    /// The configuration that holds.
    pub(crate) fn config(&self) -> Result<Loaded, Failure> {
        Ok(self.settings.load()?)
    }

    /// The configuration file to hand to a child, where it is not the one it would find by itself.
    pub(crate) fn config_file_for_children(&self) -> Option<PathBuf> {
        let absolute = std::path::absolute(&self.settings.config_file);
        self.settings.explicit.then(|| absolute.unwrap_or_else(|_| self.settings.config_file.clone()))
    }

    /// The manager of this machine's queen.
    pub(crate) fn queen(&self, config: &Config) -> DaemonManager {
        queen_lifecycle::manager(&self.dirs, config, self.config_file_for_children().as_deref())
    }

    /// The manager of this machine's hive.
    pub(crate) fn hive(&self, config: &Config) -> DaemonManager {
        hive_lifecycle::manager(&self.dirs, config, self.config_file_for_children().as_deref())
    }

    /// The token, if there is one yet.
    pub(crate) fn token(&self) -> Result<Option<Token>, Failure> {
        Ok(Token::find(self.env.rbee_token.as_deref(), &self.dirs.token_file())?)
    }

    /// The token; made now if there is none.
    pub(crate) fn token_or_new(&self) -> Result<Token, Failure> {
        Ok(Token::find_or_create(self.env.rbee_token.as_deref(), &self.dirs.token_file())?)
    }

    /// Whom this machine's configuration, environment and flags say to talk to.
    pub(crate) fn target(&self, config: &Config) -> Target {
        if let Some(url) = &self.settings.hive {
            return Target::Hive { url: url.clone(), local: false };
        }
        if let Some(url) = &self.settings.queen {
            return Target::Queen { url: url.clone(), local: false };
        }
        if config.starts_queen() || self.queen(config).is_running() {
            return Target::Queen { url: self.queen_url(config), local: true };
        }
        match &config.hive.queen {
            Some(url) => Target::Queen { url: url.clone(), local: false },
            None => Target::Hive { url: self.hive_url(config), local: true },
        }
    }

    /// Where this machine's queen listens: her recorded socket, else what the configuration says.
    pub(crate) fn queen_url(&self, config: &Config) -> String {
        let recorded = self.queen(config).listen_address().ok().flatten();
        url_of(recorded.unwrap_or(queen_lifecycle::listen_address(&self.dirs, config)))
    }

    /// Where this machine's hive listens: its recorded socket, else what the configuration says.
    pub(crate) fn hive_url(&self, config: &Config) -> String {
        let recorded = self.hive(config).listen_address().ok().flatten();
        url_of(recorded.unwrap_or(config.hive.listen))
    }

    /// A client of whatever listens at `url`.
    pub(crate) fn client(&self, url: &str) -> Result<ControlClient, Failure> {
        let token = self.token()?.map(|token| token.expose().to_owned());
        ControlClient::new(url, token)
            .map_err(|error| Failure::new("internal", "cannot build the HTTP client").because(&error))
    }

    /// How long the server may wait before it answers: a little less than `--timeout`, so that its words arrive.
    pub(crate) fn wait_ms(&self) -> u64 {
        let wait = match self.timeout {
            Some(limit) => limit - (limit / 10).min(Duration::from_millis(500)),
            None => WAIT_DEFAULT,
        };
        u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
    }

    /// Runs blocking work (processes, files) without holding up the command's time limit.
    pub(crate) async fn blocking<T, E>(
        &self,
        work: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, Failure>
    where
        T: Send + 'static,
        E: Into<Failure> + Send + 'static,
    {
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done.map_err(Into::into),
            Err(error) => Err(Failure::new("internal", "a task of ours broke").because(&error)),
        }
    }
}

/// The URL by which this machine reaches a socket that listens on `addr`.
pub(crate) fn url_of(addr: SocketAddr) -> String {
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, addr.port()))
}

#[cfg(test)]
mod tests {
    use super::url_of;

    #[test]
    fn a_socket_on_all_addresses_is_reached_by_loopback() {
        for (addr, url) in [
            ("127.0.0.1:7833", "http://127.0.0.1:7833"),
            ("0.0.0.0:1", "http://127.0.0.1:1"),
            ("[::]:2", "http://[::1]:2"),
            ("10.0.0.5:3", "http://10.0.0.5:3"),
        ] {
            assert_eq!(url_of(addr.parse().unwrap()), url);
        }
    }
}
