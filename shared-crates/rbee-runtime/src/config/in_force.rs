//! Keys that are understood and checked but do nothing yet. `config check` says so rather than let a user
//! believe in a limit that is not there.

use super::schema::{Config, LimitsConfig, LogConfig};

/// A key that is set and has no effect in this version.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct NotInForce {
    /// The key, such as `worker.api.limits`.
    pub key: String,
}

impl Config {
    /// The keys set to something that this version does not carry out.
    #[must_use]
    pub fn not_in_force(&self) -> Vec<NotInForce> {
        let of_worker = |(name, worker): (&String, &super::WorkerConfig)| {
            [
                ("depends_on", !worker.depends_on.is_empty()),
                ("idle_ttl", worker.idle_ttl.is_some()),
                ("stale_locks", !worker.stale_locks.is_empty()),
                ("limits", worker.limits != LimitsConfig::default()),
                ("log", worker.log != LogConfig::default()),
            ]
            .into_iter()
            .filter(|(_, set)| *set)
            .map(|(key, _)| NotInForce { key: format!("worker.{name}.{key}") })
            .collect::<Vec<_>>()
        };
        self.worker.iter().flat_map(of_worker).collect()
    }
}
