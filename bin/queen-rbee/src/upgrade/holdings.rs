//! What one queen alone may have: lock, store, and the supervisor of this machine's hive. Let go of and taken back as one.

use std::path::{Path, PathBuf};

use rbee_runtime::dirs::Dirs;
use rbee_runtime::error_chain;

use super::line::Estate;
use crate::events::Events;
use crate::hives::LocalHive;
use crate::lease::LeaseState;
use crate::lock::LifeLock;
use crate::registry::Registry;
use crate::store::{Opened, Store, StoreError};

/// What is held.
#[derive(Debug)]
pub struct Holdings {
    dirs: Dirs,
    registry: Registry,
    local_hive: Option<LocalHive>,
    store: Store,
    events: Events,
    held: Option<LifeLock>,
}

/// The lock of queen's life; the one beside her PID file belongs to whoever manages her.
#[must_use]
pub fn lock_file(dirs: &Dirs) -> PathBuf {
    dirs.run_dir().join(Path::new("queen-rbee.lock"))
}

impl Holdings {
    /// All of it, as it was taken at the start.
    #[must_use]
    pub fn new(
        dirs: Dirs,
        registry: Registry,
        local_hive: Option<LocalHive>,
        lock: LifeLock,
        store: Store,
        events: Events,
    ) -> Self {
        Self { dirs, registry, local_hive, store, events, held: Some(lock) }
    }

    /// Lets go of everything. From now on nothing that is wanted changes here, and what is known stays known.
    pub(super) async fn release(&mut self) -> Result<Estate, String> {
        self.registry.freeze().await;
        let view = self.registry.view();
        let alive = view.hives.iter().filter(|(_, hive)| hive.lease == LeaseState::Alive);
        let heartbeats = alive.filter_map(|(name, hive)| Some((name.clone(), (**hive.heartbeat.as_ref()?).clone())));
        let heartbeats = heartbeats.collect();
        let mut hive_program = None;
        if let Some(hive) = &self.local_hive {
            hive_program = Some(hive.program());
            hive.detach().await.map_err(|error| error_chain(&error))?;
        }
        self.events.leave().await;
        let Some(lock) = self.held.take() else { return Err("it holds nothing".to_owned()) };
        // An upgrade is no crash: nobody shall count it as one.
        let closed = self.store.mark_stopped().await.and(self.store.close().await);
        let file = self.dirs.queen_store_file();
        let copied = closed.map_err(|error| error_chain(&error)).and_then(|()| {
            std::fs::copy(&file, before_upgrade(&file))
                .map_err(|error| format!("cannot copy {}: {error}", file.display()))
        });
        lock.release().map_err(|error| format!("cannot let go of the lock: {error}"))?;
        copied.map(|_| Estate { heartbeats, hive_program })
    }

    /// Takes everything back, as far as it was let go of. What the heir has changed of the store meanwhile holds, unless
    /// it is of a kind that this program cannot read.
    pub(super) async fn take_back(&mut self) -> Result<(), String> {
        self.events.take_back().await;
        if self.held.is_none() {
            let lock = LifeLock::take(&lock_file(&self.dirs)).map_err(|error| error_chain(&error))?;
            let file = self.dirs.queen_store_file();
            let opened = match Store::open(&file) {
                Err(StoreError::TooNew { .. }) => {
                    tracing::warn!("the new queen has changed the store's form: it is put back as it was before");
                    put_back(&file).map_err(|error| format!("cannot put the store back: {error}"))?;
                    Store::open(&file)
                }
                other => other,
            };
            let Opened { store, state, .. } = opened.map_err(|error| error_chain(&error))?;
            // Whoever counts usage has a clone of the handle too.
            self.store.go_on_as(&store);
            self.registry.thaw(Some(state)).await;
            self.held = Some(lock);
        } else {
            self.registry.thaw(None).await;
        }
        match &self.local_hive {
            Some(hive) => {
                hive.reopen(hive_lifecycle::supervisor_config(&self.dirs)).await.map_err(|error| error_chain(&error))
            }
            None => Ok(()),
        }
    }

    /// Another one is queen: whoever still waits here is sent there.
    pub(super) async fn leave(&self) {
        self.registry.leave().await;
        remove(&before_upgrade(&self.dirs.queen_store_file()));
    }

    /// The end of queen's life: store and lock are closed.
    pub async fn close(self) {
        let Some(lock) = self.held else { return };
        let marked = self.store.mark_stopped().await;
        if let Err(error) = marked.and(self.store.close().await) {
            tracing::error!(error = &error as &dyn std::error::Error, "the store did not close in order");
        }
        if let Err(error) = lock.release() {
            tracing::warn!(%error, "the lock file is left behind");
        }
    }
}

fn before_upgrade(file: &Path) -> PathBuf {
    beside(file, ".before-upgrade")
}

fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn put_back(file: &Path) -> std::io::Result<()> {
    // The side files belong to the file that goes.
    remove(&beside(file, "-wal"));
    remove(&beside(file, "-shm"));
    std::fs::copy(before_upgrade(file), file).map(drop)
}

fn remove(file: &Path) {
    if let Err(error) = std::fs::remove_file(file)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(file = %file.display(), %error, "cannot remove a file");
    }
}
