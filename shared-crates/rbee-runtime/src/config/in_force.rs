//! Keys that are understood and checked but do nothing here. `config check` says so rather than let a user
//! believe in something that does not happen.

use super::schema::Config;

/// A key that is set and has no effect.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct NotInForce {
    /// The key, such as `worker.api.idle_ttl`.
    pub key: String,
}

impl Config {
    /// The keys set to something that is not carried out on this machine.
    #[must_use]
    pub fn not_in_force(&self) -> Vec<NotInForce> {
        // A hive that stands alone sees no requests: it cannot know what is idle.
        let alone = !self.starts_queen() && self.hive.queen.is_none();
        let with_ttl = self.worker.iter().filter(|(_, worker)| alone && worker.idle_ttl.is_some());
        let with_ttl = with_ttl.map(|(name, _)| format!("worker.{name}.idle_ttl"));
        // A queen elsewhere reads her own file.
        let of_queen = self.worker.keys().filter(|_| self.queen_is_elsewhere()).map(|name| format!("worker.{name}"));
        // Thresholds are looked at in samples.
        let unwatched = self.worker.iter().filter(|(_, worker)| !self.monitor.enabled && worker.thresholds.is_some());
        let unwatched = unwatched.map(|(name, _)| format!("worker.{name}.thresholds"));
        with_ttl.chain(of_queen).chain(unwatched).map(|key| NotInForce { key }).collect()
    }
}
