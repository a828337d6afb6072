//! Lifecycle of daemons: start, watch, restart, stop and adopt processes, and never lie about them.
//!
//! - [`DaemonManager`] manages one daemon for a program that does not stay (a command line).
//! - [`Supervisor`] manages many for a program that stays (a daemon of its own).
//!
//! Both execute the decisions of the pure `supervision` core.

mod manager;
mod probe;
mod supervisor;

pub use manager::{DaemonConfig, DaemonError, DaemonManager, DaemonStatus};
pub use probe::{HealthProbe, Probe, Readiness};
pub use supervision::{ExitHow, Phase, Policy, Restart, Spec, StopMode};
pub use supervisor::{
    Bounds, Launch, LogFollower, Snapshot, Supervisor, SupervisorConfig, SupervisorError, UnitSpec, UnitStatus,
};
