//! Lifecycle of daemons: start, watch, restart, stop and adopt processes, and never lie about them.
//!
//! - [`DaemonManager`] manages one daemon for a program that does not stay (a command line).
//! - [`Supervisor`] manages many for a program that stays (a daemon of its own).
//!
//! Both execute the decisions of the pure `supervision` core.

mod after_exit;
mod errand;
mod files;
pub mod inspect;
mod launch;
mod limits;
mod listen;
mod lock;
mod log_tail;
mod logs;
mod manager;
mod notify;
mod pid_file;
mod probe;
mod probing;
mod process;
mod question;
mod run;
mod self_record;
mod stale_lock;
mod state_file;
mod successor;
mod supervisor;
mod trial;

pub use after_exit::AfterExit;
pub use errand::{Errand, end_errands, errands_of, run_errand};
pub use launch::{HANDOVER_VARIABLE, Launch};
pub use limits::{IoClass, Limits};
pub use logs::{LogFollower, LogPolicy};
pub use manager::{DaemonConfig, DaemonError, DaemonManager, DaemonStatus, Witness};
pub use probe::{HealthProbe, Probe, Readiness};
pub use process::{CgroupReach, StopSignal, UnknownSignal, clock_is_synchronised, end_rest_of_unit, give_back_memory};
pub use self_record::SelfRecord;
pub use successor::{OwnRecord, RecordError, Successor, SuccessorError, is_successor, replace_self, sweep_cgroups};
pub use supervision::{
    Excess, ExitHow, Now, Phase, Policy, Resource, Restart, RestartHistory, RestartVerdict, Spec, StopMode, UnitName,
};
pub use supervisor::{
    Bounds, Fall, FallOutcome, Happened, Heard, History, Snapshot, Supervisor, SupervisorConfig, SupervisorError,
    UnitEvent, UnitEvents, UnitSpec, UnitStatus,
};
pub use trial::{Said, TrialError, try_out};
