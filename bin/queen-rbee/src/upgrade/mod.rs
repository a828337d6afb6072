//! `queen upgrade`: a new process beside the old one takes over, and nobody who asks queen something notices.
//!
//! ```text
//!   old   serves ─ checks the binary ─ starts it ──────────▶ lets go of locks, store, hive ──▶ names it ─▶ last answers ─▶ gone
//!   new                                reads config ─ waits ──────────▶ takes them ─ serves ─ READY ─▶ queen
//! ```
//!
//! Both have the one listening socket: whoever connects is answered by either. The old one goes on answering while it has
//! let go, with what it knew of the fleet; orders and heartbeats that come meanwhile wait for whoever is queen then.

mod handover;
mod holdings;
mod line;
mod new;
mod old;

pub use holdings::{Holdings, lock_file};
pub use new::{Inherited, Predecessor, Succession};
pub use old::{Ask, Heir, Old, Outcome, Relaunch, Upgrader};
