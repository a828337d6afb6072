//! What happens beside the owner task: spawning, waiting for an end, probing. Each job reports back and owns nothing.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use supervision::{Incarnation, UnitName};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::message::{Begun, Report, What};
use super::spec::UnitSpec;
use crate::listen::ListenSocket;
use crate::logs::{Logs, open_for_daemon};
use crate::probe::{HealthProbe, Probe, Readiness};
use crate::probing::{Pauses, ProbeContext};
use crate::process::{ExitWatch, Process, kill_tree};
use crate::run::{RunError, RunFiles, RunOrder};

/// A readiness probe that takes longer is put again.
const READY_PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Where one run's jobs report to.
#[derive(Debug, Clone)]
pub(super) struct Reporter {
    pub(super) unit: UnitName,
    pub(super) incarnation: Incarnation,
    pub(super) reports: mpsc::Sender<Report>,
}

impl Reporter {
    async fn report(&self, what: What) {
        let report = Report { unit: self.unit.clone(), incarnation: self.incarnation, what };
        // An owner that is gone has left its processes to the next one.
        let _ = self.reports.send(report).await;
    }
}

/// A job that ends when its handle does.
#[derive(Debug)]
pub(super) struct Job(JoinHandle<()>);

impl Drop for Job {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Everything a spawn needs.
#[derive(Debug)]
pub(super) struct SpawnOrder {
    pub(super) spec: Arc<UnitSpec>,
    pub(super) launch_fingerprint: u64,
    pub(super) restarts: u32,
    pub(super) files: RunFiles,
    pub(super) fifos: [PathBuf; 2],
    pub(super) log_file: PathBuf,
    pub(super) notify: Option<PathBuf>,
    pub(super) socket: Option<ListenSocket>,
    /// Where its socket was before, to bind it there again.
    pub(super) listened: Option<SocketAddr>,
}

/// Starts one run. Not to be aborted: what was forked has to be reported.
pub(super) fn spawn(order: SpawnOrder, logs: Logs, reporter: Reporter) {
    tokio::spawn(async move {
        logs.begin_run().await;
        let incarnation = reporter.incarnation;
        let begun = tokio::task::spawn_blocking(move || order.begin(incarnation)).await;
        let begun = begun.unwrap_or_else(|error| {
            Err(RunError::Output { path: PathBuf::from("a thread"), source: io::Error::other(error) })
        });
        reporter.report(What::Spawned(Box::new(begun))).await;
    });
}

impl SpawnOrder {
    fn begin(self, incarnation: Incarnation) -> Result<Begun, RunError> {
        let [out, err] = self
            .fifos
            .each_ref()
            .map(|path| open_for_daemon(path).map_err(|source| RunError::Output { path: path.clone(), source }));
        let (out, err) = (out?, err?);
        let socket = match (self.socket, self.spec.listen) {
            (Some(socket), Some(_)) => Some(socket),
            (None, Some(address)) => Some(bind(address, self.listened)?),
            (_, None) => None,
        };
        let order = RunOrder {
            unit: &self.spec.name,
            incarnation,
            restarts: self.restarts,
            launch: &self.spec.launch,
            launch_fingerprint: self.launch_fingerprint,
            stop_signal: self.spec.stop_signal,
            stop_timeout_ms: self.spec.policy.stop_timeout_ms,
            files: &self.files,
            log_file: Some(&self.log_file),
            stdout: out.as_fd(),
            stderr: err.as_fd(),
            socket: socket.as_ref(),
            notify_socket: self.notify.as_deref(),
        };
        let (process, state) = order.begin()?;
        Ok(Begun { process, state, socket })
    }
}

fn bind(address: SocketAddr, before: Option<SocketAddr>) -> Result<ListenSocket, RunError> {
    // Port 0 means any, but the one it had is the one its clients know.
    let again = before.filter(|before| address.port() == 0 && before.ip() == address.ip());
    if let Some(socket) = again.and_then(|again| ListenSocket::bind(again).ok()) {
        return Ok(socket);
    }
    ListenSocket::bind(address).map_err(|source| RunError::Listen { address, source })
}

/// Waits for the end of a process, ends what it left behind and reports. Not to be aborted while the owner lives.
pub(super) fn watch_exit(process: Process, logs: Logs, kill_wait: Duration, reporter: Reporter) -> io::Result<Job> {
    let watch = ExitWatch::new(&process)?;
    Ok(Job(tokio::spawn(async move {
        if let Err(error) = watch.ended().await {
            return reporter.report(What::Lost(error)).await;
        }
        let unit = reporter.unit.clone();
        // Its tree before itself: until it is reaped, its number and its session are nobody else's.
        let buried = tokio::task::spawn_blocking(move || {
            match kill_tree(&process, kill_wait) {
                Ok(true) => {}
                Ok(false) => tracing::warn!(%unit, "processes of its session survive SIGKILL"),
                Err(error) => tracing::warn!(%unit, %error, "cannot end what it left behind"),
            }
            process
        });
        let log_tail = match buried.await {
            Ok(process) => {
                let log_tail = logs.end_run().await;
                return reporter.report(What::Exited { how: process.exit_how(), log_tail }).await;
            }
            Err(error) => error,
        };
        reporter.report(What::Lost(io::Error::other(log_tail))).await;
    })))
}

/// Probes until the unit is ready.
pub(super) fn await_ready(probe: Probe, context: ProbeContext, pauses: Pauses, reporter: Reporter) -> Job {
    Job(tokio::spawn(async move {
        probe.until_yes(&context, READY_PROBE_TIMEOUT, pauses).await;
        reporter.report(What::Ready).await;
    }))
}

/// Probes a unit for as long as it runs.
pub(super) fn watch_health(health: HealthProbe, context: ProbeContext, reporter: Reporter) -> Job {
    Job(tokio::spawn(async move {
        loop {
            let answer = health.probe.ask(&context, health.timeout).await;
            reporter.report(What::Health(answer)).await;
            tokio::time::sleep(health.interval).await;
        }
    }))
}

impl UnitSpec {
    /// The probe that proves readiness. An adopted daemon may have said `READY=1` while nobody listened: then its health probe
    /// has to do.
    pub(super) fn readiness_probe(&self, is_adopted: bool) -> Option<&Probe> {
        match &self.readiness {
            Readiness::Probe(probe) => Some(probe),
            Readiness::Notify if is_adopted => self.health.as_ref().map(|health| &health.probe),
            Readiness::Notify | Readiness::Started => None,
        }
    }
}
