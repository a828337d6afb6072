//! Keys that are understood and checked but do nothing yet. `config check` says so rather than let a user
//! believe in a limit that is not there.

use super::schema::Config;

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
        let with_ttl = self.worker.iter().filter(|(_, worker)| worker.idle_ttl.is_some());
        with_ttl.map(|(name, _)| NotInForce { key: format!("worker.{name}.idle_ttl") }).collect()
    }
}
