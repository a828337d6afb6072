//! The words rbee's tiers speak to each other and to their users: ids, phases, status, desired state,
//! control verbs, the error body, and one typed client for all of them.
//!
//! Nothing here knows how a daemon is supervised; `supervision` knows nothing of this crate.

pub mod assignment;
pub mod client;
pub mod container;
pub mod control;
pub mod difference;
pub mod error;
pub mod event;
pub mod heartbeat;
pub mod ids;
pub mod openai;
pub mod phase;
pub mod report;
pub mod status;
pub mod usage;

pub use assignment::{Assignment, Desired, ModelSpec, WorkerAssignment, WorkerSpec};
pub use client::{ClientError, ControlClient};
pub use control::{
    DrainReply, DrainRequest, HiveUpgradeReply, HiveUpgradeRequest, LogQuery, ReloadReply, ReloadRequest, ScaleRequest,
    ShutdownRequest, UpgradeReply, UpgradeRequest, Verb, VerbReply, VerbRequest, WhyReply,
};
pub use error::{ApiError, ErrorBody, ErrorCode};
pub use event::{Event, EventFollower, EventKind, EventQuery, EventsReply, Since};
pub use heartbeat::{Heartbeat, HeartbeatReply, HiveUpgrade};
pub use ids::{ReplicaId, WorkerRef};
pub use phase::Phase;
pub use status::{Figures, FleetStatus, Health, HiveStatus, ProcessUsage, QueenStatus, WorkerStatus};

/// Header that carries one request's id through all tiers and their logs.
pub const CORRELATION_ID_HEADER: &str = "x-correlation-id";
/// Header that names one change: asked for again with the same key, it is not made again.
pub const IDEMPOTENCY_KEY_HEADER: &str = "idempotency-key";
/// Header with which queen asks our engine for the notes that let an answer be gone on with elsewhere.
pub const RESUMABLE_HEADER: &str = "x-rbee-resumable";
/// Default port of queen-rbee.
pub const QUEEN_PORT: u16 = 7833;
/// Default port of rbee-hive.
pub const HIVE_PORT: u16 = 7835;
