//! The configuration is read anew: only what it says otherwise is touched.
//!
//! ```text
//!   SIGHUP ─┐
//!           ├─▶ read ─ok─▶ registry: wishes anew, orders kept ─▶ this machine's hive: its own keys ─▶ what changed
//!   POST  ──┘     └─wrong─▶ nothing changes, said to the caller and in the log
//! ```
//!
//! One at a time: who comes while one is being taken is told so.

use std::path::PathBuf;
use std::sync::Arc;

use monitoring::NewEvent;
use rbee_api::difference::{Difference, Runs, runs, words};
use rbee_api::{ApiError, ControlClient, Desired, ErrorCode, EventKind, ReloadReply, ReloadRequest};
use rbee_runtime::config::{Config, QueenConfig, Settings, changed_keys};
use rbee_runtime::dirs::Dirs;
use rbee_runtime::error_chain;
use rbee_runtime::token::Token;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Mutex;
use tokio_util::task::AbortOnDropHandle;

use crate::desired::{OnDemand, Wish, Wishes};
use crate::events::Events;
use crate::fleet::View;
use crate::hives::LocalHive;
use crate::orders::{Goal, Ordered, Target};
use crate::registry::{Registry, Rewished};

/// Reads the configuration again; clones share it.
#[derive(Debug, Clone)]
pub struct Reloads {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    registry: Registry,
    local_hive: Option<LocalHive>,
    token: Token,
    started_with: QueenConfig,
    events: Events,
    under_way: Mutex<()>,
}

/// A configuration taken, not settled yet.
#[derive(Debug)]
pub struct Reloaded {
    /// What to wait for.
    pub ordered: Ordered,
    difference: Difference,
    before: Runs,
    needs_hive_restart: Vec<String>,
    needs_queen_restart: Vec<String>,
}

impl Reloads {
    /// Reads `config_file` again, or the one that may have been made since where there was none.
    #[must_use]
    pub fn new(
        config: &Config,
        config_file: Option<PathBuf>,
        dirs: &Dirs,
        registry: Registry,
        local_hive: Option<LocalHive>,
        token: Token,
        events: Events,
    ) -> Self {
        let explicit = config_file.is_some();
        let file = config_file.unwrap_or_else(|| dirs.config_file());
        let settings = Settings {
            // Read again from wherever we are then.
            config_file: std::path::absolute(&file).unwrap_or(file),
            explicit,
            queen: None,
            hive: None,
        };
        let started_with = config.queen.clone();
        let shared = Shared { settings, registry, local_hive, token, started_with, events, under_way: Mutex::new(()) };
        Self { shared: Arc::new(shared) }
    }

    /// Reloads at every SIGHUP, for as long as the handle lives.
    ///
    /// # Errors
    /// When the signal cannot be listened for.
    pub fn on_hangups(&self) -> std::io::Result<AbortOnDropHandle<()>> {
        let mut hangups = signal(SignalKind::hangup())?;
        let reloads = self.clone();
        Ok(AbortOnDropHandle::new(tokio::spawn(async move {
            while hangups.recv().await.is_some() {
                // What came of it stands in the log.
                let _ = reloads.reload().await;
            }
        })))
    }

    /// Reads the file and puts it into force; a caller that goes away in between leaves nothing half done.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidConfig`] with everything that is wrong, [`ErrorCode::Conflict`] while another reload is under
    /// way, or the store cannot be written; then nothing has changed.
    pub async fn reload(&self) -> Result<Reloaded, ApiError> {
        let shared = Arc::clone(&self.shared);
        let done = tokio::spawn(async move {
            let taken = shared.take().await;
            match &taken {
                Ok(reloaded) => {
                    let Difference { added, removed, changed, untouched, .. } = &reloaded.difference;
                    let (added, removed, changed) = (words(added), words(removed), words(changed));
                    tracing::info!(?added, ?removed, ?changed, untouched, "configuration reloaded");
                    let detail =
                        json!({ "added": added, "removed": removed, "changed": changed, "untouched": untouched });
                    let event = NewEvent::now("queen", EventKind::Reloaded).with_detail(detail);
                    shared.events.record(event.with_cause("the configuration was read anew"));
                    for key in &reloaded.needs_queen_restart {
                        tracing::warn!(key, "changed, but is read only when queen starts");
                    }
                }
                Err(error) => tracing::error!(%error, "the configuration was not reloaded; nothing changed"),
            }
            taken
        });
        done.await
            .unwrap_or_else(|error| Err(ApiError::new(ErrorCode::Internal, format!("the reload broke off: {error}"))))
    }
}

impl Shared {
    async fn take(&self) -> Result<Reloaded, ApiError> {
        let Ok(_one_at_a_time) = self.under_way.try_lock() else {
            let message = "a reload is under way already: nothing was read; try again";
            return Err(ApiError::new(ErrorCode::Conflict, message));
        };
        let settings = self.settings.clone();
        let read = tokio::task::spawn_blocking(move || settings.load()).await;
        let config = match read {
            Ok(Ok(loaded)) => loaded.config,
            Ok(Err(error)) => return Err(ApiError::new(ErrorCode::InvalidConfig, error_chain(&error))),
            Err(error) => return Err(ApiError::new(ErrorCode::Internal, format!("reading broke off: {error}"))),
        };
        let Rewished { before, after } = self.registry.reload(wishes(&config)).await?;
        self.events.use_config(&config);
        let (old, new) = (before.desired.all(&before.wishes), after.desired.all(&after.wishes));
        let difference = Difference::between(&old, &new);
        let ordered = ordered(&difference, &before, &after);
        let needs_hive_restart = match &self.local_hive {
            Some(hive) => self.reload_hive(hive).await,
            None => Vec::new(),
        };
        Ok(Reloaded {
            ordered,
            difference,
            before: runs_in(&before),
            needs_hive_restart,
            needs_queen_restart: needs_restart(&self.started_with, &config.queen),
        })
    }

    /// This machine's hive reads the same file: its `[hive]` is its own business. Keys that it reads only at its start.
    async fn reload_hive(&self, hive: &LocalHive) -> Vec<String> {
        let Some(url) = hive.url() else { return Vec::new() };
        let asked = match ControlClient::new(&url, Some(self.token.expose().to_owned())) {
            Ok(control) => control.reload(&ReloadRequest { wait_ms: 0 }).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        asked.map(|reply| reply.needs_hive_restart).unwrap_or_else(|error| {
            tracing::warn!(error, "the hive of this machine did not read its configuration again");
            Vec::new()
        })
    }
}

impl Reloaded {
    /// What became of it, as `view` shows.
    #[must_use]
    pub fn reply(self, view: &View) -> ReloadReply {
        let Self { difference, before, needs_hive_restart, needs_queen_restart, .. } = self;
        ReloadReply { needs_hive_restart, needs_queen_restart, ..difference.reply(&before, &runs_in(view)) }
    }
}

fn ordered(difference: &Difference, before: &View, after: &View) -> Ordered {
    let touched = difference.touched().map(|id| {
        let wish = after.wishes.get(&id.name);
        let runs = wish.is_some_and(|wish| after.desired.desired(id, wish) == Desired::Running);
        (id, if runs { Goal::Up } else { Goal::Down })
    });
    let gone = difference.removed.iter().map(|id| (id, Goal::Gone));
    let targets = touched.chain(gone).map(|(id, goal)| Target {
        id: id.clone(),
        hive: before.desired.placement.get(id).cloned(),
        goal,
        not_incarnation: None,
    });
    Ordered { changed: true, targets: targets.collect(), since: after.desired.counter, rolling: None }
}

fn runs_in(view: &View) -> Runs {
    runs(view.hives.values().filter_map(|hive| hive.heartbeat.as_ref()).flat_map(|heartbeat| &heartbeat.workers))
}

/// Keys of `[queen]` that say something else now; she reads them when she starts.
fn needs_restart(started_with: &QueenConfig, now: &QueenConfig) -> Vec<String> {
    // It says whether she starts.
    changed_keys("queen", started_with, now, &["auto_start"])
}

/// The workers of the config.
#[must_use]
pub fn wishes(config: &Config) -> Wishes {
    let by_itself = config.wanted_workers(None);
    let wish = |(name, worker): (&String, &rbee_runtime::config::WorkerConfig)| {
        let auto_start = by_itself.contains(name.as_str());
        // One outside of the profile is loaded by nobody; one that says itself that it does not start is, by requests.
        let idle_ttl = worker.idle_ttl.filter(|_| auto_start || worker.auto_start == Some(false));
        let wish = Wish {
            spec: worker.to_spec(),
            model: worker.model.as_deref().and_then(|model| config.model_spec(model)),
            replicas: worker.replicas,
            auto_start,
            on_demand: idle_ttl.map(|idle_ttl| OnDemand { idle_ttl, from_start: auto_start }),
        };
        (name.clone(), wish)
    };
    config.worker.iter().map(wish).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_is_read_only_at_the_start_is_named() {
        let before = QueenConfig::default();
        assert_eq!(needs_restart(&before, &before), [""; 0]);
        let after = QueenConfig {
            max_queue: 1,
            auto_start: Some(true),
            listen: "127.0.0.1:1".parse().unwrap(),
            ..before.clone()
        };
        assert_eq!(needs_restart(&before, &after), ["queen.listen", "queen.max_queue"]);
    }

    /// QUEEN-25
    #[test]
    fn who_is_loaded_on_demand_is_said_by_idle_ttl_and_auto_start() {
        let config = Config::parse(
            "profile = \"p\"\n[profiles]\np = [\"a\", \"b\"]\n[model.m]\nsource = \"file:/m\"\n\
             [worker.a]\nmodel = \"m\"\nidle_ttl = \"10m\"\n[worker.b]\nmodel = \"m\"\n\
             [worker.c]\nmodel = \"m\"\nidle_ttl = \"10m\"\nauto_start = false\n[worker.d]\nmodel = \"m\"\nidle_ttl = \"10m\"\n",
            Path::new("rbee.toml"),
        );
        let wishes = wishes(&config.unwrap());
        let from_start = |name: &str| wishes[name].on_demand.map(|on_demand| on_demand.from_start);
        assert_eq!(["a", "b", "c", "d"].map(from_start), [Some(true), None, Some(false), None]);
    }
}
