//! The old queen's side: carries out what [`super::handover`] decides.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use daemon_lifecycle::{ExitHow, Launch, OwnRecord, Successor, try_out};
use rbee_api::{ApiError, ErrorCode, UpgradeReply};
use rbee_runtime::config::QueenConfig;
use rbee_runtime::http::Door;
use rbee_runtime::self_check::{self, CHECK_TIMEOUT, OWN_BINARY, Refusal, SAID_BYTES_MAX, SelfCheck, judge_file};
use rbee_runtime::{error_chain, notify};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};

use super::handover::{Action, Event, State};
use super::holdings::Holdings;
use super::line::{Estate, FromNew, FromOld, Line};
use super::new::Succession;
use crate::gateway::Gateway;
use crate::registry::Registry;
use crate::stopping::Stopping;

/// How long a manager that is at work may hold us up.
const RECORD_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a client that keeps its connection open may come back on it, before it is closed: as long as the usual clients
/// keep them. One that is closed in the moment of a question would look broken.
const LINGER: Duration = Duration::from_secs(6);
/// Name of queen's program.
const PROGRAM: &str = "queen-rbee";

/// How this process was started, to start another one like it.
#[derive(Debug)]
pub struct Relaunch {
    /// The running binary's file, as it was called at the start.
    pub program: PathBuf,
    /// What we were started with.
    pub args: Vec<OsString>,
    /// Where we record ourselves, if a manager has started us.
    pub pid_file: PathBuf,
}

/// Somebody wants an upgrade.
#[derive(Debug)]
pub struct Ask {
    binary: Option<PathBuf>,
    done: oneshot::Sender<Result<UpgradeReply, ApiError>>,
}

/// Takes wishes for upgrades, one at a time; clones share it.
#[derive(Debug, Clone)]
pub struct Upgrader {
    asks: mpsc::Sender<Ask>,
    busy: Arc<AtomicBool>,
}

impl Upgrader {
    /// And where the wishes arrive.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Ask>) {
        let (asks, wishes) = mpsc::channel(1);
        (Self { asks, busy: Arc::default() }, wishes)
    }

    /// Upgrades to `binary`, or to what stands now where the running one was started from. Goes on where nobody waits.
    ///
    /// # Errors
    /// `conflict` while another upgrade is under way, `upgrade_failed` where all is as before.
    pub async fn upgrade(&self, binary: Option<PathBuf>) -> Result<UpgradeReply, ApiError> {
        if self.busy.swap(true, Ordering::AcqRel) {
            return Err(ApiError::new(ErrorCode::Conflict, "another upgrade of queen is under way"));
        }
        let (done, answer) = oneshot::channel();
        let ended = || ApiError::new(ErrorCode::ShuttingDown, "queen is about to end");
        let of_task = self.clone();
        let asked = tokio::spawn(async move {
            let result = match of_task.asks.send(Ask { binary, done }).await {
                Ok(()) => answer.await.unwrap_or_else(|_| Err(ended())),
                Err(_) => Err(ended()),
            };
            if result.is_err() {
                of_task.busy.store(false, Ordering::Release);
            }
            result
        });
        asked.await.unwrap_or_else(|_| Err(ended()))
    }
}

/// What came of it.
#[derive(Debug)]
pub enum Outcome {
    /// We are the queen as before.
    Stays,
    /// Another one is; the line to it.
    Left(Heir),
    /// Nobody is, for this reason.
    Lost(String),
}

/// The new process.
#[derive(Debug)]
pub struct Heir {
    process: Arc<Successor>,
    line: Line<FromNew>,
}

impl Heir {
    /// Until every answer that was being written is, and connections that are kept open have had time to come back with a
    /// last question or be closed; less, when the new queen or somebody else wants our end. A queen before us that still
    /// writes hears of the fleet through us, so that we stay as long as she does.
    pub async fn last_answers(
        mut self,
        gateway: &Gateway,
        registry: &Registry,
        stopping: &Stopping,
        config: &QueenConfig,
        mut elder: Option<&mut Succession>,
    ) {
        let written = async {
            tokio::time::sleep(LINGER.min(config.upgrade_drain_timeout)).await;
            gateway.drained().await;
            if let Some(elder) = &mut elder {
                elder.gone().await;
            }
        };
        tokio::select! {
            () = written => tracing::info!("upgrade: the last answer is written"),
            () = tokio::time::sleep(config.upgrade_drain_timeout) => tracing::warn!("upgrade: answers are cut off: time is over"),
            () = stopping.draining() => tracing::warn!("upgrade: answers are cut off: told to stop"),
            now = self.wants_our_end(registry) => {
                let patience = if now { Duration::ZERO } else { config.drain_timeout };
                let elder_ends = async {
                    if let Some(elder) = elder {
                        elder.end(now, patience).await;
                    }
                };
                let (drained, ()) = tokio::join!(tokio::time::timeout(patience, gateway.drained()), elder_ends);
                tracing::info!(in_time = drained.is_ok(), "upgrade: ends with the queen that came after");
            }
        }
    }

    /// Resolves when it wants us to end, and whether at once. Never, where it ends itself.
    async fn wants_our_end(&mut self, registry: &Registry) -> bool {
        loop {
            match self.line.hear().await {
                Some(FromNew::Stop { now }) => return now,
                Some(FromNew::Heard { hive, heartbeat }) => registry.follow(hive, *heartbeat).await,
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    }
}

/// One upgrade, from its wish to its end.
#[derive(Debug)]
pub struct Old<'a> {
    /// How another one is started, if that is known.
    pub relaunch: Option<&'a Relaunch>,
    /// The socket that both serve.
    pub socket: &'a OwnedFd,
    /// Where we let clients in.
    pub door: &'a Door,
    /// What is handed over.
    pub holdings: &'a mut Holdings,
    /// What ends us.
    pub stopping: &'a Stopping,
    /// How long it all may take.
    pub timeout: Duration,
}

/// What is known by and by.
#[derive(Debug, Default)]
struct Progress {
    binary: PathBuf,
    said: Option<SelfCheck>,
    record: Option<OwnRecord>,
    heir: Option<Heir>,
    estate: Estate,
}

impl Old<'_> {
    /// Carries it out; who asked is told.
    pub async fn carry_out(mut self, ask: Ask) -> Outcome {
        let Some(relaunch) = self.relaunch else {
            let message = "this queen is part of another program and cannot be upgraded by itself";
            let _ = ask.done.send(Err(ApiError::new(ErrorCode::UpgradeFailed, message)));
            return Outcome::Stays;
        };
        let until = Instant::now() + self.timeout;
        let binary = ask.binary.clone().unwrap_or_else(|| relaunch.program.clone());
        let mut progress = Progress { binary, ..Progress::default() };
        let (mut state, mut events) = (State::Idle, VecDeque::from([Event::Ask]));
        let mut done = Some(ask.done);
        tracing::info!(binary = %progress.binary.display(), "upgrade: begins");
        loop {
            let event = match events.pop_front() {
                Some(event) => event,
                None => self.wait(&mut progress, until).await,
            };
            let (next, actions) = state.step(event);
            state = next;
            let mut lost = None;
            for action in actions {
                match action {
                    Action::Answer(result) => {
                        let result = self.answer(result, &progress);
                        if let Some(done) = done.take() {
                            // Whoever asked may have gone.
                            let _ = done.send(result);
                        }
                    }
                    Action::GiveUp(why) => lost = Some(why),
                    action => events.extend(self.act(action, relaunch, &mut progress).await),
                }
            }
            match (lost, &state, progress.heir.take()) {
                (Some(why), ..) => return Outcome::Lost(why),
                (None, State::Left, Some(heir)) => {
                    self.holdings.leave().await;
                    return Outcome::Left(heir);
                }
                (None, State::Idle, _) if done.is_none() => return Outcome::Stays,
                (None, _, heir) => progress.heir = heir,
            }
        }
    }

    async fn act(&mut self, action: Action, relaunch: &Relaunch, progress: &mut Progress) -> Option<Event> {
        match action {
            Action::Check => {
                let checked = check(&progress.binary, relaunch).await;
                let checked = checked.map(|said| progress.said = Some(said));
                return Some(Event::Checked(checked.map_err(|refusal| refusal.to_string())));
            }
            Action::StartHeir => {
                let started = self.start(relaunch, progress).await;
                return Some(Event::Started(started.map(|heir| progress.heir = Some(heir))));
            }
            Action::Release => {
                tracing::info!("upgrade: hands over");
                let released = self.holdings.release().await;
                return Some(Event::Released(released.map(|estate| progress.estate = estate)));
            }
            Action::GiveOver => {
                let estate = std::mem::take(&mut progress.estate);
                if let Some(heir) = &mut progress.heir {
                    heir.line.say(&FromOld::Yours(Box::new(estate))).await;
                }
            }
            Action::KillHeir => {
                if let Some(heir) = progress.heir.take() {
                    kill(heir).await;
                }
            }
            Action::TakeBack => {
                let taken = self.holdings.take_back().await;
                tracing::info!(?taken, "upgrade: takes back");
                return Some(Event::TakenBack(taken));
            }
            Action::NameHeir => return Some(Event::Named(name(progress))),
            Action::Confirm => {
                if let Some(heir) = &mut progress.heir {
                    heir.line.say(&FromOld::Named).await;
                }
                // Before anybody hears of it: who asks then asks the new queen.
                self.door.close().await;
            }
            Action::Answer(_) | Action::GiveUp(_) => {}
        }
        None
    }

    async fn start(&self, relaunch: &Relaunch, progress: &mut Progress) -> Result<Heir, String> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(|error| error.to_string())?;
        ours.set_nonblocking(true).map_err(|error| error.to_string())?;
        let line = UnixStream::from_std(ours).map_err(|error| error.to_string())?;
        let socket = self.socket.try_clone().map_err(|error| error.to_string())?;
        let pid_file = relaunch.pid_file.clone();
        let launch = Launch::new(&progress.binary, relaunch.args.iter().map(|arg| arg.to_string_lossy()));
        let started = tokio::task::spawn_blocking(move || {
            let record =
                OwnRecord::hold(&pid_file, std::process::id(), RECORD_TIMEOUT).map_err(|error| error_chain(&error))?;
            let heir = Successor::start("queen", &launch, vec![socket.as_fd(), theirs.as_fd()], record.as_ref());
            heir.map(|heir| (record, heir)).map_err(|error| error.to_string())
        });
        let (record, process) = started.await.map_err(|error| error.to_string())??;
        tracing::info!(pid = process.pid(), "upgrade: the new queen starts");
        progress.record = record;
        Ok(Heir { process: Arc::new(process), line: Line::new(line) })
    }

    async fn wait(&self, progress: &mut Progress, until: Instant) -> Event {
        let Some(heir) = &mut progress.heir else { return Event::HeirDied };
        tokio::select! {
            biased;
            heard = heir.line.hear() => match heard {
                Some(FromNew::Hello) => Event::Hello,
                Some(FromNew::Ready) => Event::Ready,
                Some(FromNew::Refused(why)) => Event::Refused(why),
                Some(FromNew::Stop { .. } | FromNew::Heard { .. }) => Event::Refused("it speaks out of turn".to_owned()),
                None => Event::HeirDied,
            },
            _ = heir.process.ended() => Event::HeirDied,
            () = self.stopping.draining() => Event::Stop,
            () = tokio::time::sleep_until(until.into()) => Event::TimeOver,
        }
    }

    fn answer(&self, result: Result<(), String>, progress: &Progress) -> Result<UpgradeReply, ApiError> {
        match (result, &progress.heir) {
            (Ok(()), Some(heir)) => {
                let version = progress.said.as_ref().map(|said| said.version.clone()).unwrap_or_default();
                tracing::info!(pid = heir.process.pid(), version, "upgrade: another process is queen now");
                Ok(UpgradeReply {
                    pid: heir.process.pid(),
                    version,
                    previous_pid: std::process::id(),
                    previous_version: env!("CARGO_PKG_VERSION").to_owned(),
                })
            }
            (Ok(()), None) => Err(ApiError::new(ErrorCode::Internal, "the new queen was lost")),
            (Err(why), _) => {
                tracing::error!(why, "upgrade: failed; this queen goes on");
                let message = format!("{why}; nothing has changed, the queen that ran goes on");
                Err(ApiError::new(ErrorCode::UpgradeFailed, message))
            }
        }
    }
}

/// The PID file and the service manager.
fn name(progress: &mut Progress) -> Result<(), String> {
    let Some(heir) = &progress.heir else { return Err("there is nobody to name".to_owned()) };
    let named = progress.record.take().map_or(Ok(()), |mut record| record.name(&heir.process));
    notify::main_pid(heir.process.pid());
    named.map_err(|error| {
        let error = error_chain(&error);
        tracing::error!(error, "upgrade: the PID file does not name the new queen");
        error
    })
}

async fn kill(heir: Heir) {
    let killed = tokio::task::spawn_blocking(move || heir.process.kill()).await;
    if let Ok(Err(error)) = killed {
        tracing::error!(%error, "upgrade: the new process cannot be ended");
    }
}

async fn check(binary: &Path, relaunch: &Relaunch) -> Result<SelfCheck, Refusal> {
    let refused = |reason: String| Refusal::new(binary, reason);
    judge_file(binary, Path::new(OWN_BINARY))?;
    let launch = Launch::new(binary, self_check::arguments(&relaunch.args));
    let said = try_out(&launch, CHECK_TIMEOUT, SAID_BYTES_MAX).await;
    let said = said.map_err(|error| refused(format!("does not pass its self-check: {}", error_chain(&error))))?;
    let ended_well = said.how == ExitHow::Code(0);
    SelfCheck::judge(binary, PROGRAM, ended_well, &said.how.to_string(), &said.stdout, &said.stderr)
}
