//! The ends of all processes, awaited in one place: one descriptor for the runtime, however many processes there are.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::event::epoll;
use tokio::io::unix::AsyncFd;

use crate::process::{Process, watch_readable};

/// Ends taken in one turn; the others follow in the next.
const ENDS_MAX: usize = 64;

/// A set of processes, of which each is told once when it ends.
#[derive(Debug)]
pub(super) struct ExitSet {
    epoll: AsyncFd<OwnedFd>,
}

impl ExitSet {
    /// Must be called within a runtime.
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        Ok(Self { epoll: watch_readable(epoll)? })
    }

    /// Tells the end of `process` from now on, also where it has ended already.
    pub(super) fn watch(&self, process: &Process) -> io::Result<()> {
        let pid = epoll::EventData::new_u64(u64::from(process.pid()));
        // Told once: it stays readable until its pidfd is closed.
        Ok(epoll::add(self.epoll.get_ref(), process, pid, epoll::EventFlags::IN | epoll::EventFlags::ONESHOT)?)
    }

    /// The pids of some that have ended; none are reaped by this.
    pub(super) async fn ended(&self) -> io::Result<Vec<u32>> {
        loop {
            let mut guard = self.epoll.readable().await?;
            let ended = take(guard.get_inner())?;
            if !ended.is_empty() {
                return Ok(ended);
            }
            guard.clear_ready();
        }
    }
}

/// Those there are, without waiting.
fn take(epoll: &OwnedFd) -> io::Result<Vec<u32>> {
    let mut events = [const { MaybeUninit::<epoll::Event>::uninit() }; ENDS_MAX];
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        match epoll::wait(epoll, &mut events, Some(&now)) {
            Ok((ended, _)) => {
                return Ok(ended.iter().filter_map(|event| u32::try_from(event.data.u64()).ok()).collect());
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}
