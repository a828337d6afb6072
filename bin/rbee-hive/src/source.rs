//! Where a hive's configuration comes from, so that it can be read again while it runs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use rbee_api::{Desired, ReplicaId, WorkerAssignment};
use rbee_runtime::config::{Config, HiveConfig, MonitorConfig, Settings, WorkerConfig, changed_keys};

use crate::orders::Configured;

/// The file, and what the command line says over it.
#[derive(Debug, Clone)]
pub struct Source {
    /// Which file.
    pub settings: Settings,
    /// Which set of workers starts by itself, over `profile`.
    pub profile: Option<String>,
    /// Address to listen on, over `[hive] listen`.
    pub listen: Option<SocketAddr>,
    /// Name in the fleet, over `[hive] name`.
    pub name: Option<String>,
    /// Queen's URL, over `[hive] queen`.
    pub queen: Option<String>,
}

impl Source {
    /// Reads the file, now.
    ///
    /// # Errors
    /// When it cannot be read or makes no sense, or the profile is not in it.
    pub fn read(&self) -> anyhow::Result<Config> {
        let mut config = self.settings.load()?.config;
        config.check_profile(self.profile.as_deref())?;
        config.hive.listen = self.listen.unwrap_or(config.hive.listen);
        if let Some(name) = &self.name {
            config.hive.name.clone_from(name);
        }
        config.hive.queen = self.queen.clone().or(config.hive.queen);
        Ok(config)
    }

    /// Reads the file off the threads that others need.
    ///
    /// # Errors
    /// As [`Source::read`].
    pub async fn read_again(&self) -> anyhow::Result<Config> {
        let source = self.clone();
        tokio::task::spawn_blocking(move || source.read()).await.context("reading broke off")?
    }
}

/// The config's workers; which of them run, its profile and role say.
#[must_use]
pub fn configured(config: &Config, profile: Option<&str>) -> BTreeMap<String, Configured> {
    let wanted = config.wanted_workers(profile);
    let of = |(name, worker): (&String, &WorkerConfig)| {
        let runs = wanted.contains(name.as_str());
        let id = ReplicaId { name: name.clone(), replica: 0 };
        let model = worker.model.as_deref().and_then(|model| config.model_spec(model));
        let desired = if runs { Desired::Running } else { Desired::Stopped };
        let template = WorkerAssignment::new(id, Arc::new(worker.to_spec()), model, desired);
        (name.clone(), Configured { template, replicas: worker.replicas })
    };
    config.worker.iter().map(of).collect()
}

/// The tables that are read only at the start.
#[derive(Debug, Clone, Default)]
pub struct StartedWith {
    /// `[hive]`.
    pub hive: HiveConfig,
    /// `[monitor]`.
    pub monitor: MonitorConfig,
}

impl StartedWith {
    /// The keys that say something else now.
    #[must_use]
    pub fn needs_restart(&self, now: &Config) -> Vec<String> {
        // Whether it starts, and what a reload takes over.
        let mut keys = changed_keys("hive", &self.hive, &now.hive, &["auto_start", "ports"]);
        keys.extend(changed_keys("monitor", &self.monitor, &now.monitor, &[]));
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_only_at_the_start_is_named() {
        let before = StartedWith::default();
        let mut now = Config::default();
        assert_eq!(before.needs_restart(&now), [""; 0]);
        now.hive = HiveConfig { starts_max: Some(3), queen: Some("http://x".into()), ..before.hive.clone() };
        now.monitor.enabled = false;
        assert_eq!(before.needs_restart(&now), ["hive.queen", "hive.starts_max", "monitor.enabled"]);
    }
}
