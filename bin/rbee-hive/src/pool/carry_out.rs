//! Telling the supervisor: operations in their order, and what is written down around them.

use std::collections::BTreeSet;

use daemon_lifecycle::{StopMode, SupervisorError};
use rbee_api::{Phase, ReplicaId};
use rbee_runtime::error_chain;

use super::{Preparation, Stage, Task, Unit};
use crate::reconcile::Operation;
use crate::state::{UnitRecord, UnitRecords};
use crate::view::Ahead;

impl Task {
    pub(super) async fn carry_out(&mut self, operations: Vec<Operation>) {
        let is_end = |operation: &Operation| matches!(operation, Operation::Kill(_) | Operation::Stop(_));
        let (ends, rest): (Vec<_>, Vec<_>) = operations.into_iter().partition(is_end);
        for operation in ends {
            self.tell(operation).await;
        }
        let (runs, declarations): (Vec<_>, Vec<_>) = rest.into_iter().partition(|operation| {
            matches!(operation, Operation::Start(..) | Operation::Restart(..) | Operation::Retry { .. })
        });
        let refused = self.declare(declarations, &runs).await;
        for operation in runs.into_iter().filter(|operation| !refused.contains(operation.id())) {
            self.tell(operation).await;
        }
        self.write_units();
    }

    /// Declares the whole set anew, with what the runs to come need. Returns the replicas that were refused.
    async fn declare(&mut self, mut declarations: Vec<Operation>, runs: &[Operation]) -> BTreeSet<ReplicaId> {
        let mut refused = BTreeSet::new();
        let (told_before, units_before) = (self.told.clone(), self.units.clone());
        loop {
            let ids = declarations.iter().chain(runs).map(Operation::id).filter(|id| !refused.contains(*id));
            let changed = self.take_units(ids.cloned().collect());
            for declaration in &declarations {
                self.told.note(declaration);
            }
            if declarations.is_empty() && !changed {
                return refused;
            }
            self.write_units();
            match self.supervisor.apply(self.declared_set()).await {
                Ok(()) => return refused,
                Err(SupervisorError::InvalidSpec { unit, reason }) => {
                    let id = ReplicaId::from_unit_name(&unit).filter(|id| !refused.contains(id));
                    tracing::error!(unit, reason, "cannot be supervised");
                    (self.told, self.units) = (told_before.clone(), units_before.clone());
                    let Some(id) = id else { return refused };
                    declarations.retain(|declaration| *declaration.id() != id);
                    self.block(&id, reason);
                    refused.insert(id);
                }
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "cannot tell the supervisor");
                    (self.told, self.units) = (told_before, units_before);
                    let concerned: BTreeSet<_> = declarations.iter().chain(runs).map(|o| o.id().clone()).collect();
                    for id in &concerned {
                        self.block(id, error_chain(&error));
                    }
                    return concerned;
                }
            }
        }
    }

    /// Takes over what was made ready for these replicas. Returns whether that differs from what was declared.
    fn take_units(&mut self, ids: BTreeSet<ReplicaId>) -> bool {
        let mut changed = false;
        for id in ids {
            let Some(Preparation { stage: Stage::Ready(unit), .. }) = self.preparations.get(&id) else { continue };
            let same = |known: &Unit| known.spec == unit.spec;
            changed |= !self.units.get(&id).is_some_and(same);
            self.units.insert(id, (**unit).clone());
        }
        changed
    }

    fn block(&mut self, id: &ReplicaId, reason: String) {
        if let Some(preparation) = self.preparations.get_mut(id) {
            preparation.stage = Stage::Ahead(Ahead::Blocked { phase: Phase::Failed, reason });
        }
    }

    async fn tell(&mut self, operation: Operation) {
        let unit = operation.id().unit_name();
        let told = match &operation {
            Operation::Kill(_) => self.supervisor.kill(&unit).await,
            Operation::Stop(_) => self.supervisor.stop(&unit, StopMode::Graceful).await,
            Operation::Start(..) => self.supervisor.start(&unit).await,
            Operation::Restart(..) => self.supervisor.restart(&unit).await,
            Operation::Retry { force, .. } => self.supervisor.retry(&unit, *force).await,
            Operation::Declare(_) | Operation::Update(_) | Operation::Remove(_) => Ok(()),
        };
        match told {
            Ok(()) => {
                tracing::info!(%operation, "told");
                self.told.note(&operation);
            }
            Err(error) => tracing::error!(unit, error = &error as &dyn std::error::Error, "cannot tell the supervisor"),
        }
    }

    /// Writes down what the supervisor is told. A hive that cannot write goes on: its workers matter more.
    pub(super) fn write_units(&self) {
        let record = |worker: &rbee_api::WorkerAssignment| {
            let placement = self.units.get(&worker.id)?.placement.clone();
            Some(UnitRecord { worker: worker.clone(), placement })
        };
        let staying = self.told.units().filter(|unit| !unit.removing);
        let units = staying.filter_map(|unit| record(&unit.worker)).collect();
        let records = UnitRecords { fleet_id: self.told_fleet.clone(), units };
        if let Err(error) = self.files.save_units(&records) {
            tracing::error!(error = &error as &dyn std::error::Error, "a crash now would cost the workers' adoption");
        }
    }
}
