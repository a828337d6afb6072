//! The start of a pool: what the hive before us left is taken over exactly as it was told, before anything new is.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use daemon_lifecycle::{Phase, Supervisor, SupervisorConfig, SupervisorError};
use model_store::ModelStore;
use rbee_api::{Desired, ReplicaId};
use rbee_runtime::config::PortRange;
use tokio::sync::{mpsc, watch};
use worker_lifecycle::{Machine, unit_spec};

use super::dependencies::with_dependencies;
use super::{Pool, Task, Unit};
use crate::ports::PortTable;
use crate::reconcile::Told;
use crate::state::{StateError, StateFiles, UnitRecord};
use crate::view::View;

/// Orders and reports that may wait for the pool.
const QUEUE_MAX: usize = 64;

/// What a pool works with.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// Folder of PID files, locks and FIFOs.
    pub run_dir: PathBuf,
    /// Folder of the workers' logs.
    pub log_dir: PathBuf,
    /// Folder of models.
    pub models_dir: PathBuf,
    /// What is written down.
    pub files: StateFiles,
    /// Ports that workers may have.
    pub ports: PortRange,
    /// Workers that are taken at most.
    pub workers_max: usize,
    /// Workers that may be on their way up at once; absent: as many as the cores suggest.
    pub starts_max: Option<usize>,
    /// Facts for the workers' command lines.
    pub machine: Machine,
}

/// A pool could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The run directory is another hive's, or unusable.
    #[error("cannot supervise workers")]
    Supervisor {
        /// Why.
        #[source]
        source: SupervisorError,
    },
    /// What was written down cannot be read.
    #[error("cannot learn what the hive before this one did")]
    State {
        /// Why.
        #[source]
        source: StateError,
    },
}

impl Pool {
    /// Takes the run directory, adopts what lives there and starts the pool's task. Nothing is wanted yet.
    ///
    /// # Errors
    /// See [`PoolError`].
    pub async fn open(config: PoolConfig) -> Result<Self, PoolError> {
        let failed = |source| PoolError::Supervisor { source };
        let mut supervising = SupervisorConfig::new(&config.run_dir, &config.log_dir);
        supervising.bounds.units_max = config.workers_max;
        if let Some(starts_max) = config.starts_max {
            supervising.bounds.starts_max = starts_max;
        }
        let supervisor = Supervisor::open(supervising).await.map_err(failed)?;
        // From before the first takeover on.
        let events = supervisor.events().await.map_err(failed)?;
        let records = config.files.load_units().map_err(|source| PoolError::State { source })?;
        let restored = restore(&supervisor, records.units, &config.machine).await.map_err(failed)?;
        let ports = restored.iter().filter_map(|(id, (_, unit))| Some((id.clone(), unit.placement.port?)));
        let ports = PortTable::restored(ports);
        let snapshot = supervisor.subscribe();
        let mut told = Told::default();
        let mut units = BTreeMap::new();
        for (id, (record, unit)) in restored {
            let phase = snapshot.borrow().get(&id.unit_name()).map(|status| status.phase);
            told.adopted(as_found(record, phase).worker);
            units.insert(id, unit);
        }
        let (commands, command_queue) = mpsc::channel(QUEUE_MAX);
        let (reports, report_queue) = mpsc::channel(QUEUE_MAX);
        let (view, view_of_handles) = watch::channel(View::default());
        let task = Task {
            supervisor: supervisor.clone(),
            snapshot,
            machine: config.machine,
            range: config.ports,
            models: ModelStore::new(config.models_dir),
            files: config.files,
            wanted: None,
            told,
            told_fleet: records.fleet_id,
            units,
            ports,
            preparations: BTreeMap::new(),
            held: BTreeMap::new(),
            next_ticket: 0,
            stopping: false,
            reports,
            view,
        };
        tokio::spawn(task.run(command_queue, report_queue));
        let events = Arc::new(Mutex::new(Some(events)));
        Ok(Self { commands, view: view_of_handles, supervisor, events, hooks: Arc::default() })
    }
}

/// Declares the units as they were told before, so that their processes are adopted; without those that cannot be.
async fn restore(
    supervisor: &Supervisor,
    records: Vec<UnitRecord>,
    machine: &Machine,
) -> Result<BTreeMap<ReplicaId, (UnitRecord, Unit)>, SupervisorError> {
    let mut restored = BTreeMap::new();
    for record in records {
        match unit_spec(&record.worker, &record.placement, machine) {
            Ok(spec) => {
                let unit = Unit { spec: Arc::new(spec), placement: record.placement.clone() };
                restored.insert(record.worker.id.clone(), (record, unit));
            }
            Err(error) => tracing::error!(worker = %record.worker.id, %error, "cannot be taken over"),
        }
    }
    loop {
        let set = with_dependencies(
            restored.values().map(|(record, unit): &(UnitRecord, Unit)| (&record.worker, &unit.spec)),
        );
        match supervisor.apply(set).await {
            Err(SupervisorError::InvalidSpec { unit, reason }) => {
                tracing::error!(unit, reason, "cannot be taken over");
                let known = ReplicaId::from_unit_name(&unit).and_then(|id| restored.remove(&id));
                if known.is_none() {
                    return Err(SupervisorError::InvalidSpec { unit, reason });
                }
            }
            other => return other.map(|()| restored),
        }
    }
}

/// What counts is what was found: a hive may die between writing an order down and carrying it out.
fn as_found(mut record: UnitRecord, phase: Option<Phase>) -> UnitRecord {
    let runs = matches!(phase, Some(Phase::Starting | Phase::Running | Phase::Restarting));
    record.worker.desired = match record.worker.desired {
        _ if runs => Desired::Running,
        Desired::Running => Desired::Stopped,
        down => down,
    };
    record
}
