//! Queen and hive under this machine's service manager: what shall be, and what is.
//!
//! ```text
//!   configuration, environment, flags ── plan ──▶ definitions ── service-definition ──▶ files, commands
//!   verbs of keeper ── units ──▶ the unit that starts a daemon, where one is installed ── systemd ──▶ systemctl
//! ```

mod files;
mod plan;
mod systemd;
mod units;

pub(crate) use files::{Written, make_folder, remove, write};
pub(crate) use plan::{Plan, Planned};
pub(crate) use systemd::{Systemd, UnitState, linger, linger_no_more};
pub(crate) use units::Unit;
