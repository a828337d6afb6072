//! The owner's hands: one function for each thing the core can decide.

use std::sync::Arc;
use std::time::Duration;

use supervision::{Action, Change, Event, Happening, Incarnation, Phase, SpawnErrorKind, Stage, UnitName, What};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::activity::Activity;
use super::closing::Closing;
use super::entry::Live;
use super::forking::ForkOrder;
use super::jobs::{self, Burial, Reporter, SpawnOrder};
use super::message::{Begun, StartFailure};
use super::owner::Owner;
use crate::files;
use crate::listen::ListenSocket;
use crate::pid_file::PidFile;
use crate::probing::{Pauses, ProbeContext};
use crate::process::{Process, RunMark};
use crate::run::RunFiles;
use crate::state_file::RunState;

impl Owner {
    pub(super) fn carry_out(&mut self, action: Action) {
        match action {
            Action::Spawn { unit, incarnation } => self.spawn(unit, incarnation),
            Action::AwaitReady { unit, incarnation } => self.await_ready(&unit, incarnation),
            Action::WatchHealth { unit, incarnation } => self.watch_health(&unit, incarnation),
            Action::Terminate { unit, .. } => {
                self.end(&unit, |process, state| process.ask_group_to_end(state.stop_signal))
            }
            Action::Kill { unit, .. } => self.end(&unit, |process, _| process.kill_group()),
            Action::Cleanup { unit, .. } => self.clean_up(&unit),
            Action::Forget { unit } => self.forget(&unit),
            Action::Changed(change) => self.note(&change),
            Action::Happened(happening) => self.note_happening(&happening),
        }
    }

    fn spawn(&mut self, unit: UnitName, incarnation: Incarnation) {
        let restarts = self.core.unit(&unit).map_or(0, supervision::Unit::restarts);
        let reporter = self.reporter(&unit, incarnation);
        let kill_wait = self.config.bounds.kill_wait;
        let Some(entry) = self.units.get_mut(&unit) else { return };
        let spec = Arc::clone(&entry.spec);
        // A socket of another address belongs to an older declaration.
        let socket = entry.socket.take().filter(|socket| spec.listen.is_some_and(|wanted| is_at(socket, wanted)));
        let files = self.paths.run_files(&spec.name, spec.pid_file.as_deref());
        let fork = spec.forking.then(|| {
            let (give_up, given_up) = oneshot::channel();
            entry.giving_up = Some(give_up);
            let timeout = Duration::from_millis(spec.policy.start_timeout_ms);
            ForkOrder { files: files.clone(), timeout, kill_wait, given_up }
        });
        let order = SpawnOrder {
            fork,
            launch_fingerprint: spec.launch_fingerprint(),
            restarts,
            files,
            fifos: self.paths.fifos(unit.as_str()),
            log_file: entry.log_file.clone(),
            notify: spec.is_notifying().then(|| self.paths.notify.clone()),
            socket,
            listened: entry.listened,
            in_cgroups: self.config.cgroups,
            spec,
        };
        self.spawning += 1;
        let (logs, runtime) = (entry.logs.clone(), tokio::runtime::Handle::current());
        self.spawners.run(move || order.carry_out(&logs, &runtime, reporter));
    }

    pub(super) fn spawned(
        &mut self,
        unit: UnitName,
        incarnation: Incarnation,
        result: Result<Box<Begun>, StartFailure>,
    ) {
        let begun = match result {
            Ok(begun) => *begun,
            Err(error) => {
                let (kind, reason) = (error.kind(), error.full_text());
                return self.step(Event::SpawnFailed { unit, incarnation, kind, reason });
            }
        };
        let Begun { process, state, socket } = begun;
        if let Some(entry) = self.units.get_mut(&unit) {
            entry.giving_up = None;
            entry.listened = socket.as_ref().map(ListenSocket::address);
            entry.socket = socket;
        }
        match self.attach(&unit, process, state, false) {
            Ok(()) => {
                self.step(Event::Spawned { unit: unit.clone(), incarnation });
                self.arm_watchdog(unit, incarnation);
            }
            Err(reason) => {
                self.step(Event::SpawnFailed { unit, incarnation, kind: SpawnErrorKind::Failed, reason });
            }
        }
    }

    /// Makes a process its unit's, and watches for its end. One that cannot be watched is ended at once; `Err` says why.
    pub(super) fn attach(
        &mut self,
        unit: &UnitName,
        process: Process,
        state: RunState,
        is_adopted: bool,
    ) -> Result<(), String> {
        let Some(entry) = self.units.get_mut(unit) else { return Err("nobody knows the unit".to_owned()) };
        if let Err(error) = self.exits.watch(&process) {
            if let Err(error) = process.kill_and_reap() {
                tracing::error!(%unit, %error, pid = process.pid(), "cannot end a process that cannot be watched");
            }
            return Err(format!("it cannot be watched: {error}"));
        }
        self.pids.insert(process.pid(), unit.clone());
        self.marks.insert(RunMark::of_run(&state.run_id), unit.clone());
        if entry.spec.limits.memory_restart_bytes.is_some() {
            self.memory_at.get_or_insert_with(|| Instant::now() + self.config.bounds.memory_interval);
        }
        entry.live = Some(Live {
            process: Arc::new(process),
            state,
            is_adopted,
            probing: None,
            health: None,
            status_text: None,
            said_end: None,
        });
        self.changed.insert(unit.clone());
        Ok(())
    }

    pub(super) fn arm_watchdog(&mut self, unit: UnitName, incarnation: Incarnation) {
        let watchdog = self.units.get(&unit).and_then(|entry| entry.spec.watchdog);
        if let Some(watchdog) = watchdog {
            let timeout_ms = u64::try_from(watchdog.as_millis()).unwrap_or(u64::MAX);
            self.step(Event::WatchdogArmed { unit, incarnation, timeout_ms });
        }
    }

    /// The daemon says that another of its processes is the main one now. Believed where that carries the run's mark.
    pub(super) fn change_main(&mut self, unit: &UnitName, pid: u32) {
        if self.pids.get(&pid) == Some(unit) {
            return;
        }
        let process = match Process::of_pid(pid) {
            Ok(Some(process)) if self.live(unit).is_some_and(|live| live.state.tree().holds(pid)) => process,
            Ok(_) => return tracing::warn!(%unit, pid, "calls a process its main one that is none of its own"),
            Err(error) => return tracing::warn!(%unit, pid, %error, "cannot look at what it calls its main process"),
        };
        if let Err(error) = self.exits.watch(&process) {
            return tracing::warn!(%unit, pid, %error, "cannot watch what it calls its main process");
        }
        process.await_exit();
        let Some(entry) = self.units.get_mut(unit) else { return };
        let Some(live) = &mut entry.live else { return };
        live.state.process = process.identity().clone();
        let state_file = self.paths.state_file(&entry.spec.name);
        let written = live.state.write(&state_file).and_then(|()| PidFile::write(&live.state.pid_file, pid));
        if let Err(error) = written {
            tracing::error!(%unit, %error, file = %state_file.display(), "cannot write the state");
        }
        let former = std::mem::replace(&mut live.process, Arc::new(process));
        tracing::info!(%unit, from = former.pid(), to = pid, "its main process is another one now");
        self.pids.remove(&former.pid());
        self.pids.insert(pid, unit.clone());
        self.former.insert(former.pid(), former);
        self.changed.insert(unit.clone());
    }

    /// Who does the work is written down: the next supervisor is not told again.
    pub(super) fn note_payload(&mut self, unit: &UnitName, pid: u32) {
        let Some(entry) = self.units.get_mut(unit) else { return };
        let Some(live) = &mut entry.live else { return };
        match Process::of_pid(pid) {
            Ok(Some(process)) => live.state.payload = Some(process.identity().clone()),
            Ok(None) => live.state.payload = None,
            Err(error) => return tracing::warn!(%unit, pid, %error, "cannot look at what it says does its work"),
        }
        let file = self.paths.state_file(&entry.spec.name);
        if let Err(error) = live.state.write(&file) {
            tracing::error!(%unit, %error, file = %file.display(), "cannot write the state");
        }
        self.changed.insert(unit.clone());
    }

    /// A process has ended: what it left behind is ended and removed, then the core hears of it.
    pub(super) fn bury(&mut self, pid: u32) {
        // Its last words first: afterwards nobody knows whose they were.
        self.listen();
        if let Some(former) = self.former.remove(&pid) {
            // No main process any more; it only has to be reaped.
            former.exit_how();
            return;
        }
        let Some(unit) = self.pids.remove(&pid) else { return };
        if let Some(live) = self.live(&unit) {
            let mark = RunMark::of_run(&live.state.run_id);
            self.marks.remove(&mark);
        }
        let kill_wait = self.config.bounds.kill_wait;
        let Some(entry) = self.units.get_mut(&unit) else { return };
        let Some(live) = &mut entry.live else { return };
        live.probing = None;
        let burial = Burial {
            process: Arc::clone(&live.process),
            tree: live.state.tree(),
            files: RunFiles { pid: live.state.pid_file.clone(), state: self.paths.state_file(&entry.spec.name) },
            logs: entry.logs.clone(),
            kill_wait,
            after_exit: live.state.after_exit.clone(),
            fifos: self.paths.fifos(unit.as_str()),
        };
        let incarnation = Incarnation::new(live.state.incarnation);
        let (reporter, runtime) = (self.reporter(&unit, incarnation), tokio::runtime::Handle::current());
        self.undertakers.run(move || burial.carry_out(&runtime, reporter));
    }

    fn await_ready(&mut self, unit: &UnitName, incarnation: Incarnation) {
        let bounds = &self.config.bounds;
        let pauses = Pauses { min: bounds.ready_interval_min, max: bounds.ready_interval_max };
        let (context, reporter) = (self.probe_context(unit), self.reporter(unit, incarnation));
        let Some(entry) = self.units.get_mut(unit) else { return };
        let Some(live) = &mut entry.live else { return };
        let probe = entry.spec.readiness_probe(live.is_adopted);
        live.probing = probe.map(|probe| jobs::await_ready(probe.clone(), context, pauses, reporter));
    }

    pub(super) fn watch_health(&mut self, unit: &UnitName, incarnation: Incarnation) {
        let (context, reporter) = (self.probe_context(unit), self.reporter(unit, incarnation));
        self.advance(unit, Stage::Ready);
        let Some(entry) = self.units.get_mut(unit) else { return };
        let Some(live) = &mut entry.live else { return };
        let working = live.state.payload.as_ref().map_or(live.process.pid(), |payload| payload.pid);
        let activity = Activity::new(working, entry.log_file.clone());
        live.probing = entry.spec.health.clone().map(|health| jobs::watch_health(health, context, activity, reporter));
    }

    /// Writes down that it is being ended, then sends the signal.
    fn end(&mut self, unit: &UnitName, send: impl Fn(&Process, &RunState) -> std::io::Result<()>) {
        self.advance(unit, Stage::Ending);
        let Some(live) = self.units.get_mut(unit).and_then(|entry| entry.live.as_mut()) else { return };
        live.probing = None;
        if let Err(error) = send(&live.process, &live.state) {
            tracing::error!(%unit, %error, pid = live.process.pid(), "cannot send a signal");
        }
    }

    fn advance(&mut self, unit: &UnitName, stage: Stage) {
        let Some(entry) = self.units.get_mut(unit) else { return };
        let Some(live) = &mut entry.live else { return };
        let file = self.paths.state_file(&entry.spec.name);
        if let Err(error) = live.state.advance(stage, &file) {
            // It goes on: at worst the next supervisor waits for a readiness that was proven already.
            tracing::error!(%unit, %error, file = %file.display(), "cannot write the state");
        }
    }

    fn clean_up(&mut self, unit: &UnitName) {
        let is_shutting_down = matches!(self.closing, Some(Closing::Shutdown(_)));
        let Some(entry) = self.units.get_mut(unit) else { return };
        // The files of one that ran went with its burial.
        if entry.live.take().is_none() {
            let files = self.paths.run_files(&entry.spec.name, entry.spec.pid_file.as_deref());
            if let Err(error) = files.remove() {
                tracing::error!(%unit, %error, file = %files.pid.display(), "cannot remove a run's files");
            }
        }
        if is_shutting_down {
            // Now, while the others still end, rather than all at the very end.
            self.remove_fifos(unit);
        }
    }

    /// They were made whole: nothing stands beside them.
    fn remove_fifos(&self, unit: &UnitName) {
        for path in self.paths.fifos(unit.as_str()) {
            if let Err(error) = files::remove_plain(&path) {
                tracing::error!(%unit, %error, file = %path.display(), "cannot remove a FIFO");
            }
        }
    }

    fn forget(&mut self, unit: &UnitName) {
        let Some(entry) = self.units.remove(unit) else { return };
        for reply in entry.waiting {
            let _ = reply.send(Err(super::owner::unknown(unit)));
        }
        // Unlinked at once, because a unit of that name may be declared again; the log task still reads what it holds.
        self.remove_fifos(unit);
        let logs = entry.logs.clone();
        self.logs_closing.spawn(async move { logs.close().await });
    }

    fn note(&mut self, change: &Change) {
        self.tell_change(change);
        let Change { unit, incarnation, from, to, cause } = change;
        if matches!(to, Phase::Failed | Phase::Unavailable | Phase::Restarting) {
            tracing::warn!(%unit, run = incarnation.get(), %from, %to, %cause, "unit changed");
        } else if *to == Phase::Stopping && self.closing.is_some() {
            // Of all at once: that was said already.
            tracing::debug!(%unit, run = incarnation.get(), %from, %to, %cause, "unit changed");
        } else {
            tracing::info!(%unit, run = incarnation.get(), %from, %to, %cause, "unit changed");
        }
        let Some(entry) = self.units.get_mut(unit) else { return };
        if matches!(to, Phase::Stopped | Phase::Failed | Phase::Unavailable) {
            // Nobody will serve those who wait on it.
            entry.socket = None;
        }
        if *to == Phase::Stopping {
            // A forking start may take long: it is not waited for.
            entry.giving_up = None;
        }
        if *to == Phase::Unavailable {
            entry.log_tail.clear();
        }
    }

    fn note_happening(&mut self, happening: &Happening) {
        self.tell_happening(happening);
        let Happening { unit, incarnation, what } = happening;
        match what {
            // What follows from it, and says so, is noted as well.
            What::Adopted | What::Cascade { .. } | What::Threshold { restarts: true, .. } => {}
            What::HealthFailed { cause, in_a_row, limit } => {
                tracing::warn!(%unit, run = incarnation.get(), in_a_row, limit, %cause, "health failed");
            }
            What::Threshold { cause, restarts: false } => {
                tracing::warn!(%unit, run = incarnation.get(), %cause, "above a threshold");
            }
        }
    }

    fn reporter(&self, unit: &UnitName, incarnation: Incarnation) -> Reporter {
        Reporter { unit: unit.clone(), incarnation, reports: self.reporter.clone() }
    }

    fn probe_context(&self, unit: &UnitName) -> ProbeContext {
        let entry = self.units.get(unit);
        ProbeContext {
            listen: entry.and_then(|entry| entry.live.as_ref()).and_then(|live| live.state.listen),
            launch: entry.map(|entry| entry.spec.launch.clone()).unwrap_or_default(),
            body_bytes_max: self.config.bounds.probe_body_bytes_max,
        }
    }
}

impl StartFailure {
    /// Whether trying again can help.
    const fn kind(&self) -> SpawnErrorKind {
        match self {
            Self::Run(error) => error.kind(),
            Self::Fork(_) => SpawnErrorKind::Failed,
        }
    }

    /// The whole story in one line.
    fn full_text(&self) -> String {
        match self {
            Self::Run(error) => error.full_text(),
            Self::Fork(reason) => reason.clone(),
        }
    }
}

/// Whether the socket is what a declared address asks for.
fn is_at(socket: &ListenSocket, wanted: std::net::SocketAddr) -> bool {
    let is = socket.address();
    is.ip() == wanted.ip() && (wanted.port() == 0 || is.port() == wanted.port())
}
