//! The thread that writes the logs of all units. It sleeps until there is output, a request or a deadline.
//!
//! ```text
//!            output, request, deadline          under a flood: 1 ms, so that FIFOs fill and one turn does more
//! ┌────────┐ ────────────────────────▶ ┌───────┐ ────────────────────────────────────────────────────────────┐
//! │ asleep │                           │ awake │ ◀───────────────────────────────────────────────────────────┘
//! └────────┘ ◀──────────────────────── └───────┘ one batch a unit and turn
//!                nothing left to do        └──── End ──▶ (all FIFOs drained)
//! ```

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signalfd::SignalFd;
use rustix::event::{Timespec, epoll};

use super::LogBounds;
use super::fifo::Peeker;
use super::files::AsideFiles;
use super::journal::Journal;
use super::lines::Stream;
use super::requests::{Opened, Request, Shared, TOLD, WAKE, Which, about};
use super::unit::{Tools, Unit};
use crate::process::writes_told;

/// Pause before a write that failed is tried again: a full disk may have been cleared.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Output that follows other output waits so long for company.
const FLOOD_PAUSE_MS: u8 = 1;
/// Without output for so long, memory is given back.
const RELAX_AFTER: Duration = Duration::from_secs(1);
/// An age that could not be enforced is looked at again after this.
const ALARM_PAUSE: Duration = Duration::from_secs(60);
/// The clock that wakes us and the clock of the lines differ by less.
const ALARM_PAUSE_MIN: Duration = Duration::from_millis(1);
/// Log files that stay open for their next line.
const OPEN_FILES_MAX: usize = 256;
const EVENTS_MAX: usize = 128;
const STACK_BYTES: usize = 256 * 1024;

/// Starts it.
pub(super) fn begin(journal: &Path, log_dir: &Path, bounds: LogBounds) -> io::Result<Arc<Shared>> {
    let tools = Tools {
        bounds,
        journal: Journal::open(journal)?,
        peeker: Peeker::new(bounds.fifo_bytes)?,
        written: Vec::new(),
        is_flooded: false,
    };
    let shared = Arc::new(Shared::new(AsideFiles::find(log_dir)?)?);
    let keeper = Keeper {
        shared: Arc::clone(&shared),
        units: BTreeMap::new(),
        tools,
        busy: BTreeSet::new(),
        unfinished: BTreeSet::new(),
        stuck: BTreeSet::new(),
        retry_at: None,
        alarms: BTreeSet::new(),
        opened: VecDeque::new(),
        worked_at: None,
    };
    std::thread::Builder::new().name("logs".to_owned()).stack_size(STACK_BYTES).spawn(|| keeper.run())?;
    Ok(shared)
}

struct Keeper {
    shared: Arc<Shared>,
    units: BTreeMap<u32, Box<Unit>>,
    tools: Tools,
    /// Units with news.
    busy: BTreeSet<u32>,
    /// Units in whose FIFOs unfinished lines wait.
    unfinished: BTreeSet<u32>,
    /// Units whose files cannot be written.
    stuck: BTreeSet<u32>,
    retry_at: Option<Instant>,
    alarms: BTreeSet<(Instant, u32)>,
    /// Units whose log file was opened, in that order.
    opened: VecDeque<u32>,
    /// When there was output last; `None` once memory was given back.
    worked_at: Option<Instant>,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl Keeper {
    fn run(mut self) {
        let told = writes_told().and_then(|told| {
            epoll::add(&self.shared.epoll, &told, epoll::EventData::new_u64(TOLD), epoll::EventFlags::IN)?;
            Ok(told)
        });
        match told {
            Ok(told) => self.serve(&told),
            Err(error) => tracing::error!(%error, "cannot watch output; logs are not written"),
        }
    }

    fn serve(&mut self, told: &SignalFd) {
        while self.answer_all() {
            let wait = self.wait();
            let mut has_output = match self.sleep(wait, told) {
                Ok(has_output) => has_output,
                Err(error) => return tracing::error!(%error, "cannot wait for output; logs are not written any more"),
            };
            if has_output && self.let_fifos_fill() {
                has_output = self.sleep(Some(Duration::ZERO), told).unwrap_or(has_output);
            }
            if !self.answer_all() {
                return;
            }
            self.retry_stuck();
            self.work();
            self.ring_alarms();
            if !has_output && self.busy.is_empty() {
                self.relax();
            }
        }
    }

    /// Whether it goes on.
    fn answer_all(&mut self) -> bool {
        for request in self.shared.requests() {
            if let Request::End(reply) = request {
                self.end(reply.is_some());
                if let Some(reply) = reply {
                    // Nobody waits for the answer any more: that is their choice.
                    let _ = reply.send(());
                }
                return false;
            }
            self.answer(request);
        }
        true
    }

    fn answer(&mut self, request: Request) {
        match request {
            Request::Add(id, unit) => {
                self.busy.insert(id);
                self.units.insert(id, unit);
                self.keep_policy(id);
            }
            Request::Replace(id, stream, fifo) => {
                if let Some(unit) = self.units.get_mut(&id) {
                    unit.replace_fifo(stream, fifo);
                    self.busy.insert(id);
                }
            }
            Request::SetPolicy(id, policy) => {
                if let Some(unit) = self.units.get_mut(&id) {
                    let kept = unit.set_policy(policy);
                    self.after_keeping(id, kept);
                }
            }
            // Nobody waits for an answer any more: that is their choice.
            Request::EndRun(id, reply) => drop(reply.send(self.end_run(id))),
            Request::Open(id, which, reply) => drop(reply.send(self.open(id, which))),
            Request::Follow(id, reply) => {
                if let Some(unit) = self.units.get_mut(&id) {
                    let _ = reply.send(unit.follow());
                }
            }
            Request::Unfollow(id) => {
                if let Some(unit) = self.units.get_mut(&id) {
                    unit.forget_gone_followers();
                }
            }
            Request::Close(id, reply) => {
                self.close(id);
                if let Some(reply) = reply {
                    let _ = reply.send(());
                }
            }
            Request::End(_) => {}
        }
    }

    fn end_run(&mut self, id: u32) -> Vec<String> {
        self.drain(id, true);
        let tail = self.units.get_mut(&id).map(|unit| unit.tail(&self.tools));
        tail.transpose()
            .unwrap_or_else(|error| {
                tracing::warn!(%error, "cannot read a log's last lines");
                None
            })
            .unwrap_or_default()
    }

    fn drain(&mut self, id: u32, flush: bool) {
        if let Some(unit) = self.units.get_mut(&id) {
            let drained = unit.drain(flush, &mut self.tools);
            self.after_work(id, drained);
        }
    }

    fn open(&mut self, id: u32, which: Which) -> io::Result<Option<Opened>> {
        let Some(unit) = self.units.get_mut(&id) else { return Ok(None) };
        let files = unit.files();
        let found = match which {
            Which::Newest => {
                // Made again where somebody removed it.
                files.look()?;
                Some(files.open_from(files.generation())?)
            }
            Which::Before(generation) => files.open_before(generation)?,
            Which::From(generation) => {
                files.look()?;
                Some(files.open_from(generation)?)
            }
        };
        let Some((file, generation)) = found else { return Ok(None) };
        // The newest one may hold a part of a batch that failed.
        let len = if generation == files.generation() { files.len() } else { file.metadata()?.len() };
        Ok(Some(Opened { file: Arc::new(file), generation, len }))
    }

    fn close(&mut self, id: u32) {
        self.drain(id, true);
        let Some(unit) = self.units.remove(&id) else { return };
        for stream in [Stream::Out, Stream::Err] {
            // It is not watched any more once it is closed, either.
            let _ = epoll::delete(&self.shared.epoll, unit.fifo(stream).file());
        }
        if let Some(alarm) = unit.alarm {
            self.alarms.remove(&(alarm, id));
        }
        for set in [&mut self.busy, &mut self.stuck, &mut self.unfinished] {
            set.remove(&id);
        }
        let (log, aside) = unit.into_aside();
        self.shared.aside().put_back(&log, aside);
    }

    fn end(&mut self, drain: bool) {
        if drain {
            for id in self.units.keys().copied().collect::<Vec<_>>() {
                // Whoever writes yet may have a line unfinished, which is the next supervisor's.
                self.drain(id, false);
            }
        }
        self.units.clear();
    }

    /// How long there is nothing to do; `None`: until there is.
    fn wait(&self) -> Option<Duration> {
        if !self.busy.is_empty() {
            return Some(Duration::ZERO);
        }
        let alarm = self.alarms.first().map(|(alarm, _)| *alarm);
        let relax_at = self.worked_at.map(|at| at + RELAX_AFTER);
        let next = [alarm, self.retry_at, relax_at].into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Waits for events; whether there is output.
    fn sleep(&mut self, wait: Option<Duration>, told: &SignalFd) -> io::Result<bool> {
        let timeout = wait.map(|wait| Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        });
        let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; EVENTS_MAX];
        let (events, _) = match epoll::wait(&self.shared.epoll, &mut events, timeout.as_ref()) {
            Err(rustix::io::Errno::INTR) => return Ok(false),
            result => result?,
        };
        let mut has_output = false;
        for event in events {
            let event = event.data.u64();
            if event == WAKE {
                let mut count = [0; 8];
                // Whatever the count is: all requests are looked at.
                let _ = rustix::io::read(&self.shared.wake, &mut count);
            } else if event == TOLD {
                while matches!(told.read_signal(), Ok(Some(_))) {}
                for id in &self.unfinished {
                    if let Some(unit) = self.units.get_mut(id) {
                        unit.note_news(Stream::Out);
                        unit.note_news(Stream::Err);
                    }
                }
                self.busy.extend(&self.unfinished);
                has_output = true;
            } else if let Some((id, stream)) = about(event)
                && let Some(unit) = self.units.get_mut(&id)
            {
                unit.note_news(stream);
                self.busy.insert(id);
                has_output = true;
            }
        }
        Ok(has_output)
    }

    /// Under a flood a line a turn would cost more than all else. Whether it waited.
    fn let_fifos_fill(&self) -> bool {
        let pause = Duration::from_millis(FLOOD_PAUSE_MS.into());
        let is_soon = self.worked_at.is_some_and(|at| at.elapsed() < pause);
        if !is_soon || self.tools.is_flooded {
            return false;
        }
        // A request ends the pause; whatever else ends it, the turn begins.
        let _ = poll(&mut [PollFd::new(self.shared.wake.as_fd(), PollFlags::POLLIN)], FLOOD_PAUSE_MS);
        true
    }

    /// One batch of every stream that has news.
    fn work(&mut self) {
        if self.busy.is_empty() {
            return;
        }
        self.tools.is_flooded = false;
        for id in std::mem::take(&mut self.busy) {
            if self.stuck.contains(&id) {
                continue;
            }
            let Some(unit) = self.units.get_mut(&id) else { continue };
            let worked = unit.take_batches(&mut self.tools);
            if unit.has_news() {
                self.busy.insert(id);
            }
            if unit.has_unfinished() {
                self.unfinished.insert(id);
            } else {
                self.unfinished.remove(&id);
            }
            self.after_work(id, worked);
        }
        self.worked_at = Some(Instant::now());
    }

    fn after_work(&mut self, id: u32, worked: io::Result<()>) {
        let Some(unit) = self.units.get_mut(&id) else { return };
        match worked {
            Ok(()) => {
                if std::mem::take(&mut unit.is_stuck) {
                    tracing::info!(file = %unit.files().path().display(), "its log can be written again");
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut unit.is_stuck, true) {
                    let file = unit.files().path().display();
                    tracing::error!(%error, %file, "cannot write a log; its output waits");
                }
                self.busy.remove(&id);
                self.stuck.insert(id);
                self.retry_at.get_or_insert_with(|| Instant::now() + RETRY_PAUSE);
            }
        }
        if unit.alarm.is_none() {
            self.set_alarm(id, ALARM_PAUSE_MIN);
        }
        self.bound_open_files(id);
    }

    fn bound_open_files(&mut self, id: u32) {
        let Some(unit) = self.units.get_mut(&id) else { return };
        if unit.files().is_newly_open() {
            self.opened.push_back(id);
        }
        if self.opened.len() > OPEN_FILES_MAX
            && let Some(oldest) = self.opened.pop_front()
            && let Some(unit) = self.units.get_mut(&oldest)
        {
            unit.files().close();
        }
    }

    fn retry_stuck(&mut self) {
        if self.retry_at.is_some_and(|at| at <= Instant::now()) {
            self.retry_at = None;
            self.busy.append(&mut self.stuck);
            for id in &self.busy {
                if let Some(unit) = self.units.get_mut(id).filter(|unit| unit.is_stuck) {
                    unit.note_news(Stream::Out);
                    unit.note_news(Stream::Err);
                }
            }
        }
    }

    fn ring_alarms(&mut self) {
        let now = Instant::now();
        while let Some((at, id)) = self.alarms.first().copied().filter(|(at, _)| *at <= now) {
            self.alarms.remove(&(at, id));
            if let Some(unit) = self.units.get_mut(&id) {
                unit.alarm = None;
                self.keep_policy(id);
            }
        }
    }

    fn keep_policy(&mut self, id: u32) {
        if let Some(unit) = self.units.get_mut(&id) {
            let kept = unit.keep_policy();
            self.after_keeping(id, kept);
        }
    }

    fn after_keeping(&mut self, id: u32, kept: io::Result<()>) {
        if let (Err(error), Some(unit)) = (&kept, self.units.get_mut(&id)) {
            tracing::warn!(%error, file = %unit.files().path().display(), "cannot put a log aside");
        }
        self.set_alarm(id, if kept.is_err() { ALARM_PAUSE } else { ALARM_PAUSE_MIN });
    }

    /// When age asks for something, but not before `pause` is over.
    fn set_alarm(&mut self, id: u32, pause: Duration) {
        let Some(unit) = self.units.get_mut(&id) else { return };
        let now = Instant::now();
        let next = unit.deadline(now).map(|at| at.max(now + pause));
        if let Some(old) = std::mem::replace(&mut unit.alarm, next) {
            self.alarms.remove(&(old, id));
        }
        if let Some(next) = next {
            self.alarms.insert((next, id));
        }
    }

    fn relax(&mut self) {
        if self.worked_at.is_some_and(|at| at.elapsed() >= RELAX_AFTER) {
            self.worked_at = None;
            self.tools.peeker.relax();
            self.tools.written = Vec::new();
            if let Err(error) = self.tools.journal.relax() {
                tracing::warn!(%error, "cannot empty the log journal");
            }
        }
    }
}
