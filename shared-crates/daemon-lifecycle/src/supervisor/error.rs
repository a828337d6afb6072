//! What can go wrong between a caller and a supervisor.

use std::io;
use std::path::PathBuf;

/// An operation of a [`Supervisor`](crate::Supervisor) failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SupervisorError {
    /// Another process supervises this run directory.
    #[error("{} is held by {}", path.display(), holder_text(*holder, *since))]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The pid its holder wrote into it.
        holder: Option<u32>,
        /// When its holder took it.
        since: Option<jiff::Timestamp>,
    },
    /// A file or directory of the supervisor could not be used.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// What was tried, as a verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// No unit has this name.
    #[error("no unit is named {unit}")]
    UnknownUnit {
        /// The name asked for.
        unit: String,
    },
    /// A declared unit cannot be supervised as declared.
    #[error("unit {unit}: {reason}")]
    InvalidSpec {
        /// The unit.
        unit: String,
        /// What is wrong.
        reason: String,
    },
    /// So many listen already.
    #[error("{max} already listen to this supervisor's events")]
    TooManyListeners {
        /// The most.
        max: usize,
    },
    /// The supervisor was shut down or detached.
    #[error("the supervisor is closed")]
    Closed,
}

fn holder_text(holder: Option<u32>, since: Option<jiff::Timestamp>) -> String {
    let who = holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    since.map_or_else(|| who.clone(), |since| format!("{who} since {since}"))
}
