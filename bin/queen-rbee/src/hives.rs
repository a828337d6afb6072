//! This machine's hive: queen's supervisor starts it, restarts it when it dies, adopts it when queen herself has died.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use daemon_lifecycle::{
    DaemonManager, DaemonStatus, StopMode, Supervisor, SupervisorConfig, SupervisorError, UnitSpec, UnitStatus,
};
use rbee_api::{ControlClient, HiveStatus, Phase, ShutdownRequest};
use rbee_runtime::config::Config;
use rbee_runtime::token::Token;

use crate::events::Events;
use crate::registry::Registry;

/// What a hive that was asked to end gets to end its workers once queen is in a hurry.
const HURRY_TIMEOUT_MS: u64 = 15_000;
/// How long a hive may take to leave its workers.
const LEAVE_TIMEOUT_S: u64 = 10;
/// How long queen waits at her start for the first word of a hive she has adopted.
const FIRST_WORD_TIMEOUT: Duration = Duration::from_secs(3);

/// Asks a hive that an earlier queen started otherwise than `unit` says (another port of hers, another file) to go and
/// leave its workers: the one that is started in its place adopts them. The supervisor alone would end them with it.
pub async fn leave_workers_if_changed(running: DaemonManager, unit: &UnitSpec, token: &Token) {
    let found = tokio::task::spawn_blocking(move || match (running.status(), running.listen_address()) {
        (Ok(DaemonStatus::Running(pid)), Ok(Some(address))) => Some((arguments(pid)?, address, running)),
        _ => None,
    });
    let Ok(Some((args, address, running))) = found.await else { return };
    if args == unit.launch.args {
        return;
    }
    tracing::info!(hive = unit.name, "the hive was started otherwise: it goes and leaves its workers to the next one");
    let request = ShutdownRequest { keep_children: true, now: true };
    let asked = match ControlClient::new(&format!("http://{address}"), Some(token.expose().to_owned())) {
        Ok(control) => control.shutdown(&request).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = asked {
        tracing::warn!(hive = unit.name, error, "the hive cannot be asked to leave its workers: they end with it");
        return;
    }
    // It lets go of its port with its last answer. One that takes too long is ended by the supervisor.
    let gone = tokio::task::spawn_blocking(move || running.wait_stopped(LEAVE_TIMEOUT_S)).await;
    tracing::debug!(?gone, hive = unit.name, "left its workers");
}

/// What the process was started with, without its program.
fn arguments(pid: u32) -> Option<Vec<String>> {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = line.strip_suffix(&[0])?.split(|byte| *byte == 0);
    Some(words.skip(1).map(|word| String::from_utf8_lossy(word).into_owned()).collect())
}

/// The hive that queen keeps; clones share it.
#[derive(Debug, Clone)]
pub struct LocalHive {
    name: String,
    unit: UnitSpec,
    /// Another one after an upgrade that failed.
    supervisor: Arc<RwLock<Supervisor>>,
    events: Events,
}

impl LocalHive {
    /// Starts the hive that `unit` describes, or takes over the one that runs.
    ///
    /// # Errors
    /// As [`Supervisor::apply`] and [`Supervisor::start`]. A hive that cannot be started is no error: its status
    /// says so.
    pub async fn start(supervisor: Supervisor, unit: UnitSpec, events: Events) -> Result<Self, SupervisorError> {
        let name = unit.name.clone();
        events.follow_hive(supervisor.events().await?);
        supervisor.apply(vec![unit.clone()]).await?;
        supervisor.start(&name).await?;
        let hive = Self { name, unit, supervisor: Arc::new(RwLock::new(supervisor)), events };
        tokio::spawn(hive.clone().log_phases());
        Ok(hive)
    }

    /// Takes the hive over again, that was left to another queen.
    ///
    /// # Errors
    /// As [`Supervisor::open`] and [`LocalHive::start`].
    pub async fn reopen(&self, config: SupervisorConfig) -> Result<(), SupervisorError> {
        let supervisor = Supervisor::open(config).await?;
        self.events.follow_hive(supervisor.events().await?);
        supervisor.apply(vec![self.unit.clone()]).await?;
        supervisor.start(&self.name).await?;
        *self.supervisor.write().unwrap_or_else(PoisonError::into_inner) = supervisor;
        tokio::spawn(self.clone().log_phases());
        Ok(())
    }

    /// The program that it is started from.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.unit.launch.program.clone()
    }

    fn supervisor(&self) -> Supervisor {
        self.supervisor.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where a hive was adopted: waits for its first word, so that what is said of it is true from the start. Bounded.
    pub async fn first_word(&self, registry: &Registry) {
        if !self.unit().is_some_and(|unit| unit.adopted) {
            return;
        }
        let mut views = registry.views();
        let spoken = views.wait_for(|view| view.hives.get(&self.name).is_some_and(|hive| hive.heartbeat.is_some()));
        if tokio::time::timeout(FIRST_WORD_TIMEOUT, spoken).await.is_err() {
            tracing::warn!(hive = self.name, "the adopted hive has not been heard of yet");
        }
    }

    /// Ends the hive, and with it its workers; returns when nothing of it is left.
    ///
    /// # Errors
    /// As [`Supervisor::shutdown`].
    pub async fn stop(&self) -> Result<(), SupervisorError> {
        self.supervisor().shutdown(StopMode::Graceful).await
    }

    /// The same without patience. A hive is never simply killed: its workers would live on.
    ///
    /// # Errors
    /// As [`Supervisor::shutdown`].
    pub async fn stop_now(&self, token: &Token) -> Result<(), SupervisorError> {
        if let Some(url) = self.unit().and_then(|unit| unit.listen).map(|addr| format!("http://{addr}")) {
            let request = ShutdownRequest { keep_children: false, now: true };
            let asked = match ControlClient::new(&url, Some(token.expose().to_owned())) {
                Ok(control) => control.shutdown(&request).await.map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            if let Err(error) = asked {
                tracing::debug!(hive = self.name, error, "the hive cannot be told to hurry");
            }
        }
        self.supervisor().shutdown(StopMode::Within { timeout_ms: HURRY_TIMEOUT_MS }).await
    }

    /// Leaves the hive running for the next queen.
    ///
    /// # Errors
    /// As [`Supervisor::detach`].
    pub async fn detach(&self) -> Result<(), SupervisorError> {
        self.supervisor().detach().await
    }

    /// Where its API is.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        self.unit()?.listen.map(|addr| format!("http://{addr}"))
    }

    /// Adds what the supervisor knows to what heartbeats say.
    pub fn merge_into(&self, hives: &mut Vec<HiveStatus>) {
        if let Some(unit) = self.unit() {
            merge(&unit, hives);
        }
    }

    fn unit(&self) -> Option<Arc<UnitStatus>> {
        self.supervisor().snapshot().get(&self.name).cloned()
    }

    /// A line in the log for each phase the hive goes through.
    async fn log_phases(self) {
        let mut snapshots = self.supervisor().subscribe();
        let mut last = None;
        loop {
            let unit = snapshots.borrow_and_update().get(&self.name).cloned();
            if let Some(unit) = unit
                && last.replace((unit.phase, unit.incarnation)) != Some((unit.phase, unit.incarnation))
            {
                let (pid, adopted) = (unit.pid, unit.adopted);
                match &unit.reason {
                    Some(reason) => tracing::warn!(hive = self.name, phase = %unit.phase, pid, reason, "hive"),
                    None => tracing::info!(hive = self.name, phase = %unit.phase, pid, adopted, "hive"),
                }
            }
            if snapshots.changed().await.is_err() {
                return;
            }
        }
    }
}

fn merge(unit: &UnitStatus, hives: &mut Vec<HiveStatus>) {
    let known = hives.iter_mut().find(|hive| hive.name == unit.name);
    let heard_of = known.as_ref().is_some_and(|hive| hive.generation > 0 || hive.phase == Phase::Running);
    let hive = match known {
        Some(hive) => hive,
        None => {
            hives.push(blank(unit));
            hives.sort_by(|a, b| a.name.cmp(&b.name));
            let Some(hive) = hives.iter_mut().find(|hive| hive.name == unit.name) else { return };
            hive
        }
    };
    hive.restarts = unit.restarts;
    hive.pid = unit.pid;
    match phase(unit.phase) {
        // Ready by its own word; whether it talks to queen is for its heartbeats to say.
        Phase::Running if heard_of => {}
        Phase::Running => {
            hive.phase = Phase::Starting;
            hive.reason = Some("no heartbeat yet".to_owned());
        }
        phase => {
            hive.phase = phase;
            hive.reason = unit.reason.clone().or_else(|| hive.reason.take());
        }
    }
}

fn blank(unit: &UnitStatus) -> HiveStatus {
    HiveStatus {
        usage: None,
        history_trouble: None,
        name: unit.name.clone(),
        phase: Phase::Stopped,
        pid: None,
        url: unit.listen.map(|addr| format!("http://{addr}")).unwrap_or_default(),
        generation: 0,
        uptime_s: unit.uptime().map_or(0.0, |uptime| uptime.as_secs_f64()),
        restarts: 0,
        reason: None,
        workers: Vec::new(),
    }
}

const fn phase(phase: daemon_lifecycle::Phase) -> Phase {
    match phase {
        daemon_lifecycle::Phase::Stopped => Phase::Stopped,
        daemon_lifecycle::Phase::Starting => Phase::Starting,
        daemon_lifecycle::Phase::Running => Phase::Running,
        daemon_lifecycle::Phase::Stopping => Phase::Stopping,
        daemon_lifecycle::Phase::Restarting => Phase::Restarting,
        daemon_lifecycle::Phase::Failed => Phase::Failed,
        daemon_lifecycle::Phase::Unavailable => Phase::Unavailable,
    }
}

/// Whether queen keeps this machine's hive: it starts by itself here and has no other queen.
#[must_use]
pub fn is_ours(config: &Config, listen_port: u16) -> bool {
    let of_other_queen = config.hive.queen.as_deref().is_some_and(|url| {
        let Ok(url) = reqwest::Url::parse(url) else { return true };
        let host = url.host_str().unwrap_or_default();
        let here = host == "localhost"
            || host
                .trim_matches(['[', ']'])
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.is_loopback() || ip == config.queen.listen.ip());
        // `--listen` moves queen, not the config that both read.
        let port = url.port_or_known_default();
        !here || (port != Some(listen_port) && port != Some(config.queen.listen.port()))
    });
    if config.starts_hive() && of_other_queen {
        tracing::warn!(
            hive = config.hive.name,
            queen = config.hive.queen,
            "the hive of this machine belongs to another queen: it is not started here"
        );
    }
    config.starts_hive() && !of_other_queen
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_hive_is_ours_unless_it_names_another_queen_or_stays_down() {
        for (text, ours) in [
            ("", true),
            ("[hive]\nqueen = \"http://127.0.0.1:7833\"", true),
            ("[hive]\nqueen = \"http://localhost:4000\"", true),
            ("[hive]\nqueen = \"http://127.0.0.1:9999\"", false),
            ("[hive]\nqueen = \"http://10.0.0.9:7833\"", false),
            ("role = \"leecher\"", false),
            ("role = \"worker\"", true),
            ("[hive]\nauto_start = false", false),
        ] {
            let config = Config::parse(text, Path::new("rbee.toml")).unwrap();
            assert_eq!(is_ours(&config, 4000), ours, "{text}");
        }
    }

    fn unit(phase: daemon_lifecycle::Phase, reason: Option<&str>) -> UnitStatus {
        UnitStatus {
            name: "local".into(),
            phase,
            pid: Some(7),
            incarnation: 1,
            restarts: 2,
            started_at: None,
            ready: false,
            reason: reason.map(str::to_owned),
            log_tail: Vec::new(),
            health: None,
            status_text: None,
            listen: "127.0.0.1:1".parse().ok(),
            log_file: "x".into(),
            adopted: false,
            ..UnitStatus::default()
        }
    }

    #[test]
    fn a_process_tells_what_it_was_started_with() {
        let own: Vec<String> = std::env::args().skip(1).collect();
        assert_eq!(arguments(std::process::id()), Some(own));
        assert_eq!(arguments(u32::MAX), None);
    }

    #[test]
    fn the_supervisor_knows_better_what_does_not_run() {
        let mut hives = Vec::new();
        merge(&unit(daemon_lifecycle::Phase::Unavailable, Some("no such program")), &mut hives);
        assert_eq!((hives[0].phase, hives[0].reason.as_deref()), (Phase::Unavailable, Some("no such program")));
        merge(&unit(daemon_lifecycle::Phase::Running, None), &mut hives);
        assert_eq!(hives[0].phase, Phase::Starting, "it has not been heard of");
        hives[0].phase = Phase::Running;
        hives[0].generation = 1;
        merge(&unit(daemon_lifecycle::Phase::Running, None), &mut hives);
        assert_eq!((hives[0].phase, hives[0].pid, hives[0].restarts), (Phase::Running, Some(7), 2));
        assert_eq!(hives.len(), 1);
    }
}
