//! The one task that owns every unit: it feeds the pure core with what happens, and carries out what that decides.
//!
//! ```text
//! callers ── Request ──┐                                     ┌─▶ spawn, bury, probe (jobs) ── Report ─┐
//! notify socket ───────┤                                     ├─▶ signals, state files, sockets        │
//! ends of processes ───┼──▶ Event ──▶ Core::step ──▶ Action ─┴─▶ snapshot (watch): what changed, alone │
//! the core's deadline ─┘      ▲                                                                       │
//!                             └───────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Nothing here costs more for one unit because there are many: processes are found by their pid, and a snapshot gets the units
//! that changed.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use supervision::{Core, Event, ExitHow, Incarnation, Now, UnitName};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::closing::Closing;
use super::config::SupervisorConfig;
use super::entry::{Entry, Live};
use super::exits::ExitSet;
use super::message::{Health, Report, Request, What};
use super::paths::Paths;
use super::status::Snapshot;
use super::takeover::{LastRun, Orphan, Takeover};
use super::telling::Listeners;
use super::workers::Workers;
use super::{Result, SupervisorError};
use crate::lock::Lock;
use crate::logs::LogThread;
use crate::notify::{Message, NotifySocket, SaidEnd};
use crate::process::{Process, RunMark, give_back_memory, watch_readable};

/// Requests and reports taken in one turn.
const BATCH_MAX: usize = 64;

pub(super) struct Owner {
    pub(super) config: SupervisorConfig,
    pub(super) paths: Paths,
    pub(super) core: Core,
    pub(super) epoch: Instant,
    /// What people's clocks said at the epoch.
    pub(super) epoch_for_people: jiff::Timestamp,
    /// Boxed, because the tree keeps room for more than it holds.
    pub(super) units: BTreeMap<UnitName, Box<Entry>>,
    /// Whose main process it is.
    pub(super) pids: HashMap<u32, UnitName>,
    /// Whose run's mark it is.
    pub(super) marks: HashMap<RunMark, UnitName>,
    /// Were main processes once; reaped when they end.
    pub(super) former: HashMap<u32, Arc<Process>>,
    pub(super) exits: ExitSet,
    pub(super) spawners: Workers,
    pub(super) undertakers: Workers,
    pub(super) orphans: BTreeMap<String, Orphan>,
    pub(super) last_runs: BTreeMap<String, LastRun>,
    requests: mpsc::Receiver<Request>,
    reports: mpsc::Receiver<Report>,
    pub(super) reporter: mpsc::Sender<Report>,
    pub(super) notify: NotifySocket,
    notify_watch: AsyncFd<std::os::fd::OwnedFd>,
    /// What was said by processes that nobody knows yet.
    pub(super) early: VecDeque<Message>,
    /// Spawns whose report is still out.
    pub(super) spawning: usize,
    /// Events that carrying out an action gave rise to.
    pub(super) follow_up: VecDeque<Event>,
    /// Units whose status may have changed by other ways than the core's.
    pub(super) changed: BTreeSet<UnitName>,
    pub(super) snapshot: watch::Sender<Snapshot>,
    pub(super) listeners: Listeners,
    /// When to look at how much memory is used, while any unit has a threshold.
    pub(super) memory_at: Option<Instant>,
    /// When to give back what the last burst of starts needed and nobody needs now.
    give_back_at: Option<Instant>,
    pub(super) lock: Lock,
    pub(super) logs: LogThread,
    pub(super) closing: Option<Closing>,
    /// Logs of forgotten units, on their way to their end.
    pub(super) logs_closing: JoinSet<()>,
}

/// So long after the last start a burst of them is over.
const CALM: Duration = Duration::from_millis(300);

impl Owner {
    pub(super) fn new(
        config: SupervisorConfig,
        paths: Paths,
        found: Takeover,
        requests: mpsc::Receiver<Request>,
        snapshot: watch::Sender<Snapshot>,
    ) -> Result<Self> {
        use std::os::fd::AsFd as _;
        let failed = |source| SupervisorError::File { doing: "watch", path: paths.notify.clone(), source };
        let notify_fd = found.notify.as_fd().try_clone_to_owned().map_err(failed)?;
        let notify_watch = watch_readable(notify_fd).map_err(failed)?;
        let (reporter, reports) = mpsc::channel(config.bounds.queue_max.max(1));
        // Spreads restarts of supervisors that were started together; nothing secret.
        let seed = jiff::Timestamp::now().as_nanosecond() as u64 ^ (u64::from(std::process::id()) << 32);
        Ok(Self {
            core: Core::new(seed).with_starts_max(config.bounds.starts_max),
            epoch: Instant::now(),
            epoch_for_people: jiff::Timestamp::now(),
            units: BTreeMap::new(),
            pids: HashMap::new(),
            marks: HashMap::new(),
            former: HashMap::new(),
            exits: ExitSet::new().map_err(failed)?,
            spawners: Workers::new(config.bounds.threads_max),
            undertakers: Workers::new(config.bounds.threads_max),
            orphans: found.orphans,
            last_runs: found.last_runs,
            requests,
            reports,
            reporter,
            notify: found.notify,
            notify_watch,
            early: VecDeque::new(),
            spawning: 0,
            follow_up: VecDeque::new(),
            changed: BTreeSet::new(),
            snapshot,
            listeners: Listeners::default(),
            memory_at: None,
            give_back_at: None,
            lock: found.lock,
            logs: found.logs,
            closing: None,
            logs_closing: JoinSet::new(),
            config,
            paths,
        })
    }

    pub(super) async fn run(mut self) {
        let mut has_callers = true;
        let mut requests = Vec::with_capacity(BATCH_MAX);
        let mut reports = Vec::with_capacity(BATCH_MAX);
        while !self.is_done() {
            let deadline = self.core.deadline().map(|at| self.epoch + Duration::from_millis(at.as_ms()));
            tokio::select! {
                taken = self.requests.recv_many(&mut requests, BATCH_MAX), if has_callers => {
                    requests.drain(..).for_each(|request| self.answer(request));
                    if taken == 0 {
                        has_callers = false;
                        // Nobody can ask for a shutdown any more: the processes are the next supervisor's.
                        self.closing.get_or_insert(Closing::Detach(Vec::new()));
                    }
                },
                _ = self.reports.recv_many(&mut reports, BATCH_MAX) => {
                    reports.drain(..).for_each(|report| self.take(report));
                }
                ended = self.exits.ended() => match ended {
                    Ok(pids) => pids.into_iter().for_each(|pid| self.bury(pid)),
                    Err(error) => {
                        tracing::error!(%error, "cannot watch processes any more; leaving them to the next supervisor");
                        self.closing = Some(Closing::Detach(Vec::new()));
                    }
                },
                guard = self.notify_watch.readable() => {
                    if let Ok(mut guard) = guard {
                        guard.clear_ready();
                    }
                    self.listen();
                }
                () = sleep_until(deadline), if deadline.is_some() => self.step(Event::Tick),
                () = sleep_until(self.memory_at), if self.memory_at.is_some() => self.weigh(),
                () = sleep_until(self.give_back_at), if self.give_back_at.is_some() => {
                    self.give_back_at = None;
                    tokio::task::spawn_blocking(give_back_memory);
                }
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
            Request::Settled(unit, reply) => match self.units.get_mut(&unit) {
                None => drop(reply.send(Err(unknown(&unit)))),
                Some(entry) => {
                    entry.waiting.push(reply);
                    self.changed.insert(unit);
                }
            },
            Request::Logs(unit, reply) => {
                let logs = self.units.get(&unit).map(|entry| entry.logs.clone());
                let _ = reply.send(logs.ok_or_else(|| unknown(&unit)));
            }
            Request::Listen(reply) => {
                let _ =
                    reply.send(self.unless_closing().and_then(|()| self.listeners.add(self.config.bounds.events_max)));
            }
            Request::Why(unit, reply) => {
                let _ = reply.send(self.why(&unit).ok_or_else(|| unknown(&unit)));
            }
            Request::Answer(reply) => _ = reply.send(Ok(())),
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

    fn take(&mut self, report: Report) {
        let Report { unit, incarnation, what } = report;
        match what {
            What::Spawned(result) => {
                self.spawning = self.spawning.saturating_sub(1);
                self.give_back_at = Some(Instant::now() + CALM);
                self.spawned(unit, incarnation, result);
                for message in std::mem::take(&mut self.early) {
                    self.hear(message);
                }
            }
            What::Exited { how, log_tail } => {
                let said = self.last_words(&unit);
                if let Some(entry) = self.units.get_mut(&unit) {
                    entry.log_tail = log_tail;
                }
                self.step(match said {
                    Some((SaidEnd::Unavailable, reason)) => Event::Unavailable { unit, incarnation, how, reason },
                    Some((SaidEnd::OutOfMemory, _)) => Event::Exited { unit, incarnation, how: ExitHow::OutOfMemory },
                    None => Event::Exited { unit, incarnation, how },
                });
            }
            What::Ready => self.step(Event::Ready { unit, incarnation }),
            What::Health(Health::Well(body)) => {
                self.show_health(&unit, incarnation, body);
                self.step(Event::HealthOk { unit, incarnation });
            }
            What::Health(Health::Bad { reason, body }) => {
                self.show_health(&unit, incarnation, body);
                self.step(Event::HealthFailed { unit, incarnation, reason });
            }
            What::Health(Health::Busy) => {
                tracing::debug!(%unit, "did not answer its health probe in time, but works");
                self.step(Event::HealthBusy { unit, incarnation });
            }
        }
    }

    pub(super) fn live(&mut self, unit: &UnitName) -> Option<&mut Live> {
        self.units.get_mut(unit)?.live.as_mut()
    }

    /// Looks at the memory of every unit that shall be restarted above a threshold.
    fn weigh(&mut self) {
        let mut heavy = Vec::new();
        let mut weighs = false;
        for (unit, entry) in &self.units {
            let (Some(live), Some(limit)) = (&entry.live, entry.spec.limits.memory_restart_bytes) else { continue };
            weighs = true;
            if let Some(bytes) = live.memory_bytes().filter(|bytes| *bytes > limit) {
                heavy.push(Event::MemoryHigh {
                    unit: unit.clone(),
                    incarnation: Incarnation::new(live.state.incarnation),
                    bytes,
                    limit,
                });
            }
        }
        self.memory_at = weighs.then(|| Instant::now() + self.config.bounds.memory_interval);
        heavy.into_iter().for_each(|event| self.step(event));
    }

    fn now(&self) -> Now {
        Now::from_ms(u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX))
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
