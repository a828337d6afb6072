//! How others reach the log thread, and what it can be asked.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::epoll;
use tokio::sync::{Semaphore, oneshot, watch};

use super::fifo::Fifo;
use super::files::AsideFiles;
use super::lines::Stream;
use super::policy::LogPolicy;
use super::unit::{Place, Unit};

/// Readers' requests that may wait at once; the others are bounded by the units and their runs.
const READERS_MAX: usize = 64;
/// The event that says: there are requests.
pub(super) const WAKE: u64 = u64::MAX;
/// The event that says: somebody writes behind an unfinished line.
pub(super) const TOLD: u64 = u64::MAX - 1;

/// What the log thread can be asked.
#[derive(Debug)]
pub(super) enum Request {
    Add(u32, Box<Unit>),
    Replace(u32, Stream, Fifo),
    SetPolicy(u32, LogPolicy),
    /// A run has ended: write down all it left, the unfinished line too; its tail.
    EndRun(u32, oneshot::Sender<Vec<String>>),
    Open(u32, Which, oneshot::Sender<io::Result<Option<Opened>>>),
    Follow(u32, oneshot::Sender<watch::Receiver<Place>>),
    /// A follower of this unit is gone.
    Unfollow(u32),
    Close(u32, Option<oneshot::Sender<()>>),
    /// Close all.
    End(Option<oneshot::Sender<()>>),
}

/// A file of a unit's log.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which {
    Newest,
    /// The newest before this generation.
    Before(u64),
    /// The oldest of this generation or after it.
    From(u64),
}

/// A log file, open for reading.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: Arc<File>,
    pub(super) generation: u64,
    pub(super) len: u64,
}

/// What the thread and all handles share.
#[derive(Debug)]
pub(super) struct Shared {
    /// `None` once the thread is gone.
    queue: Mutex<Option<Vec<Request>>>,
    pub(super) wake: OwnedFd,
    pub(super) epoll: OwnedFd,
    aside: Mutex<AsideFiles>,
    ids: AtomicU32,
    pub(super) is_folder_proven: AtomicBool,
    readers: Semaphore,
}

impl Shared {
    pub(super) fn new(aside: AsideFiles) -> io::Result<Self> {
        let flags = rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK;
        let wake = rustix::event::eventfd(0, flags)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &wake, epoll::EventData::new_u64(WAKE), epoll::EventFlags::IN)?;
        let (queue, readers) = (Mutex::new(Some(Vec::new())), Semaphore::new(READERS_MAX));
        Ok(Self {
            queue,
            wake,
            epoll,
            aside: Mutex::new(aside),
            ids: AtomicU32::new(0),
            is_folder_proven: AtomicBool::new(false),
            readers,
        })
    }

    pub(super) fn aside(&self) -> MutexGuard<'_, AsideFiles> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue(&self) -> MutexGuard<'_, Option<Vec<Request>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues it and wakes the thread. Where that is gone, the request and its reply are dropped.
    pub(super) fn ask(&self, request: Request) {
        let mut queue = self.queue();
        let Some(queue) = queue.as_mut() else { return };
        queue.push(request);
        self.wake();
    }

    fn wake(&self) {
        // It fails only when the counter is full, and then the thread is awake.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.queue().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Nobody answers from now on.
    pub(super) fn end(&self) {
        *self.queue() = None;
    }

    /// Output wakes the thread from now on, so its request need not.
    pub(super) fn add(&self, unit: Unit) -> io::Result<u32> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let needs_a_look = unit.needs_a_look();
        {
            // Watched and queued under one lock: the thread looks into the queue after each event.
            let mut queue = self.queue();
            let queue = queue.as_mut().ok_or_else(closed)?;
            for stream in [Stream::Out, Stream::Err] {
                self.watch(id, stream, unit.fifo(stream))?;
            }
            queue.push(Request::Add(id, Box::new(unit)));
        }
        if needs_a_look {
            self.wake();
        }
        Ok(id)
    }

    pub(super) fn replace(&self, id: u32, stream: Stream, fifo: Fifo) -> io::Result<()> {
        let mut queue = self.queue();
        let queue = queue.as_mut().ok_or_else(closed)?;
        self.watch(id, stream, &fifo)?;
        queue.push(Request::Replace(id, stream, fifo));
        Ok(())
    }

    fn watch(&self, id: u32, stream: Stream, fifo: &Fifo) -> io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        Ok(epoll::add(&self.epoll, fifo.file(), epoll::EventData::new_u64(event_of(id, stream)), flags)?)
    }

    pub(super) async fn open_file(&self, id: u32, which: Which) -> io::Result<Option<Opened>> {
        let _permit = self.readers.acquire().await.map_err(io::Error::other)?;
        let (reply, opened) = oneshot::channel();
        self.ask(Request::Open(id, which, reply));
        opened.await.unwrap_or(Ok(None))
    }

    pub(super) async fn follow(&self, id: u32) -> io::Result<watch::Receiver<Place>> {
        let _permit = self.readers.acquire().await.map_err(io::Error::other)?;
        let (reply, written) = oneshot::channel();
        self.ask(Request::Follow(id, reply));
        written.await.map_err(|_| closed())
    }
}

fn closed() -> io::Error {
    io::Error::other("the log is closed")
}

fn event_of(id: u32, stream: Stream) -> u64 {
    u64::from(id) * 2 + u64::from(stream == Stream::Err)
}

/// The unit and stream an event is about.
pub(super) fn about(event: u64) -> Option<(u32, Stream)> {
    let stream = if event.is_multiple_of(2) { Stream::Out } else { Stream::Err };
    Some((u32::try_from(event / 2).ok()?, stream))
}
