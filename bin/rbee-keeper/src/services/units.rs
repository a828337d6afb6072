//! The unit that starts a daemon of this installation, for the verbs that would start it otherwise: the service manager does, so that
//! there is never a second one.

use std::time::Duration;

use rbee_runtime::services::Services;
use service_definition::Tier;

use super::systemd::{Systemd, UnitState};
use crate::context::Context;
use crate::failure::Failure;

/// systemd ends every wait of its own before that.
const PATIENCE: Duration = Duration::from_secs(3600);

/// A unit that is installed, under a service manager that runs.
#[derive(Debug, Clone)]
pub(crate) struct Unit {
    pub(crate) systemd: Systemd,
    pub(crate) name: String,
}

impl Context {
    /// What the service manager has of this tier. Nothing where none is installed, or it does not run (a rescue system, a container):
    /// then keeper starts daemons as ever.
    pub(crate) fn unit_of(&self, tier: Tier) -> Option<Unit> {
        let file = self.dirs.services_file();
        let services = Services::read(&file).unwrap_or_else(|error| {
            self.ui.warn(&format!("cannot read {}: {error}; what it says of services is left out", file.display()));
            Services::default()
        });
        let name = match tier {
            Tier::Queen => services.queen,
            Tier::Hive => services.hive,
        }?;
        let systemd = Systemd::of(services.scope);
        systemd.runs().then_some(Unit { systemd, name })
    }
}

impl Unit {
    /// Starts it; returns when it is ready. The unit itself says how long that may take.
    pub(crate) async fn start(&self) -> Result<UnitState, Failure> {
        self.systemd.start(&self.name, PATIENCE).await
    }

    /// Stops it, and what waits to be started again.
    pub(crate) async fn stop(&self) -> Result<(), Failure> {
        self.systemd.stop(&self.name, PATIENCE).await
    }

    /// What systemd says of it.
    pub(crate) async fn state(&self) -> Result<UnitState, Failure> {
        self.systemd.state(&self.name).await
    }
}
