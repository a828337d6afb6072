//! One life of a hive: take over, serve, keep, end.
//!
//! ```text
//!   lock + adopt ─▶ socket ─▶ READY ─▶ serving ──SIGTERM──────────▶ stop workers ─▶ drain API ─▶ gone
//!                               ▲   │     └─shutdown keep_children─▶ detach ──────▶ drain API ─▶ gone
//!                               └───┘ SIGHUP: the configuration is read again
//! ```
//!
//! The API answers until the workers are stopped, so that `status` shows them going.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use monitoring::{Bounds, Disk, History, Journal, Sampler};
use rbee_api::{ControlClient, ShutdownRequest};
use rbee_runtime::binaries;
use rbee_runtime::config::{Config, DOCKER_HOST_DEFAULT};
use rbee_runtime::dirs::Dirs;
use rbee_runtime::http::{AllowedHosts, Drained, serve};
use rbee_runtime::shutdown::Shutdown;
use rbee_runtime::token::Token;
use rbee_runtime::watchdog::watched;
use rbee_runtime::{listen, notify};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;
use worker_lifecycle::{ContainerEngine, Machine, Programs};

use crate::api::{Api, Owner, router};
use crate::events::{Events, HOOKS_TIMEOUT};
use crate::link::{Identity, Line, Link};
use crate::monitor::{self, Monitor};
use crate::orders::Orders;
use crate::pool::{Pool, PoolConfig};
use crate::reload::reload;
use crate::source::{Source, StartedWith, configured};
use crate::state::StateFiles;
use crate::upgrade::{self, Relaunch, Replacement, Upgrades};

/// What a hive is run with.
#[derive(Debug)]
pub struct Settings {
    /// The configuration, as it was read first.
    pub config: Config,
    /// Where it is read again.
    pub source: Source,
    /// Where everything is.
    pub dirs: Dirs,
    /// What clients must present, and what we present to queen.
    pub token: Token,
    /// `PATH`, to look for our engine.
    pub path: Option<std::ffi::OsString>,
    /// How another one is started in our place; without it this hive cannot be upgraded.
    pub relaunch: Option<Relaunch>,
    /// What the environment says of the upgrade that made us.
    pub handover: Option<String>,
    /// Where the environment says that the container engine listens.
    pub docker_host: Option<String>,
}

/// A hive that serves.
#[derive(Debug)]
pub struct Hive {
    url: String,
    address: SocketAddr,
    pool: Pool,
    api: Arc<Api>,
    line: Option<Line>,
    requests: mpsc::Receiver<ShutdownRequest>,
    serving: Shutdown,
    server: JoinHandle<io::Result<Drained>>,
    drain_timeout: Duration,
    /// What `{run_dir}` stands for.
    files_of_workers: PathBuf,
    relaunch: Option<Relaunch>,
    wishes_to_upgrade: mpsc::Receiver<u64>,
    /// Our listening socket, for who comes after an upgrade.
    socket: OwnedFd,
    history: History,
    /// Looks at the workers for as long as it is held.
    monitor: AbortOnDropHandle<()>,
    events: Events,
    /// Takes in what happens to the workers, to their end.
    telling: JoinHandle<()>,
}

impl Hive {
    /// Takes over what an earlier hive left, and serves.
    ///
    /// # Errors
    /// When another hive runs here, the port is taken, or a file cannot be used.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        let started = Instant::now();
        let Settings { config, source, dirs, token, path, relaunch, handover, docker_host } = settings;
        let (upgrades, wishes_to_upgrade) = Upgrades::new(handover.as_deref());
        let hive = &config.hive;
        let sampler = Sampler::new().context("cannot look at processes")?;
        let files = StateFiles::new(&dirs);
        let files_of_workers = dirs.run_dir().join("worker-files");
        let state_dir = dirs.state_dir().join("workers");
        let machine = Machine {
            bind_ip: hive.listen.ip(),
            run_dir: files_of_workers.clone(),
            state_dir: state_dir.clone(),
            programs: Programs::new(binaries::own_dir(), path.as_deref()),
            token: Some(token.expose().to_owned()),
            cores: sampler.cores(),
            home: std::env::home_dir(),
            containers: ContainerEngine {
                // As everywhere: the environment, then the file, then the default.
                host: docker_host.or_else(|| hive.docker.clone()).unwrap_or_else(|| DOCKER_HOST_DEFAULT.to_owned()),
                timeout: hive.docker_timeout,
                shim: binaries::own_program().context("cannot tell which program this is")?,
                owner: std::path::absolute(dirs.workers_run_dir()).context("no working folder")?,
            },
        };
        // First of all, since it holds the lock: whoever is second must not touch anything.
        let pool = Pool::open(PoolConfig {
            run_dir: dirs.workers_run_dir(),
            log_dir: dirs.workers_log_dir(),
            models_dir: dirs.models_dir().to_owned(),
            files: files.clone(),
            ports: hive.ports,
            workers_max: usize::try_from(hive.workers_max).unwrap_or(usize::MAX),
            starts_max: hive.starts_max.and_then(|starts| usize::try_from(starts).ok()),
            machine,
        })
        .await?;
        std::fs::create_dir_all(&files_of_workers)
            .with_context(|| format!("cannot create {}", files_of_workers.display()))?;
        let kept = Bounds::from(&config.monitor);
        let history = History::open(&dirs.hive_history_file(), &kept).history;
        let journal = Journal::open(history.clone(), "hive", &kept).await;
        let events = Events::new(journal, hive.queen.is_some().then(|| hive.name.clone()));
        events.use_config(&config);
        events.record_begin(started.elapsed());
        let telling = events.follow(&pool);
        let samples = Arc::default();
        let listener = listen::listener(hive.listen, true)?;
        let socket = listener.as_fd().try_clone_to_owned().context("cannot share the listening socket")?;
        let address = listener.local_addr().context("the listening socket has no address")?;
        let url = format!("http://{}", reachable(address));
        let sampler = Arc::new(Mutex::new(sampler));
        let stored = files.load_orders()?;
        let (owner, line) = match &hive.queen {
            None => {
                let orders = Orders::new(configured(&config, source.profile.as_deref()), stored.as_ref());
                pool.assign(orders.to_stored()).await?;
                (Owner::Itself(AsyncMutex::new(orders)), None)
            }
            Some(queen) => {
                let current = stored.as_ref().map(|stored| stored.assignment.clone());
                if let Some(stored) = stored {
                    pool.assign(stored).await?;
                }
                let identity = Identity {
                    name: hive.name.clone(),
                    machine_id: files.identity()?,
                    url: url.clone(),
                    labels: hive.labels.clone(),
                    started,
                };
                let client = ControlClient::new(queen, Some(token.expose().to_owned())).context("no HTTP client")?;
                let (sampler, history) = (Arc::clone(&sampler), history.clone());
                let (events, upgrades) = (events.clone(), upgrades.clone());
                let link = Link { client, identity, pool: pool.clone(), sampler, history, events, upgrades };
                (Owner::Queen(queen.clone()), Some(Line::up(link, current)))
            }
        };
        let (shutdowns, requests) = mpsc::channel(1);
        let serving = Shutdown::new();
        let api = Api {
            name: hive.name.clone(),
            url: url.clone(),
            started,
            owner,
            pool: pool.clone(),
            sampler: Arc::clone(&sampler),
            history: history.clone(),
            samples: Arc::clone(&samples),
            events: events.clone(),
            shutdowns,
            shutdown: serving.clone(),
            source,
            upgrades,
            started_with: StartedWith { hive: hive.clone(), monitor: config.monitor.clone() },
        };
        let api = Arc::new(api);
        let monitor = Monitor {
            pool: pool.clone(),
            history: history.clone(),
            sampler,
            samples,
            disk: Disk::new(dirs.workers_log_dir(), state_dir).with_own("hive", dirs.hive_files(&hive.name)),
            started,
        };
        let monitor = AbortOnDropHandle::new(tokio::spawn(monitor.run(config.monitor.clone())));
        let router = router(Arc::clone(&api), token, AllowedHosts::new(address, &hive.hosts), body_bytes_max(&config));
        let (of_server, drain_timeout) = (serving.clone(), hive.drain_timeout);
        let server = tokio::spawn(async move { serve(listener, router, &of_server, drain_timeout).await });
        events.record_start(&api.upgrades);
        Ok(Self {
            url,
            address,
            pool,
            api,
            line,
            requests,
            serving,
            server,
            drain_timeout,
            files_of_workers,
            relaunch,
            wishes_to_upgrade,
            socket,
            history,
            monitor,
            events,
            telling,
        })
    }

    /// Where its API is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where its API listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How long a deliberate end may take.
    #[must_use]
    pub fn stop_timeout(&self) -> Duration {
        self.pool.stop_timeout_max() + self.drain_timeout + HOOKS_TIMEOUT + Duration::from_secs(5)
    }

    /// Keeps the workers until `shutdown` or a request over the API ends it, or another program is to take its place. A service
    /// manager hears that it works, if it wants to.
    ///
    /// # Errors
    /// When the workers cannot be stopped or left, or the server dies.
    pub async fn keep(self, shutdown: &Shutdown) -> anyhow::Result<Option<Replacement>> {
        let pool = self.pool.clone();
        let answers = || {
            let pool = pool.clone();
            async move { pool.answers().await }
        };
        watched(self.keep_workers(shutdown), answers).await
    }

    async fn keep_workers(mut self, shutdown: &Shutdown) -> anyhow::Result<Option<Replacement>> {
        let mut broken = None;
        let mut hangups = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        let api = Arc::clone(&self.api);
        let reloads = async {
            while hangups.recv().await.is_some() {
                // What came of it stands in the log.
                let _ = reload(&api).await;
            }
            std::future::pending::<std::convert::Infallible>().await
        };
        let upgrades = self.api.upgrades.clone();
        let upgrade = passed_check(self.relaunch.as_ref(), &upgrades, &mut self.wishes_to_upgrade);
        let mut upgraded = None;
        let request = tokio::select! {
            // A request first: who asked us to leave the workers, and then sends SIGTERM, means both.
            biased;
            Some(request) = self.requests.recv() => request,
            generation = upgrade => {
                upgraded = Some(generation);
                ShutdownRequest { keep_children: true, now: true }
            }
            () = shutdown.draining() => ShutdownRequest::default(),
            never = reloads => match never {},
            ended = &mut self.server => {
                broken = ended.context("the server died").and_then(|ended| ended.context("cannot accept connections")).err();
                // Whoever supervises us starts us anew, and the workers need not know.
                ShutdownRequest { keep_children: true, now: true }
            }
        };
        self.events.record_end(&request, upgraded.is_some());
        if upgraded.is_none() {
            notify::stopping();
            notify::extend_timeout(self.patience_us());
        }
        if let Some(line) = self.line {
            line.down(!request.keep_children).await;
        }
        let ended = end(&self.pool, &request, shutdown, &mut self.requests).await;
        if ended.is_ok() && !request.keep_children {
            // A socket that a killed worker left. Nothing lives that could miss it.
            clear(&self.files_of_workers);
        }
        self.serving.drain();
        drop(self.monitor);
        self.events.close(self.telling).await;
        monitor::close(&self.history).await;
        if let Some(broken) = broken {
            return Err(broken);
        }
        // Its own errors matter no more; what matters is that it is over.
        let _ = self.server.await;
        ended?;
        let replacement = upgraded.zip(self.relaunch);
        Ok(replacement.map(|(generation, relaunch)| Replacement { relaunch, generation, socket: self.socket }))
    }

    /// How long our end may take: the slowest worker, requests in flight, and some for ourselves.
    fn patience_us(&self) -> u32 {
        u32::try_from(self.stop_timeout().as_micros()).unwrap_or(u32::MAX)
    }
}

/// Resolves when a binary has passed its self-check and shall take our place: the upgrade's number.
async fn passed_check(relaunch: Option<&Relaunch>, upgrades: &Upgrades, wishes: &mut mpsc::Receiver<u64>) -> u64 {
    while let Some(generation) = wishes.recv().await {
        let Some(relaunch) = relaunch else {
            upgrades.failed(generation, "this hive is part of another program".to_owned());
            continue;
        };
        tracing::info!(generation, binary = %relaunch.program.display(), "upgrade: begins");
        match upgrade::check(relaunch).await {
            Ok(said) => {
                tracing::info!(version = said.version, "upgrade: leaves the workers to the new binary");
                return generation;
            }
            Err(error) => upgrades.failed(generation, error),
        }
    }
    std::future::pending().await
}

async fn end(
    pool: &Pool,
    request: &ShutdownRequest,
    shutdown: &Shutdown,
    requests: &mut mpsc::Receiver<ShutdownRequest>,
) -> anyhow::Result<()> {
    if request.keep_children {
        tracing::info!("leaving the workers to the next hive");
        return pool.detach().await.context("cannot leave the workers");
    }
    tracing::info!(now = request.now, "stopping all workers");
    if request.now {
        return pool.stop(true).await.context("cannot stop the workers");
    }
    let stop = pool.stop(false);
    tokio::pin!(stop);
    tokio::select! {
        done = &mut stop => return done.context("cannot stop the workers"),
        () = shutdown.immediate() => tracing::warn!("asked again: stopping at once"),
        () = told_to_hurry(requests) => tracing::warn!("told to hurry: stopping at once"),
    }
    // Either call may be the one that sees the end.
    let (first, hurried) = tokio::join!(stop, pool.stop(true));
    first.or(hurried).context("cannot stop the workers")
}

/// Resolves when a later request has no patience.
async fn told_to_hurry(requests: &mut mpsc::Receiver<ShutdownRequest>) {
    while let Some(request) = requests.recv().await {
        if request.now {
            return;
        }
    }
    std::future::pending().await
}

fn clear(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %folder.display(), %error, "cannot remove what the workers left");
    }
}

/// Where others on this machine reach a socket.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if ip.is_unspecified() => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port()),
        _ => address,
    }
}

fn body_bytes_max(config: &Config) -> usize {
    usize::try_from(config.hive.max_body.as_u64()).unwrap_or(usize::MAX)
}
