//! The pool: the one task that tells the supervisor what the newest assignment wants.
//!
//! ```text
//!   assign ──┐                 prepare (model, port)            ┌─▶ kill, stop
//!   report ──┼─▶ reconcile ─▶ what can be told now ─▶ plan ─▶ ──┼─▶ apply (declare, update, remove)
//!   changed ─┘                                                  └─▶ restart, retry, start
//!                                └────────▶ View ◀── statuses of the supervisor
//! ```
//!
//! An order for a worker is told when everything it needs is here; until then the worker goes on as it was told
//! before. What was told is written down before it is carried out, so that the next hive adopts the same workers
//! with the same ports.

mod carry_out;
mod dependencies;
mod handle;
mod kept;
mod open;
mod prepare;
mod system_ports;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use daemon_lifecycle::{Snapshot, Supervisor, UnitSpec, UnitStatus};
use model_store::ModelStore;
use rbee_api::{Assignment, Desired, Phase, ReplicaId, WorkerAssignment};
use rbee_runtime::config::PortRange;
use tokio::sync::{mpsc, watch};
use tokio_util::task::AbortOnDropHandle;
use worker_lifecycle::{Machine, Placement, unit_spec, wants_port};

use self::handle::Command;
pub use self::handle::Pool;
pub use self::open::{PoolConfig, PoolError};
use self::prepare::{News, Report, Ticket};
use self::system_ports::SystemPorts;
use crate::ports::PortTable;
use crate::reconcile::{self, Told};
use crate::state::StateFiles;
use crate::view::{Ahead, View, WorkerView, is_live};

/// The task's state.
struct Task {
    supervisor: Supervisor,
    snapshot: watch::Receiver<Snapshot>,
    machine: Machine,
    range: PortRange,
    models: ModelStore,
    files: StateFiles,
    /// The newest assignment.
    wanted: Option<Arc<Assignment>>,
    told: Told,
    /// Fleet whose generations `told` counts in.
    told_fleet: Option<String>,
    /// What the supervisor knows of each replica in `told`.
    units: BTreeMap<ReplicaId, Unit>,
    ports: PortTable,
    preparations: BTreeMap<ReplicaId, Preparation>,
    /// Replicas that wait for others to be known to the supervisor, and for whom.
    held: BTreeMap<ReplicaId, Ahead>,
    next_ticket: Ticket,
    stopping: bool,
    reports: mpsc::Sender<Report>,
    view: watch::Sender<View>,
}

/// One replica as the supervisor was told it.
#[derive(Debug, Clone)]
struct Unit {
    /// The supervisor holds the same one.
    spec: Arc<UnitSpec>,
    placement: Placement,
}

/// Orders for one replica on their way to the supervisor.
struct Preparation {
    worker: WorkerAssignment,
    ticket: Ticket,
    stage: Stage,
    /// Calls the pull off when the orders change.
    _pull: Option<AbortOnDropHandle<()>>,
}

enum Stage {
    Ahead(Ahead),
    /// As `Ahead::Blocked`, until another replica gives its port back.
    NoPort(Ahead),
    Ready(Box<Unit>),
}

/// Looking at a thousand workers anew for every one that starts would cost more than starting them: between two looks
/// it rests so many times as long as the last one took.
const REST_FACTOR: u32 = 8;
/// So old the view may get, however long a look takes; and so long it rests while all is being stopped.
const REST_MAX: Duration = Duration::from_millis(250);

impl Task {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>, mut reports: mpsc::Receiver<Report>) {
        loop {
            let began = Instant::now();
            self.reconcile().await;
            self.publish();
            let rest = if self.stopping { REST_MAX } else { (began.elapsed() * REST_FACTOR).min(REST_MAX) };
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    // Every handle is gone.
                    None => return,
                },
                Some(report) = reports.recv() => self.take_report(report),
                changed = rested(rest, &mut self.snapshot) => if changed.is_err() {
                    return;
                },
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Assign { orders, reply } => {
                let saved = self.files.save_orders(&orders);
                self.wanted = Some(Arc::new(orders.assignment));
                self.reconcile().await;
                self.publish();
                // Who asked may have gone; the order stands.
                let _ = reply.send(saved);
            }
            Command::Range(range) => self.use_ports(range),
            Command::Answer { reply } => _ = reply.send(()),
            Command::Stopping { reply } => {
                self.stopping = true;
                self.preparations.clear();
                self.publish();
                let _ = reply.send(());
            }
        }
    }

    /// Ports are chosen from another range from now on; a replica that runs keeps its own until it is placed anew.
    fn use_ports(&mut self, range: PortRange) {
        self.range = range;
        self.preparations.retain(|_, preparation| !matches!(preparation.stage, Stage::NoPort(_)));
    }

    async fn reconcile(&mut self) {
        if self.stopping {
            return;
        }
        let Some(wanted) = self.wanted.clone() else { return };
        if self.told_fleet.as_ref() != Some(&wanted.fleet_id) {
            self.told.forget_generations();
            self.told_fleet = Some(wanted.fleet_id.clone());
        }
        self.forget_gone();
        self.prepare(&wanted.workers);
        self.held = self.held_back(&wanted.workers);
        let operations = reconcile::plan(&self.tellable(&wanted.workers), &self.told);
        if !operations.is_empty() {
            self.carry_out(operations).await;
        }
    }

    /// Units that were being removed and have no process any more.
    fn forget_gone(&mut self) {
        let gone: Vec<ReplicaId> = {
            let snapshot = self.snapshot.borrow_and_update();
            let is_gone = |id: &ReplicaId| !snapshot.contains_key(&id.unit_name());
            let removing = self.told.units().filter(|unit| unit.removing).map(|unit| unit.worker.id.clone());
            removing.filter(is_gone).collect()
        };
        for id in &gone {
            self.told.removed(id);
            self.units.remove(id);
            self.ports.release(id);
            self.drop_kept(id);
        }
        if !gone.is_empty() {
            self.preparations.retain(|_, preparation| !matches!(preparation.stage, Stage::NoPort(_)));
            self.write_units();
        }
    }

    /// Begins what new orders need, and calls off what nobody wants any more.
    fn prepare(&mut self, wanted: &[WorkerAssignment]) {
        let wanted: BTreeMap<_, _> = wanted
            .iter()
            .filter(|worker| worker.desired == Desired::Running && !self.told.is_as(worker))
            .map(|worker| (&worker.id, worker))
            .collect();
        self.preparations.retain(|id, preparation| wanted.get(id).is_some_and(|worker| **worker == preparation.worker));
        for worker in wanted.into_values() {
            if !self.preparations.contains_key(&worker.id) {
                let preparation = self.begin(worker);
                self.preparations.insert(worker.id.clone(), preparation);
            }
        }
    }

    fn begin(&mut self, worker: &WorkerAssignment) -> Preparation {
        self.next_ticket += 1;
        let ticket = self.next_ticket;
        let (stage, pull) = match &worker.model {
            None => (self.place(worker, Placement::default()), None),
            Some(model) => {
                let note = format!("checking model {}", model.name);
                let pull = prepare::begin(self.models.clone(), model.clone(), ticket, self.reports.clone());
                (Stage::Ahead(Ahead::Preparing { note }), Some(pull))
            }
        };
        Preparation { worker: worker.clone(), ticket, stage, _pull: pull }
    }

    fn take_report(&mut self, report: Report) {
        let found = self.preparations.values().find(|preparation| preparation.ticket == report.ticket);
        let Some(worker) = found.map(|preparation| preparation.worker.clone()) else { return };
        let stage = match report.news {
            News::Note(note) => Stage::Ahead(Ahead::Preparing { note }),
            News::Blocked(reason) => {
                tracing::error!(worker = %worker.id, reason, "cannot be started");
                Stage::Ahead(Ahead::Blocked { phase: Phase::Unavailable, reason })
            }
            News::Here { path, bytes } => {
                self.place(&worker, Placement { port: None, model_path: Some(path), model_bytes: bytes })
            }
        };
        if let Some(preparation) = self.preparations.get_mut(&worker.id) {
            preparation.stage = stage;
        }
    }

    /// Chooses a port and makes the unit, now that the model is here.
    fn place(&mut self, worker: &WorkerAssignment, mut placement: Placement) -> Stage {
        if wants_port(worker) {
            match self.port(&worker.id) {
                Ok(port) => placement.port = Some(port),
                Err(reason) => {
                    tracing::error!(worker = %worker.id, reason, "cannot be started");
                    return Stage::NoPort(Ahead::Blocked { phase: Phase::Failed, reason });
                }
            }
        }
        match unit_spec(worker, &placement, &self.machine) {
            Ok(spec) => {
                self.make_room_for_kept(worker);
                Stage::Ready(Box::new(Unit { spec: Arc::new(spec), placement }))
            }
            Err(error) => {
                tracing::error!(worker = %worker.id, %error, "cannot be started");
                let phase = if error.is_unavailable() { Phase::Unavailable } else { Phase::Failed };
                Stage::Ahead(Ahead::Blocked { phase, reason: error.to_string() })
            }
        }
    }

    fn port(&mut self, id: &ReplicaId) -> Result<u16, String> {
        let status = self.status(id);
        let is_live = status.as_ref().is_some_and(|unit| is_live(unit));
        if let Some(port) = self.ports.get(id).filter(|_| is_live) {
            // Busy, and by the worker itself.
            return Ok(port);
        }
        let own = status.and_then(|status| status.listen).map(|address| address.port());
        let mut system = SystemPorts { ip: self.machine.bind_ip, own };
        self.ports.assign(id, self.range, &mut system).map_err(|error| error.to_string())
    }

    /// What can be told now: orders whose needs are met, else what was told before.
    fn tellable(&self, wanted: &[WorkerAssignment]) -> Vec<WorkerAssignment> {
        wanted.iter().filter_map(|worker| self.tellable_now(worker)).collect()
    }

    fn tellable_now(&self, worker: &WorkerAssignment) -> Option<WorkerAssignment> {
        let told = self.told.get(&worker.id).filter(|unit| !unit.removing).map(|unit| &unit.worker);
        if worker.desired != Desired::Running {
            // Nothing new is needed to end; one that never ran need not be known.
            return told.map(|told| WorkerAssignment { desired: worker.desired, ..told.clone() });
        }
        match self.preparations.get(&worker.id).map(|preparation| &preparation.stage) {
            None | Some(Stage::Ready(_)) if !self.held.contains_key(&worker.id) => Some(worker.clone()),
            _ => told.cloned(),
        }
    }

    /// How long a start may take, the model's size considered as soon as it is known.
    fn start_timeout_ms(&self, id: &ReplicaId, wanted: Option<&WorkerAssignment>) -> u64 {
        let ready = match self.preparations.get(id).map(|preparation| &preparation.stage) {
            Some(Stage::Ready(unit)) => Some(&**unit),
            _ => self.units.get(id),
        };
        let configured = || wanted.map_or(0, |worker| worker.spec.start_timeout_ms);
        ready.map_or_else(configured, |unit| unit.spec.policy.start_timeout_ms)
    }

    fn status(&self, id: &ReplicaId) -> Option<Arc<UnitStatus>> {
        self.snapshot.borrow().get(&id.unit_name()).cloned()
    }

    fn publish(&self) {
        let snapshot = self.snapshot.borrow();
        let wanted: BTreeMap<_, _> = self.wanted.iter().flat_map(|a| &a.workers).map(|w| (&w.id, w)).collect();
        let told = self.told.units().map(|unit| &unit.worker.id);
        let ids: BTreeSet<&ReplicaId> = wanted.keys().copied().chain(told).collect();
        let workers = ids.into_iter().map(|id| {
            let ahead = match self.preparations.get(id).map(|preparation| &preparation.stage) {
                Some(Stage::Ahead(ahead) | Stage::NoPort(ahead)) => Some(ahead),
                Some(Stage::Ready(_)) | None => self.held.get(id),
            };
            let unit = snapshot.get(&id.unit_name()).map(Arc::as_ref);
            let mut view = WorkerView::new(id, wanted.get(id).copied(), &self.told, unit, ahead, self.ports.get(id));
            view.status.start_timeout_ms = self.start_timeout_ms(id, wanted.get(id).copied());
            view
        });
        let next = View {
            fleet_id: self.wanted.as_ref().map(|wanted| wanted.fleet_id.clone()),
            generation: self.wanted.as_ref().map_or(0, |wanted| wanted.generation),
            stopping: self.stopping,
            stop_timeout_ms_max: self.told.units().map(|unit| unit.worker.spec.stop_timeout_ms).max().unwrap_or(0),
            workers: Arc::new(workers.collect()),
        };
        drop(snapshot);
        self.view.send_if_modified(|view| {
            let changed = *view != next;
            *view = next;
            changed
        });
    }
}

/// Resolves at the next change, not before the rest is over.
async fn rested(rest: Duration, snapshot: &mut watch::Receiver<Snapshot>) -> Result<(), watch::error::RecvError> {
    tokio::time::sleep(rest).await;
    snapshot.changed().await
}
