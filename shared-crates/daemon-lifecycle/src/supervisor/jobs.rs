//! What takes time and must not keep the owner waiting: spawns and burials, on a few threads; probes, as tasks.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use supervision::{Incarnation, Stage, UnitName};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::activity::Activity;
use super::forking::ForkOrder;
use super::message::{Begun, Health, Report, StartFailure, What};
use super::spec::UnitSpec;
use crate::after_exit::{AfterExit, Ending};
use crate::listen::ListenSocket;
use crate::logs::Logs;
use crate::probe::{HealthProbe, Probe, Readiness};
use crate::probing::{Pauses, ProbeContext};
use crate::process::{Output, Process, Tree, TreeEnd};
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
        // An owner that is gone has left its processes to the next one.
        let _ = self.reports.send(self.of(what)).await;
    }

    /// On a thread that may block.
    fn report_blocking(&self, what: What) {
        let _ = self.reports.blocking_send(self.of(what));
    }

    fn of(&self, what: What) -> Report {
        Report { unit: self.unit.clone(), incarnation: self.incarnation, what }
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
    /// Each run into a cgroup of its own, where the machine lets us.
    pub(super) in_cgroups: bool,
    /// For a daemon that forks.
    pub(super) fork: Option<ForkOrder>,
}

impl SpawnOrder {
    /// Starts one run and reports. Blocks, but not for a daemon that forks: that is followed in a task.
    pub(super) fn carry_out(mut self, logs: &Logs, runtime: &tokio::runtime::Handle, reporter: Reporter) {
        if let Err(source) = logs.begin_run() {
            let [path, _] = self.fifos;
            return reporter.report_blocking(What::Spawned(Err(StartFailure::Run(RunError::Output { path, source }))));
        }
        let fork = self.fork.take();
        match (self.begin(reporter.incarnation), fork) {
            (Ok(begun), Some(fork)) => {
                runtime.spawn(async move {
                    let begun = fork.follow(begun).await;
                    reporter.report(What::Spawned(begun)).await;
                });
            }
            (begun, _) => {
                reporter.report_blocking(What::Spawned(begun.map(Box::new).map_err(StartFailure::Run)));
            }
        }
    }

    fn begin(self, incarnation: Incarnation) -> Result<Begun, RunError> {
        let socket = match (self.socket, self.spec.listen) {
            (Some(socket), Some(_)) => Some(socket),
            (None, Some(address)) => Some(bind(address, self.listened)?),
            (_, None) => None,
        };
        let launch = self.spec.whole_launch();
        let order = RunOrder {
            unit: &self.spec.name,
            incarnation,
            restarts: self.restarts,
            launch: &launch,
            launch_fingerprint: self.launch_fingerprint,
            stop_signal: self.spec.stop_signal,
            stop_timeout_ms: self.spec.policy.stop_timeout_ms,
            files: &self.files,
            log_file: Some(&self.log_file),
            stdout: Output::Fifo(&self.fifos[0]),
            stderr: Output::Fifo(&self.fifos[1]),
            socket: socket.as_ref(),
            notify_socket: self.notify.as_deref(),
            limits: &self.spec.limits,
            stale_locks: &self.spec.stale_locks,
            forking: self.spec.forking,
            in_cgroup: self.in_cgroups,
            after_exit: self.spec.after_exit.as_ref(),
            stage: if self.spec.readiness == Readiness::Started { Stage::Ready } else { Stage::Starting },
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

/// The end of one run.
#[derive(Debug)]
pub(super) struct Burial {
    pub(super) process: Arc<Process>,
    pub(super) tree: Tree,
    pub(super) files: RunFiles,
    pub(super) logs: Logs,
    pub(super) kill_wait: Duration,
    pub(super) after_exit: Option<AfterExit>,
    /// Where what that says goes.
    pub(super) fifos: [PathBuf; 2],
}

impl Burial {
    /// Ends what a process that has ended left behind, removes its files and reports. Blocks for that, not for its log.
    pub(super) fn carry_out(self, runtime: &tokio::runtime::Handle, reporter: Reporter) {
        let unit = &reporter.unit;
        // Its tree before itself: until it is reaped, its number and its session are nobody else's.
        let how = match self.tree.bury(&self.process, self.kill_wait) {
            Ok(TreeEnd { is_gone, how }) => {
                if !is_gone {
                    tracing::warn!(%unit, "some of its processes survive SIGKILL");
                }
                how
            }
            Err(error) => {
                tracing::warn!(%unit, %error, "cannot end what it left behind");
                self.process.exit_how()
            }
        };
        if let Some(ending) = self.begin_ending(unit) {
            // No thread is held up by it: others are to be buried meanwhile.
            runtime.spawn(async move {
                if let Err(problem) = ending.ended().await {
                    tracing::error!(unit = %reporter.unit, problem, "what it had outside of its processes may be left");
                }
                let log_tail = self.close(&reporter.unit).await;
                reporter.report(What::Exited { how, log_tail }).await;
            });
            return;
        }
        let log_tail = self.close(unit);
        runtime.spawn(async move {
            let log_tail = log_tail.await;
            reporter.report(What::Exited { how, log_tail }).await;
        });
    }

    fn begin_ending(&self, unit: &UnitName) -> Option<Ending> {
        let [out, err] = &self.fifos;
        let begun = self.after_exit.as_ref()?.begin(unit.as_str(), Output::Fifo(out), Output::Fifo(err));
        begun.inspect_err(|problem| tracing::error!(%unit, problem, "cannot run what is run after its end")).ok()
    }

    /// Nobody writes any more: the log comes to its end while the files go, and while the next one is buried.
    fn close(&self, unit: &UnitName) -> impl Future<Output = Vec<String>> + Send + 'static + use<> {
        let log_tail = self.logs.end_run();
        if let Err(error) = self.files.remove() {
            tracing::error!(%unit, %error, file = %self.files.pid.display(), "cannot remove a run's files");
        }
        log_tail
    }
}

/// Probes until the unit is ready.
pub(super) fn await_ready(probe: Probe, context: ProbeContext, pauses: Pauses, reporter: Reporter) -> Job {
    Job(tokio::spawn(async move {
        probe.until_yes(&context, READY_PROBE_TIMEOUT, pauses).await;
        reporter.report(What::Ready).await;
    }))
}

/// Probes a unit for as long as it runs.
pub(super) fn watch_health(health: HealthProbe, context: ProbeContext, activity: Activity, reporter: Reporter) -> Job {
    Job(tokio::spawn(async move {
        let mut activity = activity;
        loop {
            activity.begin();
            let found = match health.probe.ask(&context, health.timeout).await {
                Ok(body) => Health::Well(body),
                Err(no) if no.is_silence && activity.is_alive() => Health::Busy,
                Err(no) => Health::Bad { reason: no.reason, body: no.body },
            };
            reporter.report(What::Health(found)).await;
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
