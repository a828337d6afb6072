//! The owner's hands: one function for each thing the core can decide.

use std::sync::Arc;

use supervision::{Action, Change, Event, ExitHow, Incarnation, Phase, SpawnErrorKind, Stage, UnitName};

use super::entry::{Live, fingerprint};
use super::jobs::{self, Reporter, SpawnOrder};
use super::message::Begun;
use super::owner::Owner;
use crate::files;
use crate::listen::ListenSocket;
use crate::probe::Readiness;
use crate::probing::{Pauses, ProbeContext};
use crate::process::Process;
use crate::run::{RunError, RunFiles};
use crate::state_file::RunState;

impl Owner {
    pub(super) fn carry_out(&mut self, action: Action) {
        match action {
            Action::Spawn { unit, incarnation } => self.spawn(unit, incarnation),
            Action::AwaitReady { unit, incarnation } => self.await_ready(&unit, incarnation),
            Action::WatchHealth { unit, incarnation } => self.watch_health(&unit, incarnation),
            Action::Terminate { unit, .. } => {
                self.end(&unit, |process, state| process.signal_group(state.stop_signal.number()))
            }
            Action::Kill { unit, .. } => self.end(&unit, |process, _| process.kill_group()),
            Action::Cleanup { unit, .. } => self.clean_up(&unit),
            Action::Forget { unit } => self.forget(&unit),
            Action::Changed(change) => self.note(&change),
        }
    }

    fn spawn(&mut self, unit: UnitName, incarnation: Incarnation) {
        let restarts = self.core.unit(&unit).map_or(0, supervision::Unit::restarts);
        let reporter = self.reporter(&unit, incarnation);
        let Some(entry) = self.units.get_mut(&unit) else { return };
        let spec = Arc::clone(&entry.spec);
        // A socket of another address belongs to an older declaration.
        let socket = entry.socket.take().filter(|socket| spec.listen.is_some_and(|wanted| is_at(socket, wanted)));
        let order = SpawnOrder {
            launch_fingerprint: fingerprint(&spec),
            restarts,
            files: entry.files.clone(),
            fifos: self.paths.fifos(unit.as_str()),
            log_file: entry.log_file.clone(),
            notify: (spec.readiness == Readiness::Notify).then(|| self.paths.notify.clone()),
            socket,
            listened: entry.listened,
            spec,
        };
        self.spawning += 1;
        jobs::spawn(order, entry.logs.clone(), reporter);
    }

    pub(super) fn spawned(&mut self, unit: UnitName, incarnation: Incarnation, result: Result<Begun, RunError>) {
        let begun = match result {
            Ok(begun) => begun,
            Err(error) => {
                let (kind, reason) = (error.kind(), error.full_text());
                return self.step(Event::SpawnFailed { unit, incarnation, kind, reason });
            }
        };
        let Begun { process, state, socket } = begun;
        if let Some(entry) = self.units.get_mut(&unit) {
            entry.listened = socket.as_ref().map(ListenSocket::address);
            entry.socket = socket;
        }
        let event = match self.attach(&unit, process, state, false) {
            Ok(()) => Event::Spawned { unit, incarnation },
            Err(reason) => Event::SpawnFailed { unit, incarnation, kind: SpawnErrorKind::Failed, reason },
        };
        self.step(event);
    }

    /// Makes a process its unit's, and watches for its end. One that cannot be watched is ended at once; `Err` says why.
    pub(super) fn attach(
        &mut self,
        unit: &UnitName,
        process: Process,
        state: RunState,
        is_adopted: bool,
    ) -> Result<(), String> {
        let reporter = self.reporter(unit, Incarnation::new(state.incarnation));
        let kill_wait = self.config.bounds.kill_wait;
        let Some(entry) = self.units.get_mut(unit) else { return Err("nobody knows the unit".to_owned()) };
        let watched = process.try_clone();
        match watched.and_then(|process| jobs::watch_exit(process, entry.logs.clone(), kill_wait, reporter)) {
            Ok(exit_watch) => {
                let (probing, health, status_text) = (None, None, None);
                let live = Live { process, state, is_adopted, probing, health, status_text, _exit_watch: exit_watch };
                entry.live = Some(live);
                Ok(())
            }
            Err(error) => {
                if let Err(error) = process.kill_and_reap() {
                    tracing::error!(%unit, %error, pid = process.pid(), "cannot end a process that cannot be watched");
                }
                Err(format!("it cannot be watched: {error}"))
            }
        }
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
        live.probing = entry.spec.health.clone().map(|health| jobs::watch_health(health, context, reporter));
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
        if let Err(error) = live.state.advance(stage, &entry.files.state) {
            // It goes on: at worst the next supervisor waits for a readiness that was proven already.
            tracing::error!(%unit, %error, file = %entry.files.state.display(), "cannot write the state");
        }
    }

    fn clean_up(&mut self, unit: &UnitName) {
        let Some(entry) = self.units.get_mut(unit) else { return };
        let live = entry.live.take();
        let pid_file = live.map_or_else(|| entry.files.pid.clone(), |live| live.state.pid_file);
        let run_files = RunFiles { pid: pid_file, state: entry.files.state.clone() };
        if let Err(error) = run_files.remove() {
            tracing::error!(%unit, %error, file = %run_files.pid.display(), "cannot remove a run's files");
        }
    }

    fn forget(&mut self, unit: &UnitName) {
        let Some(entry) = self.units.remove(unit) else { return };
        // Unlinked at once, because a unit of that name may be declared again; the log task still reads what it holds.
        for path in self.paths.fifos(unit.as_str()) {
            if let Err(error) = files::remove(&path) {
                tracing::error!(%unit, %error, file = %path.display(), "cannot remove a FIFO");
            }
        }
        let logs = entry.logs.clone();
        self.logs_closing.spawn(async move { logs.close().await });
    }

    fn note(&mut self, change: &Change) {
        let Change { unit, incarnation, from, to, cause } = change;
        if matches!(to, Phase::Failed | Phase::Unavailable | Phase::Restarting) {
            tracing::warn!(%unit, run = incarnation.get(), %from, %to, %cause, "unit changed");
        } else {
            tracing::info!(%unit, run = incarnation.get(), %from, %to, %cause, "unit changed");
        }
        let Some(entry) = self.units.get_mut(unit) else { return };
        if matches!(to, Phase::Stopped | Phase::Failed | Phase::Unavailable) {
            // Nobody will serve those who wait on it.
            entry.socket = None;
        }
        if *to == Phase::Unavailable {
            entry.log_tail.clear();
        }
    }

    /// The watch on a process broke. Without it the unit could hang for ever, so the process is ended for good.
    pub(super) fn lost(&mut self, unit: UnitName, incarnation: Incarnation, error: &std::io::Error) {
        tracing::error!(%unit, %error, "cannot wait for a process any more; ending it");
        if let Some(live) = self.units.get(&unit).and_then(|entry| entry.live.as_ref())
            && let Err(error) = live.process.kill_and_reap()
        {
            tracing::error!(%unit, %error, "cannot end it either");
        }
        self.step(Event::Exited { unit, incarnation, how: ExitHow::Unknown });
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

/// Whether the socket is what a declared address asks for.
fn is_at(socket: &ListenSocket, wanted: std::net::SocketAddr) -> bool {
    let is = socket.address();
    is.ip() == wanted.ip() && (wanted.port() == 0 || is.port() == wanted.port())
}
