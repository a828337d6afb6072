//! Queen from her first moment to her last.
//!
//! ```text
//!   lock ─▶ store ─▶ registry ─▶ serves ─▶ READY ─▶ hive started or adopted ─▶ … asked to stop
//!                                                                                  │
//!   gone ◀─ lock and store closed ◀─ server ends ◀─ hive stopped, or left ◀─ gateway drained
//! ```
//!
//! Killed at any point, she leaves hives and workers running; the next queen goes on from the store.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use daemon_lifecycle::{Supervisor, SupervisorError};
use rbee_runtime::config::Config;
use rbee_runtime::dirs::{Dirs, DirsError};
use rbee_runtime::http::{AllowedHosts, finish, require_token, serve};
use rbee_runtime::notify;
use rbee_runtime::shutdown::Shutdown;
use rbee_runtime::token::Token;
use tokio::net::TcpListener;

use crate::activity::Activity;
use crate::api::{self, About, Api};
use crate::desired::{OnDemand, Wish, Wishes};
use crate::fleet::{Fleet, Now};
use crate::gateway::{self, Gateway, Limits};
use crate::hives::{self, LocalHive};
use crate::lease::Terms;
use crate::lock::{LifeLock, LifeLockError};
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::stopping::Stopping;
use crate::store::{Opened, Store, StoreError};

/// How long a worker's machine may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a machine that is gone goes unnoticed in the middle of an answer.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// How long the server may take to end once everything is answered.
const LAST_ANSWERS_TIMEOUT: Duration = Duration::from_secs(2);

/// All that queen needs to live.
#[derive(Debug)]
pub struct Setup {
    /// What to run.
    pub config: Config,
    /// Where that stands; the hive reads it too.
    pub config_file: Option<PathBuf>,
    /// Where files live.
    pub dirs: Dirs,
    /// The fleet's token.
    pub token: Token,
    /// Where to serve.
    pub listener: TcpListener,
    /// What ends her.
    pub shutdown: Shutdown,
}

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
    /// The HTTP client cannot be made.
    #[error("cannot make an HTTP client")]
    Client {
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The server ended by itself.
    #[error("cannot serve")]
    Serve {
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Lives until `setup.shutdown` says otherwise, or someone asks her to end.
///
/// # Errors
/// See [`QueenError`].
pub async fn live(setup: Setup) -> Result<(), QueenError> {
    let Setup { config, config_file, dirs, token, listener, shutdown } = setup;
    let addr = listener.local_addr().map_err(|source| QueenError::Serve { source })?;
    dirs.create().map_err(|source| QueenError::Dirs { source })?;
    let lock = LifeLock::take(&lock_file(&dirs)).map_err(|source| QueenError::Lock { source })?;
    let Opened { store, state, restarts, .. } =
        Store::open(&dirs.queen_store_file()).map_err(|source| QueenError::Store { source })?;
    let supervisor = supervisor(&config, &dirs, addr).await?;

    let terms = Terms { ttl: config.queen.lease_ttl, grace: config.queen.lease_ttl * 2 };
    let fleet = Fleet::new(wishes(&config), state, terms, Now::read());
    let lease_ttl_ms = u64::try_from(terms.ttl.as_millis()).unwrap_or(u64::MAX);
    let registry = Registry::start(fleet, store.clone(), lease_ttl_ms);
    let url = url_of(addr);
    let parts = Parts {
        http: http_client().map_err(|source| QueenError::Client { source })?,
        stopping: Stopping::new(shutdown),
        metrics: Arc::new(Metrics::new()),
        about: Arc::new(About { url: url.clone(), started: Instant::now(), restarts }),
        registry,
        activity: Arc::default(),
        token,
    };
    let local_hive = match supervisor {
        Some(supervisor) => {
            let unit = hive_lifecycle::unit(&config, config_file.as_deref(), &url);
            let running = hive_lifecycle::manager(&dirs, &config, config_file.as_deref());
            hives::leave_workers_if_changed(running, &unit, &parts.token).await;
            // It may dial at once: the socket listens already, and what comes waits.
            Some(LocalHive::start(supervisor, unit).await.map_err(|source| QueenError::Hive { source })?)
        }
        None => None,
    };
    let gateway = parts.gateway(&config);
    let router = parts.router(&config, addr, gateway.clone(), local_hive.clone());
    let server_end = Shutdown::new();
    let server = {
        let server_end = server_end.clone();
        tokio::spawn(async move { serve(listener, router, &server_end, LAST_ANSWERS_TIMEOUT).await })
    };
    if let Some(hive) = &local_hive {
        tokio::select! {
            () = hive.first_word(&parts.registry) => {}
            () = parts.stopping.draining() => {}
        }
    }
    notify::ready();
    tracing::info!(url, version = env!("CARGO_PKG_VERSION"), restarts, "queen is ready");

    tokio::pin!(server);
    let crashed = tokio::select! {
        ended = &mut server => Some(ended),
        () = parts.stopping.draining() => None,
    };
    let ended = match crashed {
        Some(ended) => ended,
        None => {
            parts.end(&gateway, local_hive.as_ref(), config.queen.drain_timeout).await;
            server_end.drain();
            server.await
        }
    };
    close(&store, lock).await;
    let ended = ended.unwrap_or_else(|panic| Err(std::io::Error::other(panic)));
    ended.map(drop).map_err(|source| QueenError::Serve { source })
}

/// What the server is made of.
struct Parts {
    registry: Registry,
    stopping: Stopping,
    metrics: Arc<Metrics>,
    activity: Arc<Activity>,
    about: Arc<About>,
    http: reqwest::Client,
    token: Token,
}

impl Parts {
    fn gateway(&self, config: &Config) -> Gateway {
        let parts = gateway::Parts {
            registry: self.registry.clone(),
            stopping: self.stopping.clone(),
            metrics: Arc::clone(&self.metrics),
            activity: Arc::clone(&self.activity),
            token: self.token.clone(),
        };
        Gateway::new(parts, Limits::new(&config.queen))
    }

    fn router(&self, config: &Config, addr: SocketAddr, gateway: Gateway, local_hive: Option<LocalHive>) -> Router {
        let control = api::router(Api {
            registry: self.registry.clone(),
            local_hive,
            stopping: self.stopping.clone(),
            token: self.token.clone(),
            http: self.http.clone(),
            metrics: Arc::clone(&self.metrics),
            about: Arc::clone(&self.about),
        });
        // On loopback OpenAI's clients may send what they like; other machines must know the token.
        let inference = match addr.ip().is_loopback() {
            true => gateway.router(),
            false => require_token(gateway.router(), self.token.clone()),
        };
        let hosts = AllowedHosts::new(addr, &config.queen.hosts);
        finish(control.merge(inference), hosts, body_bytes_max(config))
    }

    async fn end(&self, gateway: &Gateway, local_hive: Option<&LocalHive>, drain_timeout: Duration) {
        notify::stopping();
        tokio::select! {
            () = gateway.drained() => tracing::info!("every request is answered"),
            () = tokio::time::sleep(drain_timeout) => tracing::warn!(?drain_timeout, "requests are cut off: time is over"),
            () = self.stopping.immediate() => tracing::warn!("requests are cut off: told to stop at once"),
        }
        let Some(hive) = local_hive else { return };
        let ended = match self.stopping.keeps_children() {
            true => hive.detach().await,
            false => self.stop_hive(hive).await,
        };
        if let Err(error) = ended {
            tracing::error!(error = &error as &dyn std::error::Error, "the hive of this machine did not end in order");
        }
    }

    /// Stops the hive, faster once somebody is in a hurry.
    async fn stop_hive(&self, hive: &LocalHive) -> Result<(), SupervisorError> {
        if !self.stopping.is_now() {
            tokio::select! {
                biased;
                stopped = hive.stop() => return stopped,
                () = self.stopping.immediate() => {}
            }
        }
        hive.stop_now(&self.token).await
    }
}

fn body_bytes_max(config: &Config) -> usize {
    usize::try_from(config.queen.max_body.as_u64()).unwrap_or(usize::MAX)
}

async fn supervisor(config: &Config, dirs: &Dirs, addr: SocketAddr) -> Result<Option<Supervisor>, QueenError> {
    if !hives::is_ours(config, addr.port()) {
        return Ok(None);
    }
    let supervisor = Supervisor::open(hive_lifecycle::supervisor_config(dirs)).await;
    supervisor.map(Some).map_err(|source| QueenError::Hive { source })
}

fn http_client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_keepalive(KEEPALIVE)
        .http1_only()
        .build()
}

async fn close(store: &Store, lock: LifeLock) {
    let marked = store.mark_stopped().await;
    if let Err(error) = marked.and(store.close().await) {
        tracing::error!(error = &error as &dyn std::error::Error, "the store did not close in order");
    }
    if let Err(error) = lock.release() {
        tracing::warn!(%error, "the lock file is left behind");
    }
    tracing::info!("queen ends");
}

/// The workers of the config.
fn wishes(config: &Config) -> Wishes {
    let by_itself = config.wanted_workers(None);
    let wish = |(name, worker): (&String, &rbee_runtime::config::WorkerConfig)| {
        let wish = Wish {
            spec: worker.to_spec(),
            model: worker.model.as_deref().and_then(|model| config.model_spec(model)),
            replicas: worker.replicas,
            auto_start: by_itself.contains(name.as_str()),
            on_demand: on_demand(worker, by_itself.contains(name.as_str())),
        };
        (name.clone(), wish)
    };
    config.worker.iter().map(wish).collect()
}

/// A worker outside of the profile is not loaded by anybody; one that says itself that it does not start is, by requests.
fn on_demand(worker: &rbee_runtime::config::WorkerConfig, by_itself: bool) -> Option<OnDemand> {
    let idle_ttl = worker.idle_ttl.filter(|_| by_itself || worker.auto_start == Some(false))?;
    Some(OnDemand { idle_ttl, from_start: by_itself })
}

/// The lock of queen's life; the one beside her PID file belongs to whoever manages her.
fn lock_file(dirs: &Dirs) -> PathBuf {
    dirs.run_dir().join(Path::new("queen-rbee.lock"))
}

/// Where queen can be reached from this machine.
fn url_of(addr: SocketAddr) -> String {
    match (addr.ip().is_unspecified(), addr) {
        (true, SocketAddr::V4(_)) => format!("http://127.0.0.1:{}", addr.port()),
        (true, SocketAddr::V6(_)) => format!("http://[::1]:{}", addr.port()),
        (false, _) => format!("http://{addr}"),
    }
}
