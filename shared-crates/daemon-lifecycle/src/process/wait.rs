//! Waiting for the end of a process without polling: in a task, or in a thread with a deadline.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::identity::Process;

/// Tells a task when a process has ended.
#[derive(Debug)]
pub(crate) struct ExitWatch {
    pidfd: AsyncFd<OwnedFd>,
}

impl ExitWatch {
    /// Watches `process`. Must be called within a runtime.
    pub(crate) fn new(process: &Process) -> io::Result<Self> {
        Ok(Self { pidfd: watch_readable(process.as_fd().try_clone_to_owned()?)? })
    }

    /// Returns once the process has ended; it is not reaped by this.
    pub(crate) async fn ended(&self) -> io::Result<()> {
        self.pidfd.readable().await.map(|mut guard| guard.retain_ready())
    }
}

/// Has the runtime watch a descriptor for something to read. Must be called within a runtime.
#[expect(unsafe_code, reason = "registering a descriptor is unsafe since a type could lie about owning it")]
pub(crate) fn watch_readable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd always gives the same descriptor, and closes it only after the AsyncFd around it has deregistered it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?)
}

/// Waits until one of `fds` is readable; says which are. All false: `until` has come.
pub(crate) fn readable_until(fds: &[BorrowedFd<'_>], until: Option<Instant>) -> io::Result<Vec<bool>> {
    loop {
        let timeout = match until {
            None => PollTimeout::NONE,
            Some(until) => poll_timeout(until.saturating_duration_since(Instant::now())),
        };
        let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        match poll(&mut polled, timeout) {
            // A wait longer than poll can express ends early: go on.
            Ok(0) if until.is_some_and(|until| until > Instant::now()) => {}
            Ok(_) => return Ok(polled.iter().map(|fd| fd.any().unwrap_or(false)).collect()),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Rounded up, so that a wait never ends before its time.
pub(super) fn poll_timeout(wait: Duration) -> PollTimeout {
    let ms = wait.as_micros().div_ceil(1000);
    PollTimeout::try_from(i32::try_from(ms).unwrap_or(i32::MAX)).unwrap_or(PollTimeout::MAX)
}
