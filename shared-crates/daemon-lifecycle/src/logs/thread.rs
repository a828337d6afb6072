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
use super::alarms::ALARM_PAUSE_MIN;
use super::fifo::Peeker;
use super::files::AsideFiles;
use super::journal::Journal;
use super::lines::Stream;
use super::requests::{Request, Shared, TOLD, WAKE, about};
use super::unit::{Tools, Unit};
use crate::process::writes_told;

/// Pause before a write that failed is tried again: a full disk may have been cleared.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Output that follows other output waits so long for company.
const FLOOD_PAUSE_MS: u8 = 1;
/// Without output for so long, memory is given back.
const RELAX_AFTER: Duration = Duration::from_secs(1);
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

pub(super) struct Keeper {
    pub(super) shared: Arc<Shared>,
    pub(super) units: BTreeMap<u32, Box<Unit>>,
    pub(super) tools: Tools,
    /// Units with news.
    pub(super) busy: BTreeSet<u32>,
    /// Units in whose FIFOs unfinished lines wait.
    pub(super) unfinished: BTreeSet<u32>,
    /// Units whose files cannot be written.
    pub(super) stuck: BTreeSet<u32>,
    retry_at: Option<Instant>,
    pub(super) alarms: BTreeSet<(Instant, u32)>,
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

    pub(super) fn after_work(&mut self, id: u32, worked: io::Result<()>) {
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
