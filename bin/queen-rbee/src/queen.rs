//! Queen from her first moment to her last.
//!
//! ```text
//!   lock ─▶ store ─▶ registry ─▶ serves ─▶ READY ─▶ hive started or adopted ─▶ … asked to stop
//!                                                                                  │
//!   gone ◀─ lock and store closed ◀─ server ends ◀─ hive stopped, or left ◀─ gateway drained
//! ```
//!
//! Killed at any point, she leaves hives and workers running; the next queen goes on from the store.

mod error;
mod parts;
mod reach;

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use daemon_lifecycle::{OwnRecord, SelfRecord, Supervisor};
use monitoring::{Bounds, History, HistoryFigures, Journal, OwnUsage};
use rbee_runtime::config::Config;
use rbee_runtime::dirs::Dirs;
use rbee_runtime::http::{Door, serve_until_closed};
use rbee_runtime::notify;
use rbee_runtime::shutdown::Shutdown;
use rbee_runtime::token::Token;
use rbee_runtime::watchdog::watched;
use tokio::net::TcpListener;

pub use error::QueenError;

use parts::Parts;
use reach::{http_client, url_of};

use crate::api::About;
use crate::events::Events;
use crate::fleet::{Fleet, Now};
use crate::gateway;
use crate::hives::{self, LocalHive};
use crate::lease::Terms;
use crate::lock::LifeLock;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::reload::{Reloads, wishes};
use crate::stopping::Stopping;
use crate::store::{Opened, Store};
use crate::upgrade::{Holdings, Inherited, Old, Outcome, Predecessor, Relaunch, Upgrader, lock_file};

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
    /// How another one like her is started; without it she cannot be upgraded.
    pub relaunch: Option<Relaunch>,
    /// The queen whose place she takes.
    pub predecessor: Option<Predecessor>,
    /// Somebody else starts this machine's hive.
    pub without_hive: bool,
}

/// Lives until `setup.shutdown` says otherwise, someone asks her to end, or another process is queen.
///
/// # Errors
/// See [`QueenError`].
pub async fn live(mut setup: Setup) -> Result<(), QueenError> {
    let mut predecessor = setup.predecessor.take();
    let registry = OnceLock::new();
    let answers = || {
        let registry: Option<Registry> = registry.get().cloned();
        async move {
            if let Some(registry) = registry {
                registry.answers().await;
            }
        }
    };
    let lived = watched(live_after(setup, &mut predecessor, &registry), answers).await;
    // Still there: she never came to be queen.
    if let (Err(error), Some(predecessor)) = (&lived, &mut predecessor) {
        predecessor.refuse(error).await;
    }
    lived
}

async fn live_after(
    setup: Setup,
    predecessor: &mut Option<Predecessor>,
    started: &OnceLock<Registry>,
) -> Result<(), QueenError> {
    let begun = Instant::now();
    let Setup { config, config_file, dirs, token, listener, shutdown, relaunch, without_hive, .. } = setup;
    let addr = listener.local_addr().map_err(|source| QueenError::Serve { source })?;
    dirs.create().map_err(|source| QueenError::Dirs { source })?;
    let inherited = match predecessor {
        Some(predecessor) => predecessor.inherit(&shutdown).await.map_err(|reason| QueenError::Handover { reason })?,
        None => Inherited::default(),
    };
    let lock = LifeLock::take(&lock_file(&dirs)).map_err(|source| QueenError::Lock { source })?;
    let Opened { store, state, restarts, .. } =
        Store::open(&dirs.queen_store_file()).map_err(|source| QueenError::Store { source })?;
    let kept = Bounds::from(&config.monitor);
    let history = History::open(&dirs.queen_history_file(), &kept).history;
    let events = Events::new(Journal::open(history.clone(), "queen", &kept).await, &config);
    events.record_begin(begun.elapsed());
    let supervisor = supervisor(&config, &dirs, addr, without_hive).await?;

    let terms = Terms { ttl: config.queen.lease_ttl, grace: config.queen.lease_ttl * 2 };
    let fleet = Fleet::new(wishes(&config), state, terms, Now::read());
    let lease_ttl_ms = u64::try_from(terms.ttl.as_millis()).unwrap_or(u64::MAX);
    let registry = Registry::start(fleet, store.clone(), lease_ttl_ms, events.clone());
    let registry = started.get_or_init(|| registry).clone();
    for (hive, heartbeat) in inherited.estate.heartbeats {
        // One that is refused is heard of again, and refused again.
        let _ = registry.heartbeat(&hive, heartbeat).await;
    }
    let url = url_of(addr);
    let own = OwnUsage::default();
    let figures = HistoryFigures { history: history.clone(), samples: own.samples() };
    let parts = Parts {
        http: http_client().map_err(|source| QueenError::Client { source })?,
        stopping: Stopping::new(shutdown),
        metrics: Arc::new(Metrics::new().with_history(figures, events.journal().counts())),
        about: Arc::new(About { url: url.clone(), started: Instant::now(), restarts }),
        registry,
        activity: Arc::default(),
        history,
        events: events.clone(),
        own,
        token,
    };
    let sampling = parts.sampling(&config, &dirs);
    let local_hive = match supervisor {
        Some(supervisor) => {
            let mut unit = hive_lifecycle::unit(&config, config_file.as_deref(), &url);
            if let Some(program) = inherited.estate.hive_program {
                // A queen from elsewhere: the hive stays what it is.
                unit.launch.program = program;
            }
            let running = hive_lifecycle::manager(&dirs, &config, config_file.as_deref());
            hives::leave_workers_if_changed(running, &unit, &parts.token).await;
            // It may dial at once: the socket listens already, and what comes waits.
            Some(
                LocalHive::start(supervisor, unit, events.clone())
                    .await
                    .map_err(|source| QueenError::Hive { source })?,
            )
        }
        None => None,
    };
    let gateway = parts.gateway(&config, addr, store.clone())?;
    let (upgrader, mut wishes_to_upgrade) = Upgrader::new();
    let reloads = Reloads::new(
        &config,
        config_file,
        &dirs,
        parts.registry.clone(),
        local_hive.clone(),
        parts.token.clone(),
        events.clone(),
    );
    let _hangups = reloads.on_hangups().map_err(|source| QueenError::Signals { source })?;
    let upkeep = parts.upkeep(config.queen.drain_timeout);
    let router = parts.router(&config, addr, gateway.clone(), local_hive.clone(), upgrader, reloads);
    let socket = listener.as_fd().try_clone_to_owned().map_err(|source| QueenError::Serve { source })?;
    let (server_end, door) = (Shutdown::new(), Door::default());
    let server = {
        let (server_end, door) = (server_end.clone(), door.clone());
        let limits = gateway::connection_limits(&config.queen);
        tokio::spawn(async move {
            serve_until_closed(listener, router, limits, &door, &server_end, LAST_ANSWERS_TIMEOUT).await
        })
    };
    if let Some(hive) = &local_hive {
        tokio::select! {
            () = hive.first_word(&parts.registry) => {}
            () = parts.stopping.draining() => {}
        }
    }
    let pid_file = relaunch.as_ref().map(|relaunch| relaunch.pid_file.clone());
    if let (Some(pid_file), None) = (&pid_file, &predecessor) {
        let stop_timeout = config.queen.drain_timeout + hive_lifecycle::shutdown_timeout(&config);
        write_record(SelfRecord {
            pid_file: pid_file.clone(),
            unit: "queen".to_owned(),
            listen: Some(addr),
            stop_timeout,
        })
        .await;
    }
    events.record_start(predecessor.is_some(), restarts);
    notify::ready();
    tracing::info!(url, version = env!("CARGO_PKG_VERSION"), restarts, "queen is ready");
    let mut succession = match predecessor.take() {
        Some(predecessor) => Some(predecessor.succeed(&parts.registry).await),
        None => None,
    };
    drop(inherited.record);

    let store_file = dirs.queen_store_file();
    let mut holdings = Holdings::new(dirs, parts.registry.clone(), local_hive.clone(), lock, store, events.clone());
    tokio::pin!(server);
    let crashed = loop {
        let ask = tokio::select! {
            ended = &mut server => break Some(ended),
            () = parts.stopping.draining() => break None,
            Some(ask) = wishes_to_upgrade.recv() => ask,
        };
        let old = Old {
            relaunch: relaunch.as_ref(),
            socket: &socket,
            door: &door,
            holdings: &mut holdings,
            stopping: &parts.stopping,
            timeout: config.queen.upgrade_timeout,
        };
        match old.carry_out(ask).await {
            Outcome::Stays => {}
            Outcome::Lost(reason) => return Err(QueenError::Handover { reason }),
            Outcome::Left(heir) => {
                drop((socket, upkeep, sampling));
                let elder = succession.as_mut();
                heir.last_answers(&gateway, &parts.registry, &parts.stopping, &config.queen, elder).await;
                server_end.drain();
                // Its own errors matter no more.
                let _ = server.await;
                if let Err(error) = gateway.usage().leave_in(store_file).await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the last usage is lost");
                }
                gateway.tallies().close().await;
                tracing::info!("this process was queen");
                return Ok(());
            }
        }
    };
    events.record_end(parts.stopping.keeps_children());
    let ended = match crashed {
        Some(ended) => ended,
        None => {
            if let Some(relaunch) = &relaunch
                && let Err(error) = OwnRecord::mark_ending(&relaunch.pid_file)
            {
                tracing::warn!(%error, "cannot write down that this is no crash");
            }
            let of_old = async {
                if let Some(succession) = &mut succession {
                    succession.end(parts.stopping.is_now(), config.queen.drain_timeout).await;
                }
            };
            tokio::join!(parts.end(&gateway, local_hive.as_ref(), config.queen.drain_timeout), of_old);
            server_end.drain();
            server.await
        }
    };
    events.close().await;
    if let Err(error) = gateway.usage().flush().await {
        tracing::warn!(error = &error as &dyn std::error::Error, "the last usage is lost");
    }
    gateway.tallies().close().await;
    holdings.close().await;
    tracing::info!("queen ends");
    let ended = ended.unwrap_or_else(|panic| Err(std::io::Error::other(panic)));
    ended.map(drop).map_err(|source| QueenError::Serve { source })?;
    if let Some(Err(error)) = pid_file.map(|pid_file| SelfRecord::remove(&pid_file)) {
        tracing::warn!(error = &error as &dyn std::error::Error, "the PID file is left behind");
    }
    Ok(())
}

/// Where nobody of ours started her, she writes herself down: keeper looks there.
async fn write_record(record: SelfRecord) {
    match tokio::task::spawn_blocking(move || record.write()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "keeper does not know that this queen runs");
        }
        Err(error) => tracing::warn!(%error, "keeper does not know that this queen runs"),
    }
}

async fn supervisor(
    config: &Config,
    dirs: &Dirs,
    addr: SocketAddr,
    without_hive: bool,
) -> Result<Option<Supervisor>, QueenError> {
    if without_hive || !hives::is_ours(config, addr.port()) {
        return Ok(None);
    }
    let supervisor = Supervisor::open(hive_lifecycle::supervisor_config(dirs)).await;
    supervisor.map(Some).map_err(|source| QueenError::Hive { source })
}
