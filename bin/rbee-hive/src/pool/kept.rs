//! What replicas keep over their restarts: a folder each, made before a start, gone with the replica.

use std::io;
use std::path::Path;

use rbee_api::{ReplicaId, WorkerAssignment};
use worker_lifecycle::state_dir;

use super::Task;

impl Task {
    /// Makes the folder that the replica is about to be given, and drops those that neither it nor the process before it
    /// uses. A worker without its folder says so itself; it works all the same.
    pub(super) fn make_room_for_kept(&self, worker: &WorkerAssignment) {
        if !worker.spec.keeps_state() {
            return;
        }
        let next = state_dir(worker, &self.machine);
        if let Err(error) = std::fs::create_dir_all(&next) {
            tracing::error!(folder = %next.display(), %error, "nothing can be kept over restarts");
        }
        let told = self.told.get(&worker.id).map(|unit| state_dir(&unit.worker, &self.machine));
        clear(&self.machine.state_dir, &worker.id, |folder| folder == next || Some(folder) == told.as_deref());
    }

    /// Drops all that a replica kept that is no more.
    pub(super) fn drop_kept(&self, id: &ReplicaId) {
        clear(&self.machine.state_dir, id, |_| false);
    }
}

/// Removes the replica's folders but those to keep.
fn clear(below: &Path, id: &ReplicaId, keep: impl Fn(&Path) -> bool) {
    let unit = id.unit_name();
    let is_its = |name: &str| {
        let rest = name.strip_prefix(unit.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('.').is_some_and(|n| n.parse::<u64>().is_ok()))
    };
    // No folder at all: nothing was ever kept.
    let Ok(entries) = std::fs::read_dir(below) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_its)) {
        let folder = entry.path();
        if !keep(&folder)
            && let Err(error) = std::fs::remove_dir_all(&folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(folder = %folder.display(), %error, "what a worker kept cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// HIVE-18
    #[test]
    fn only_the_replicas_own_folders_go() {
        let home = tempfile::tempdir().unwrap();
        for name in ["w.1", "w.1.7", "w.1.9", "w.10", "w.10.3", "v.1", "w.1.x"] {
            std::fs::create_dir(home.path().join(name)).unwrap();
        }
        let id = ReplicaId { name: "w".into(), replica: 1 };
        clear(home.path(), &id, |folder| folder.ends_with("w.1.9"));
        let mut left: Vec<_> =
            std::fs::read_dir(home.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["v.1", "w.1.9", "w.1.x", "w.10", "w.10.3"]);
    }
}
