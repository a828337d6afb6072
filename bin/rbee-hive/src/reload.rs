//! Reading the configuration anew: only what it says otherwise is touched.
//!
//! ```text
//!   SIGHUP ─┐
//!           ├─▶ read ─ok─▶ orders anew, verbs kept ─▶ pool ─▶ what became of it
//!   POST  ──┘     └─wrong─▶ nothing changes, said to the caller and in the log
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use monitoring::NewEvent;
use rbee_api::difference::{Difference, Runs, runs, words};
use rbee_api::{ApiError, ErrorCode, EventKind, ReloadReply, ReplicaId};
use rbee_runtime::config::Config;
use serde_json::json;

use crate::api::{Api, Owner};
use crate::orders::Orders;
use crate::settle::Goal;
use crate::source::configured;
use crate::view::View;

/// A configuration taken, not settled yet.
#[derive(Debug)]
pub(crate) struct Reloaded {
    /// What to wait for.
    pub goal: Goal,
    difference: Difference,
    /// Runs before, by replica.
    before: Runs,
    needs_hive_restart: Vec<String>,
}

/// Reads the file and tells the pool; a caller that goes away in between leaves nothing half done.
///
/// # Errors
/// [`ErrorCode::InvalidConfig`] with everything that is wrong; then nothing changed.
pub(crate) async fn reload(api: &Arc<Api>) -> Result<Reloaded, ApiError> {
    let api = Arc::clone(api);
    let done = tokio::spawn(async move {
        let taken = take(&api).await;
        match &taken {
            Ok(reloaded) => {
                let Difference { added, removed, changed, untouched, .. } = &reloaded.difference;
                let (added, removed, changed) = (words(added), words(removed), words(changed));
                tracing::info!(?added, ?removed, ?changed, untouched, "configuration reloaded");
                let cause = "the configuration was read anew";
                let detail = json!({ "added": added, "removed": removed, "changed": changed, "untouched": untouched });
                let event = NewEvent::now("hive", EventKind::Reloaded).with_cause(cause).with_detail(detail);
                api.events.record(event);
                for key in &reloaded.needs_hive_restart {
                    tracing::warn!(key, "changed, but is read only when the hive starts");
                }
            }
            Err(error) => tracing::error!(%error, "the configuration was not reloaded; nothing changed"),
        }
        taken
    });
    done.await.unwrap_or_else(|error| Err(ApiError::new(ErrorCode::Internal, format!("the reload broke off: {error}"))))
}

async fn take(api: &Api) -> Result<Reloaded, ApiError> {
    let config = api.source.read_again().await;
    let config = config.map_err(|error| ApiError::new(ErrorCode::InvalidConfig, format!("{error:#}")))?;
    let Owner::Itself(orders) = &api.owner else {
        // The workers are queen's business; how they are run here is ours.
        return Ok(own_keys(api, &config).await);
    };
    let mut orders = orders.lock().await;
    let next = Orders::new(configured(&config, api.source.profile.as_deref()), Some(&orders.to_stored()));
    let difference = Difference::between(&orders.assignment().workers, &next.assignment().workers);
    let before = runs_in(&api.pool.view().borrow());
    *orders = next;
    api.pool.assign(orders.to_stored()).await.map_err(|error| {
        let message = format!("{error}; it is carried out, but the next start of the hive will not know of it");
        ApiError::new(ErrorCode::Internal, message)
    })?;
    let assignment = orders.assignment();
    let waited_for: BTreeSet<&ReplicaId> = difference.touched().collect();
    let workers = assignment.workers.iter().filter(|worker| waited_for.contains(&worker.id)).cloned().collect();
    let goal = Goal { generation: assignment.generation, workers, gone: difference.removed.clone() };
    Ok(Reloaded { goal, difference, before, ..own_keys(api, &config).await })
}

/// The keys of `[hive]` that can change while it runs.
async fn own_keys(api: &Api, config: &Config) -> Reloaded {
    api.pool.use_ports(config.hive.ports).await;
    api.events.use_config(config);
    let untouched = api.pool.view().borrow().workers.len();
    Reloaded {
        goal: Goal::default(),
        difference: Difference { untouched, ..Difference::default() },
        before: runs_in(&api.pool.view().borrow()),
        needs_hive_restart: api.started_with.needs_restart(config),
    }
}

impl Reloaded {
    /// What became of it, as `view` shows.
    pub(crate) fn reply(self, view: &View) -> ReloadReply {
        let needs_hive_restart = self.needs_hive_restart;
        ReloadReply { needs_hive_restart, ..self.difference.reply(&self.before, &runs_in(view)) }
    }
}

fn runs_in(view: &View) -> Runs {
    runs(view.workers.iter().map(|worker| &worker.status))
}

#[cfg(test)]
mod tests {
    use rbee_api::{Desired, WorkerAssignment};

    use super::*;
    use crate::reconcile::tests::worker;

    fn needing(name: &str, needs: &str) -> WorkerAssignment {
        let mut worker = worker(name, 0, Desired::Running);
        worker.spec_mut().depends_on = vec![needs.to_owned()];
        worker
    }

    #[test]
    fn a_difference_is_what_was_added_went_or_changed_and_who_stands_on_it() {
        let plain = |name: &str| worker(name, 0, Desired::Running);
        let before = [plain("a"), plain("b"), plain("c"), needing("d", "b"), needing("e", "d"), needing("f", "a")];
        let mut after = before.to_vec();
        after.remove(2);
        after[1].spec_mut().stop_timeout_ms = 7;
        after.push(plain("g"));
        let found = Difference::between(&before, &after);
        let names = |ids: &[ReplicaId]| ids.iter().map(|id| id.name.clone()).collect::<String>();
        assert_eq!(names(&found.added) + "," + &names(&found.removed) + "," + &names(&found.changed), "g,c,b");
        assert_eq!((names(&found.concerned), found.untouched), ("de".to_owned(), 2));
        assert_eq!(Difference::between(&before, &before), Difference { untouched: 6, ..Difference::default() });
    }
}
