//! One operation of a manager: the pure core with a single unit, and the few things of the world it looks at.
//!
//! It waits in poll(2) for the process, its notify socket, the readiness probe and the core's deadline, all at once.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use supervision::{Action, Cause, Core, Event, Incarnation, Now, Phase, Policy, Restart, Spec, Stage, UnitName};

use super::error::Result;
use super::readiness::Asking;
use super::{DaemonError, DaemonManager};
use crate::launch::Launch;
use crate::limits::Limits;
use crate::listen::ListenSocket;
use crate::notify::{Note, NotifySocket};
use crate::probe::Readiness;
use crate::probing::ProbeContext;
use crate::process::{Output, Process, readable_until, session_of};
use crate::run::{RunError, RunOrder};
use crate::state_file::RunState;

/// How long a killed process and its tree may take to disappear.
pub(super) const KILLED_WAIT: Duration = Duration::from_secs(5);
const PROBE_BODY_BYTES_MAX: usize = 64 * 1024;

pub(super) struct Session<'m> {
    pub(super) manager: &'m DaemonManager,
    pub(super) unit: UnitName,
    pub(super) core: Core,
    spec: Spec,
    epoch: Instant,
    events: VecDeque<Event>,
    run: Option<(Process, RunState)>,
    last_pid: Option<u32>,
    notify: Option<NotifySocket>,
    asking: Option<Asking>,
    pub(super) spawn_error: Option<RunError>,
    pub(super) last_cause: Option<Cause>,
    /// Where this run's output begins in the log file.
    pub(super) log_from: u64,
}

impl<'m> Session<'m> {
    pub(super) fn new(manager: &'m DaemonManager) -> Self {
        let name = manager.config.pid_file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let seconds = |secs: u64| secs.max(1).saturating_mul(1000);
        let spec = Spec {
            restart: Restart { policy: Policy::Never, ..Restart::default() },
            proves_ready: manager.readiness != Readiness::Started,
            start_timeout_ms: seconds(manager.config.startup_timeout_secs),
            stop_timeout_ms: manager.config.shutdown_timeout_secs.saturating_mul(1000),
            ..Spec::default()
        };
        Self {
            manager,
            unit: UnitName::new(name.as_deref().unwrap_or("daemon")),
            core: Core::new(0),
            spec,
            epoch: Instant::now(),
            events: VecDeque::new(),
            run: None,
            last_pid: None,
            notify: None,
            asking: None,
            spawn_error: None,
            last_cause: None,
            log_from: log_len(manager.log_file.as_deref()),
        }
    }

    /// Leaves it to the caller's own time limit how long a daemon may take.
    pub(super) fn without_start_timeout(mut self) -> Self {
        self.spec.start_timeout_ms = u64::MAX / 4;
        self
    }

    pub(super) fn unit(&self) -> UnitName {
        self.unit.clone()
    }

    pub(super) const fn pid(&self) -> Option<u32> {
        self.last_pid
    }

    /// Makes a running daemon this session's; the event that tells the core so.
    pub(super) fn take_over(&mut self, process: Process, state: Box<RunState>) -> Result<Event> {
        let incarnation = Incarnation::new(state.incarnation);
        let event = Event::Adopted { unit: self.unit(), incarnation, stage: state.stage, restarts: state.restarts };
        if self.manager.readiness == Readiness::Notify && state.stage == Stage::Starting {
            self.bind_notify_socket()?;
        }
        self.last_pid = Some(process.pid());
        self.run = Some((process, *state));
        // Its output may have begun long ago.
        self.log_from = 0;
        Ok(event)
    }

    /// Carries out what follows from one event, without waiting for anything.
    pub(super) fn begin(&mut self, first: Event) -> Result<()> {
        if self.core.unit(&self.unit).is_none() {
            let spec = self.spec.clone();
            self.step(Event::Declare { unit: self.unit(), spec, last_incarnation: Incarnation::NONE })?;
        }
        self.step(first)?;
        while let Some(event) = self.events.pop_front() {
            self.step(event)?;
        }
        Ok(())
    }

    /// Goes on until the phase is as wished, or `until` has come; the phase reached.
    pub(super) fn drive(
        &mut self,
        first: Event,
        until: Option<Instant>,
        is_reached: impl Fn(Phase) -> bool,
    ) -> Result<Phase> {
        self.begin(first)?;
        loop {
            let phase = self.core.unit(&self.unit).map_or(Phase::Stopped, supervision::Unit::phase);
            if is_reached(phase) || until.is_some_and(|until| Instant::now() >= until) {
                return Ok(phase);
            }
            let event = self.wait(until)?;
            self.begin(event)?;
        }
    }

    fn step(&mut self, event: Event) -> Result<()> {
        let actions = self.core.step(self.now(), event);
        actions.into_iter().try_for_each(|action| self.carry_out(action))
    }

    fn carry_out(&mut self, action: Action) -> Result<()> {
        match action {
            Action::Spawn { incarnation, .. } => {
                let unit = self.unit();
                let event = match self.spawn(incarnation) {
                    Ok(()) => Event::Spawned { unit, incarnation },
                    Err(error) => {
                        let (kind, reason) = (error.kind(), error.full_text());
                        self.spawn_error = Some(error);
                        Event::SpawnFailed { unit, incarnation, kind, reason }
                    }
                };
                self.events.push_back(event);
            }
            Action::AwaitReady { .. } => self.await_ready()?,
            Action::WatchHealth { .. } => self.note_ready()?,
            Action::Terminate { .. } => {
                self.note_stage(Stage::Ending)?;
                let signal = self.manager.stop_signal;
                self.signal(|process| process.ask_group_to_end(signal))?;
            }
            Action::Kill { .. } => {
                self.note_stage(Stage::Ending)?;
                self.signal(Process::kill_group)?;
            }
            Action::Cleanup { .. } => {
                self.asking = None;
                self.remove_notify_socket();
                let files = &self.manager.files.run;
                files.remove().map_err(|error| DaemonError::file("remove", &files.pid, error))?;
            }
            Action::Changed(change) => self.last_cause = Some(change.cause),
            // Nobody listens here.
            Action::Happened(_) | Action::Forget { .. } => {}
        }
        Ok(())
    }

    fn spawn(&mut self, incarnation: Incarnation) -> Result<(), RunError> {
        let manager = self.manager;
        let output = open_output(manager.log_file.as_deref())?;
        let socket = match manager.listen {
            Some(address) => Some(ListenSocket::bind(address).map_err(|source| RunError::Listen { address, source })?),
            None => None,
        };
        if manager.readiness == Readiness::Notify {
            let path = manager.files.notify.clone();
            self.notify = Some(NotifySocket::bind(&path).map_err(|source| RunError::Record { path, source })?);
        }
        let launch = manager.launch();
        let order = RunOrder {
            unit: self.unit.as_str(),
            incarnation,
            restarts: 0,
            launch: &launch,
            launch_fingerprint: launch.fingerprint(manager.listen, self.notify.is_some()),
            stop_signal: manager.stop_signal,
            stop_timeout_ms: self.spec.stop_timeout_ms,
            files: &manager.files.run,
            log_file: manager.log_file.as_deref(),
            stdout: Output::Fd(output.as_fd()),
            stderr: Output::Fd(output.as_fd()),
            socket: socket.as_ref(),
            notify_socket: self.notify.as_ref().map(NotifySocket::path),
            limits: &Limits::default(),
            stale_locks: &[],
            forking: false,
            in_cgroup: true,
            after_exit: None,
            stage: Stage::Starting,
        };
        let run = order.begin()?;
        self.last_pid = Some(run.0.pid());
        self.run = Some(run);
        Ok(())
    }

    fn await_ready(&mut self) -> Result<()> {
        let Readiness::Probe(probe) = &self.manager.readiness else { return Ok(()) };
        let listen = self.run.as_ref().and_then(|(_, state)| state.listen);
        let context = ProbeContext { listen, launch: self.manager.launch(), body_bytes_max: PROBE_BODY_BYTES_MAX };
        let asking = Asking::begin(probe.clone(), context).map_err(|source| self.start_failed("probing", source))?;
        self.asking = Some(asking);
        Ok(())
    }

    fn note_ready(&mut self) -> Result<()> {
        self.asking = None;
        self.remove_notify_socket();
        self.note_stage(Stage::Ready)
    }

    fn note_stage(&mut self, stage: Stage) -> Result<()> {
        let Some((_, state)) = &mut self.run else { return Ok(()) };
        let path = &self.manager.files.run.state;
        state.advance(stage, path).map_err(|error| DaemonError::file("write", path, error))
    }

    fn signal(&self, send: impl Fn(&Process) -> io::Result<()>) -> Result<()> {
        match &self.run {
            Some((process, _)) => send(process).map_err(|error| DaemonError::signal(process.pid(), error)),
            None => Ok(()),
        }
    }

    /// The next event the world brings.
    fn wait(&mut self, until: Option<Instant>) -> Result<Event> {
        let deadline = self.core.deadline().map(|now| self.epoch + Duration::from_millis(now.as_ms()));
        let wake = [deadline, until].into_iter().flatten().min();
        loop {
            let Some((process, state)) = &self.run else { return Ok(Event::Tick) };
            let incarnation = Incarnation::new(state.incarnation);
            let unit = self.unit();
            let mut fds = vec![process.as_fd()];
            fds.extend(self.notify.as_ref().map(|socket| socket.as_fd()));
            fds.extend(self.asking.as_ref().map(|asking| asking.as_fd()));
            let readable = readable_until(&fds, wake).map_err(|source| self.start_failed("waiting", source))?;
            let (has_notify, has_asking) = (self.notify.is_some(), self.asking.is_some());
            if has_notify
                && readable[1]
                && let Some(event) = self.hear(incarnation)
            {
                return Ok(event);
            }
            if has_asking && readable[usize::from(has_notify) + 1] {
                return Ok(Event::Ready { unit, incarnation });
            }
            if readable[0] {
                return self.bury();
            }
            if readable.iter().all(|readable| !readable) {
                return Ok(Event::Tick);
            }
        }
    }

    /// What the daemon itself said, if it was the daemon.
    fn hear(&mut self, incarnation: Incarnation) -> Option<Event> {
        let pid = self.last_pid?;
        let message = self.notify.as_ref()?.receive().ok()?;
        if message.pid != pid && session_of(message.pid) != Some(pid) {
            tracing::debug!(sender = message.pid, "a stranger wrote to the notify socket");
            return None;
        }
        let unit = self.unit();
        let events = message.notes.into_iter().filter_map(|note| match note {
            Note::Ready => Some(Event::Ready { unit: unit.clone(), incarnation }),
            Note::ExtendTimeout(by) => {
                let by_ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
                Some(Event::ExtendTimeout { unit: unit.clone(), incarnation, by_ms })
            }
            // A manager that does not stay watches for nothing but readiness.
            _ => None,
        });
        self.events.extend(events);
        self.events.pop_front()
    }

    /// The daemon ended: its tree goes with it.
    fn bury(&mut self) -> Result<Event> {
        let Some((process, state)) = self.run.take() else { return Ok(Event::Tick) };
        let end = state.tree().bury(&process, KILLED_WAIT);
        let end = end.map_err(|error| DaemonError::signal(process.pid(), error))?;
        if !end.is_gone {
            tracing::warn!(pid = process.pid(), "some of its processes survive SIGKILL");
        }
        let incarnation = Incarnation::new(state.incarnation);
        Ok(Event::Exited { unit: self.unit(), incarnation, how: end.how })
    }

    fn bind_notify_socket(&mut self) -> Result<()> {
        let path = &self.manager.files.notify;
        self.notify = Some(NotifySocket::bind(path).map_err(|error| DaemonError::file("bind", path, error))?);
        Ok(())
    }

    fn remove_notify_socket(&mut self) {
        if let Some(Err(error)) = self.notify.take().map(NotifySocket::remove) {
            tracing::warn!(%error, "cannot remove a notify socket");
        }
    }

    fn now(&self) -> Now {
        Now::from_ms(u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.remove_notify_socket();
    }
}

impl DaemonManager {
    fn launch(&self) -> Launch {
        Launch {
            program: self.config.binary_path.clone(),
            args: self.config.args.clone(),
            env: self.config.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            inherit_env: !self.clean_env,
            working_dir: self.config.working_dir.clone(),
            not_inherited: &[],
        }
    }
}

fn open_output(log_file: Option<&Path>) -> Result<File, RunError> {
    let path = log_file.unwrap_or(Path::new("/dev/null"));
    let failed = |source| RunError::Output { path: path.to_owned(), source };
    if let Some(dir) = log_file.and_then(Path::parent) {
        crate::files::make_private_dir(dir).map_err(failed)?;
    }
    OpenOptions::new().append(true).create(log_file.is_some()).mode(0o640).open(path).map_err(failed)
}

fn log_len(log_file: Option<&Path>) -> u64 {
    log_file.and_then(|path| path.metadata().ok()).map_or(0, |file| file.len())
}
