//! Why there is no queen.

use daemon_lifecycle::SupervisorError;
use rbee_runtime::dirs::DirsError;

use crate::gateway::KeyError;
use crate::lock::LifeLockError;
use crate::store::StoreError;

/// Why queen cannot live, or did not end well.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueenError {
    /// The folders cannot be made.
    #[error("cannot make queen's folders")]
    Dirs {
        /// Why.
        #[source]
        source: DirsError,
    },
    /// Another queen lives here.
    #[error("cannot take queen's lock")]
    Lock {
        /// Why.
        #[source]
        source: LifeLockError,
    },
    /// The store cannot be used.
    #[error("cannot use queen's store")]
    Store {
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The hive of this machine cannot be supervised.
    #[error("cannot supervise the hive of this machine")]
    Hive {
        /// Why.
        #[source]
        source: SupervisorError,
    },
    /// SIGHUP cannot be listened for.
    #[error("cannot listen for signals")]
    Signals {
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The HTTP client cannot be made.
    #[error("cannot make an HTTP client")]
    Client {
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The place of another queen cannot be taken, or was lost.
    #[error("the handover failed: {reason}")]
    Handover {
        /// Why.
        reason: String,
    },
    /// An API key cannot be used.
    #[error("cannot use the API keys")]
    Keys {
        /// Why.
        #[source]
        source: KeyError,
    },
    /// The server ended by itself.
    #[error("cannot serve")]
    Serve {
        /// Why.
        #[source]
        source: std::io::Error,
    },
}
