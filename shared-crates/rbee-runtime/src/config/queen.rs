//! `[queen]` and the keys below it, with their defaults.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use model_store::Sha256Digest;
use serde::{Deserialize, Serialize};

use super::schema::loopback;
use super::values::duration;

/// `[queen]`: the orchestrator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueenConfig {
    /// Where she listens. Default `127.0.0.1:7833`; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Starts with `up`, whatever the role says.
    pub auto_start: Option<bool>,
    /// Names and addresses, besides the loopback ones and `listen`'s, that requests may put in their Host header.
    pub hosts: Vec<String>,
    /// Largest request body. Default 8 MiB.
    pub max_body: ByteSize,
    /// How long a hive counts as alive after its last heartbeat. Default 15 s.
    #[serde(with = "duration")]
    pub lease_ttl: Duration,
    /// How long requests in flight may take to end when she stops, and at a worker that she drains to stop, restart or move
    /// it. Default 30 s.
    #[serde(with = "duration")]
    pub drain_timeout: Duration,
    /// How long an upgrade may take until the new process serves; then the old one goes on alone. Default 60 s.
    #[serde(with = "duration")]
    pub upgrade_timeout: Duration,
    /// How long the answers that were being written when she was upgraded may take to end. Default 10 min.
    #[serde(with = "duration")]
    pub upgrade_drain_timeout: Duration,
    /// Requests that may wait for a worker of one model; more are answered `queue_full`. Default 1024.
    pub max_queue: u32,
    /// How long a request may wait for a worker; for one that is being loaded, its start timeout longer. Default 60 s.
    #[serde(with = "duration")]
    pub queue_timeout: Duration,
    /// How long our engine may be silent within an answer before the answer is gone on with elsewhere. Default 10 s.
    #[serde(with = "duration")]
    pub stall_timeout: Duration,
    /// How long another engine may be silent within an answer before the answer counts as broken. Default 120 s.
    #[serde(with = "duration")]
    pub command_stall_timeout: Duration,
    /// After how much silence a streaming client gets a comment, so that nobody takes the stream for dead. Default 5 s.
    #[serde(with = "duration")]
    pub comment_interval: Duration,
    /// Deaths of workers in a row that one request may meet without getting any further; after that it is answered
    /// `upstream_broken`. Default 5.
    pub attempts_max: u32,
    /// How long the body of a request may take to come, besides a second for each 64 KiB of it. Default 30 s.
    #[serde(with = "duration")]
    pub body_timeout: Duration,
    /// Connections open at once; beyond that the longest idle one is closed. Never more than half the open files allowed.
    /// Default 4096.
    pub max_connections: u32,
    /// How long a connection may take for the head of a request, and wait for the next one. Default 75 s.
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    /// `[queen.keys.NAME]`: who may use `/v1`. With any, a key is needed on loopback too, and what each uses is counted.
    pub keys: BTreeMap<String, KeyConfig>,
}

impl Default for QueenConfig {
    fn default() -> Self {
        Self {
            listen: loopback(rbee_api::QUEEN_PORT),
            auto_start: None,
            hosts: Vec::new(),
            max_body: ByteSize::mib(8),
            lease_ttl: Duration::from_secs(15),
            drain_timeout: Duration::from_secs(30),
            upgrade_timeout: Duration::from_secs(60),
            upgrade_drain_timeout: Duration::from_secs(600),
            max_queue: 1024,
            queue_timeout: Duration::from_secs(60),
            stall_timeout: Duration::from_secs(10),
            command_stall_timeout: Duration::from_secs(120),
            comment_interval: Duration::from_secs(5),
            attempts_max: 5,
            body_timeout: Duration::from_secs(30),
            max_connections: 4096,
            idle_timeout: Duration::from_secs(75),
            keys: BTreeMap::new(),
        }
    }
}

/// `[queen.keys.NAME]`: an API key. Either `key_sha256` or `key_file`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyConfig {
    /// SHA-256 of the key, as `printf %s KEY | sha256sum` gives it: the file then holds no secret.
    pub key_sha256: Option<Sha256Digest>,
    /// A file that holds the key; read when queen starts.
    pub key_file: Option<PathBuf>,
    /// Models it may use. Absent: all.
    pub models: Option<Vec<String>>,
}
