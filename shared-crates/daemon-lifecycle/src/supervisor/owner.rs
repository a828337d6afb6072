//! The one task that owns every unit: it feeds the pure core with what happens, and carries out what that decides.
//!
//! ```text
//! callers ── Request ──┐                                     ┌─▶ spawn, signal, probe (jobs) ── Report ─┐
//! notify socket ───────┼──▶ Event ──▶ Core::step ──▶ Action ─┼─▶ state files, sockets                   │
//! the core's deadline ─┘      ▲                              └─▶ snapshot (watch)                       │
//!                             └─────────────────────────────────────────────────────────────────────────┘
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use supervision::{Core, Event, Incarnation, Now, UnitName};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::closing::Closing;
use super::config::SupervisorConfig;
use super::entry::{Entry, Live};
use super::history::History;
use super::message::{Report, Request, What};
use super::paths::Paths;
use super::status::Snapshot;
use super::takeover::{Orphan, Takeover};
use super::{Result, SupervisorError};
use crate::lock::Lock;
use crate::notify::{Message, Note, NotifySocket};
use crate::process::{session_of, watch_readable};

/// Messages of processes whose spawn was not reported yet.
const EARLY_MESSAGES_MAX: usize = 256;

pub(super) struct Owner {
    pub(super) config: SupervisorConfig,
    pub(super) paths: Paths,
    pub(super) core: Core,
    epoch: Instant,
    pub(super) units: BTreeMap<UnitName, Entry>,
    pub(super) orphans: BTreeMap<String, Orphan>,
    pub(super) last_incarnations: BTreeMap<String, Incarnation>,
    requests: mpsc::Receiver<Request>,
    reports: mpsc::Receiver<Report>,
    pub(super) reporter: mpsc::Sender<Report>,
    notify: NotifySocket,
    notify_watch: AsyncFd<std::os::fd::OwnedFd>,
    /// What was said by processes that nobody knows yet.
    early: VecDeque<Message>,
    /// Spawns whose report is still out.
    pub(super) spawning: usize,
    /// Events that carrying out an action gave rise to.
    pub(super) follow_up: VecDeque<Event>,
    snapshot: watch::Sender<Snapshot>,
    pub(super) lock: Lock,
    pub(super) closing: Option<Closing>,
    /// Logs of forgotten units, on their way to their end.
    pub(super) logs_closing: JoinSet<()>,
}

impl Owner {
    pub(super) fn new(
        config: SupervisorConfig,
        paths: Paths,
        found: Takeover,
        requests: mpsc::Receiver<Request>,
        snapshot: watch::Sender<Snapshot>,
    ) -> Result<Self> {
        use std::os::fd::AsFd as _;
        let bind_error = |source| SupervisorError::File { doing: "watch", path: paths.notify.clone(), source };
        let notify_fd = found.notify.as_fd().try_clone_to_owned().map_err(bind_error)?;
        let notify_watch = watch_readable(notify_fd).map_err(bind_error)?;
        let (reporter, reports) = mpsc::channel(config.bounds.queue_max.max(1));
        // Spreads restarts of supervisors that were started together; nothing secret.
        let seed = jiff::Timestamp::now().as_nanosecond() as u64 ^ (u64::from(std::process::id()) << 32);
        Ok(Self {
            core: Core::new(seed),
            epoch: Instant::now(),
            units: BTreeMap::new(),
            orphans: found.orphans,
            last_incarnations: found.last_incarnations,
            requests,
            reports,
            reporter,
            notify: found.notify,
            notify_watch,
            early: VecDeque::new(),
            spawning: 0,
            follow_up: VecDeque::new(),
            snapshot,
            lock: found.lock,
            closing: None,
            logs_closing: JoinSet::new(),
            config,
            paths,
        })
    }

    pub(super) async fn run(mut self) {
        let mut has_callers = true;
        while !self.is_done() {
            let deadline = self.core.deadline().map(|at| self.epoch + Duration::from_millis(at.as_ms()));
            tokio::select! {
                request = self.requests.recv(), if has_callers => match request {
                    Some(request) => self.answer(request),
                    None => {
                        has_callers = false;
                        // Nobody can ask for a shutdown any more: the processes are the next supervisor's.
                        self.closing.get_or_insert(Closing::Detach(Vec::new()));
                    }
                },
                Some(report) = self.reports.recv() => self.take(report),
                guard = self.notify_watch.readable() => {
                    if let Ok(mut guard) = guard {
                        guard.clear_ready();
                    }
                    self.listen();
                }
                () = sleep_until(deadline), if deadline.is_some() => self.step(Event::Tick),
                Some(_) = self.logs_closing.join_next() => {}
            }
            self.publish();
        }
        self.finish().await;
    }

    fn is_done(&self) -> bool {
        match &self.closing {
            Some(Closing::Shutdown(_)) => self.core.is_quiet() && self.orphans.is_empty() && self.spawning == 0,
            // What was forked has to be known before it is left.
            Some(Closing::Detach(_)) => self.spawning == 0,
            None => false,
        }
    }

    fn answer(&mut self, request: Request) {
        // A caller that is gone does not wait for its answer.
        match request {
            Request::Apply(specs, reply) => {
                let result = self.unless_closing().and_then(|()| self.apply(specs));
                self.publish();
                let _ = reply.send(result);
            }
            Request::Tell(unit, event, reply) => {
                let result = self.unless_closing().and_then(|()| self.tell(&unit, event));
                self.publish();
                let _ = reply.send(result);
            }
            Request::Logs(unit, reply) => {
                let logs = self.units.get(&unit).map(|entry| entry.logs.clone());
                let _ = reply.send(logs.ok_or_else(|| unknown(&unit)));
            }
            Request::Why(unit, reply) => {
                let why = self.core.why(&unit).map(|why| History::of(&why, |at| self.wall_clock(at)));
                let _ = reply.send(why.ok_or_else(|| unknown(&unit)));
            }
            Request::Shutdown(mode, reply) => {
                self.stop_orphans();
                self.step(Event::StopAll { mode });
                match &mut self.closing {
                    Some(Closing::Shutdown(waiting)) => waiting.push(reply),
                    _ => self.closing = Some(Closing::Shutdown(vec![reply])),
                }
            }
            Request::Detach(reply) => match &mut self.closing {
                Some(Closing::Shutdown(_)) => drop(reply.send(Err(SupervisorError::Closed))),
                Some(Closing::Detach(waiting)) => waiting.push(reply),
                None => self.closing = Some(Closing::Detach(vec![reply])),
            },
        }
    }

    const fn unless_closing(&self) -> Result<()> {
        if self.closing.is_some() { Err(SupervisorError::Closed) } else { Ok(()) }
    }

    fn tell(&mut self, unit: &UnitName, event: Event) -> Result<()> {
        if !self.units.contains_key(unit) {
            return Err(unknown(unit));
        }
        self.step(event);
        Ok(())
    }

    /// One event through the core, and everything that follows from it at once.
    pub(super) fn step(&mut self, event: Event) {
        self.follow_up.push_back(event);
        while let Some(event) = self.follow_up.pop_front() {
            let now = self.now();
            for action in self.core.step(now, event) {
                self.carry_out(action);
            }
        }
    }

    /// What a moment of the core is for people.
    pub(super) fn wall_clock(&self, at: Now) -> jiff::Timestamp {
        let ago = self.now().ms_since(at);
        jiff::Timestamp::now() - Duration::from_millis(ago)
    }

    fn now(&self) -> Now {
        Now::from_ms(u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    fn take(&mut self, report: Report) {
        let Report { unit, incarnation, what } = report;
        match what {
            What::Spawned(result) => {
                self.spawning = self.spawning.saturating_sub(1);
                self.spawned(unit, incarnation, *result);
                for message in std::mem::take(&mut self.early) {
                    self.hear(message);
                }
            }
            What::Exited { how, log_tail } => {
                if let Some(entry) = self.units.get_mut(&unit) {
                    entry.log_tail = log_tail;
                }
                self.step(Event::Exited { unit, incarnation, how });
            }
            What::Lost(error) => self.lost(unit, incarnation, &error),
            What::Ready => self.step(Event::Ready { unit, incarnation }),
            What::Health(Ok(body)) => {
                if let Some(live) = self.live(&unit).filter(|live| live.state.incarnation == incarnation.get()) {
                    live.health = body.or(live.health.take());
                }
                self.step(Event::HealthOk { unit, incarnation });
            }
            What::Health(Err(reason)) => self.step(Event::HealthFailed { unit, incarnation, reason }),
        }
    }

    /// Everything on the notify socket.
    fn listen(&mut self) {
        loop {
            match self.notify.receive() {
                Ok(message) => self.hear(message),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) => return tracing::warn!(%error, "cannot read the notify socket"),
            }
        }
    }

    fn hear(&mut self, message: Message) {
        let Some(unit) = self.unit_of(message.pid) else {
            // A quick one speaks before its spawn is reported.
            if self.spawning > 0 && self.early.len() < EARLY_MESSAGES_MAX {
                self.early.push_back(message);
            }
            return;
        };
        for note in message.notes {
            let incarnation = self.core.unit(&unit).map_or(Incarnation::NONE, supervision::Unit::incarnation);
            match note {
                Note::Ready => self.step(Event::Ready { unit: unit.clone(), incarnation }),
                Note::ExtendTimeout(by) => {
                    let by_ms = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
                    self.step(Event::ExtendTimeout { unit: unit.clone(), incarnation, by_ms });
                }
                Note::Status(text) => {
                    if let Some(live) = self.live(&unit) {
                        live.status_text = Some(text);
                    }
                }
                Note::Stopping => tracing::debug!(%unit, "says that it is stopping"),
            }
        }
    }

    fn live(&mut self, unit: &UnitName) -> Option<&mut Live> {
        self.units.get_mut(unit)?.live.as_mut()
    }

    /// The unit a process belongs to: its main process, or one of its session.
    fn unit_of(&self, pid: u32) -> Option<UnitName> {
        let has_main = |pid| {
            let mut entries = self.units.iter();
            entries.find(|(_, entry)| entry.live.as_ref().is_some_and(|live| live.process.pid() == pid))
        };
        let found = has_main(pid).or_else(|| session_of(pid).and_then(has_main));
        found.map(|(name, _)| name.clone())
    }

    fn publish(&self) {
        let units = self.units.iter().filter_map(|(name, entry)| {
            let status = entry.status(self.core.unit(name)?);
            Some((name.as_str().to_owned(), std::sync::Arc::new(status)))
        });
        let new: BTreeMap<_, _> = units.collect();
        self.snapshot.send_if_modified(|old| {
            let is_changed = **old != new;
            if is_changed {
                *old = new.into();
            }
            is_changed
        });
    }
}

pub(super) fn unknown(unit: &UnitName) -> SupervisorError {
    SupervisorError::UnknownUnit { unit: unit.as_str().to_owned() }
}

async fn sleep_until(moment: Option<Instant>) {
    if let Some(moment) = moment {
        tokio::time::sleep_until(moment).await;
    }
}
