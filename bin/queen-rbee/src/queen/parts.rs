//! What queen's server is made of, put together and ended.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use daemon_lifecycle::SupervisorError;
use monitoring::{Disk, History, OwnUsage};
use rbee_runtime::config::Config;
use rbee_runtime::dirs::Dirs;
use rbee_runtime::http::{AllowedHosts, finish};
use rbee_runtime::notify;
use rbee_runtime::token::Token;
use tokio_util::task::AbortOnDropHandle;

use super::QueenError;
use crate::activity::Activity;
use crate::api::{self, About, Api, Records};
use crate::events::Events;
use crate::gateway::{self, Gateway, Keys, Limits, Tallies, UsageBook};
use crate::hives::LocalHive;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::reload::Reloads;
use crate::stopping::Stopping;
use crate::store::Store;
use crate::upgrade::Upgrader;
use crate::upkeep;

/// What the server is made of.
pub(super) struct Parts {
    pub(super) registry: Registry,
    pub(super) stopping: Stopping,
    pub(super) metrics: Arc<Metrics>,
    pub(super) activity: Arc<Activity>,
    pub(super) history: History,
    pub(super) events: Events,
    pub(super) own: OwnUsage,
    pub(super) about: Arc<About>,
    pub(super) http: reqwest::Client,
    pub(super) token: Token,
}

impl Parts {
    pub(super) fn gateway(&self, config: &Config, addr: SocketAddr, store: Store) -> Result<Gateway, QueenError> {
        let keys = Keys::load(&config.queen.keys).map_err(|source| QueenError::Keys { source })?;
        let parts = gateway::Parts {
            registry: self.registry.clone(),
            stopping: self.stopping.clone(),
            metrics: Arc::clone(&self.metrics),
            activity: Arc::clone(&self.activity),
            token: self.token.clone(),
            usage: UsageBook::start(store, Arc::clone(&self.metrics)),
            tallies: Tallies::start(self.history.clone()),
            // On loopback OpenAI's clients may send what they like; other machines must know the token, or a key.
            open: addr.ip().is_loopback(),
        };
        Ok(Gateway::new(parts, Limits::new(&config.queen), keys))
    }

    /// Samples this process, for as long as the handle lives.
    pub(super) fn sampling(&self, config: &Config, dirs: &Dirs) -> AbortOnDropHandle<()> {
        let (own, history, started) = (self.own.clone(), self.history.clone(), self.about.started);
        let disk = Disk::default().with_own("queen", dirs.queen_files());
        AbortOnDropHandle::new(tokio::spawn(own.keep("queen", disk, started, history, config.monitor.clone())))
    }

    /// What queen does by and by, for as long as the handle lives.
    pub(super) fn upkeep(&self, drain_timeout: Duration) -> AbortOnDropHandle<()> {
        let (registry, activity) = (self.registry.clone(), Arc::clone(&self.activity));
        AbortOnDropHandle::new(tokio::spawn(upkeep::run(registry, activity, drain_timeout)))
    }

    pub(super) fn router(
        &self,
        config: &Config,
        addr: SocketAddr,
        gateway: Gateway,
        local_hive: Option<LocalHive>,
        upgrader: Upgrader,
        reloads: Reloads,
    ) -> Router {
        let has_hive = local_hive.is_some();
        let control = api::router(Api {
            registry: self.registry.clone(),
            local_hive,
            stopping: self.stopping.clone(),
            token: self.token.clone(),
            http: self.http.clone(),
            metrics: Arc::clone(&self.metrics),
            about: Arc::clone(&self.about),
            upgrader,
            reloads,
            activity: Arc::clone(&self.activity),
            usage: gateway.usage().clone(),
            events: self.events.clone(),
            records: Records::new(self.events.journal(), gateway.tallies(), config, has_hive),
            history: self.history.clone(),
            own: self.own.clone(),
        });
        let hosts = AllowedHosts::new(addr, &config.queen.hosts);
        finish(control.merge(gateway.router()), hosts, body_bytes_max(config))
    }

    pub(super) async fn end(&self, gateway: &Gateway, local_hive: Option<&LocalHive>, drain_timeout: Duration) {
        notify::stopping();
        tokio::select! {
            () = gateway.drained() => tracing::info!("every request is answered"),
            () = tokio::time::sleep(drain_timeout) => tracing::warn!(?drain_timeout, "requests are cut off: time is over"),
            () = self.stopping.immediate() => tracing::warn!("requests are cut off: told to stop at once"),
        }
        let Some(hive) = local_hive else { return };
        let ended = match self.stopping.keeps_children() {
            true => hive.detach().await,
            false => self.stop_hive(hive).await,
        };
        if let Err(error) = ended {
            tracing::error!(error = &error as &dyn std::error::Error, "the hive of this machine did not end in order");
        }
    }

    /// Stops the hive, faster once somebody is in a hurry.
    async fn stop_hive(&self, hive: &LocalHive) -> Result<(), SupervisorError> {
        if !self.stopping.is_now() {
            tokio::select! {
                biased;
                stopped = hive.stop() => return stopped,
                () = self.stopping.immediate() => {}
            }
        }
        hive.stop_now(&self.token).await
    }
}

fn body_bytes_max(config: &Config) -> usize {
    usize::try_from(config.queen.max_body.as_u64()).unwrap_or(usize::MAX)
}
