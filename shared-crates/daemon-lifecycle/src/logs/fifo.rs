//! A FIFO between a daemon and whoever supervises it.
//!
//! Both ends hold it open for reading and writing, so neither notices the other's death: the daemon's output waits in it for the
//! next reader. And a line is taken out only after it is written down: `peek` first (tee(2) into a pipe of our own), `take` when it
//! is safe. A reader killed in between leaves the line to the next one, which writes it once more: twice is better than never.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, tee};
use tokio::io::unix::AsyncFd;

use crate::process::watch_readable;

/// Makes the FIFO unless it is there.
pub(crate) fn create(path: &Path) -> io::Result<()> {
    match nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(()) => Ok(()),
        Err(Errno::EEXIST) if fs::symlink_metadata(path)?.file_type().is_fifo() => Ok(()),
        Err(Errno::EEXIST) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else has the FIFO's name")),
        Err(errno) => Err(errno.into()),
    }
}

/// The daemon's end.
pub(crate) fn open_for_daemon(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).open(path)
}

/// The supervisor's end.
#[derive(Debug)]
pub(super) struct FifoReader {
    fifo: AsyncFd<OwnedFd>,
    taker: Taker,
    copy_in: OwnedFd,
    copy_out: OwnedFd,
    capacity: usize,
}

impl FifoReader {
    /// Opens the FIFO and asks for a capacity; the kernel may grant less. Must be called within a runtime.
    pub(super) fn open(path: &Path, capacity: usize) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        let (copy_out, copy_in) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        let wanted = i32::try_from(capacity).unwrap_or(i32::MAX);
        // Beyond a user's share of pipe memory the kernel refuses: a smaller FIFO works too.
        let _ = fcntl(&file, FcntlArg::F_SETPIPE_SZ(wanted));
        let granted = fcntl(&file, FcntlArg::F_GETPIPE_SZ)?;
        let _ = fcntl(&copy_in, FcntlArg::F_SETPIPE_SZ(granted));
        let capacity = usize::try_from(granted).unwrap_or(0);
        let taker = Taker(Arc::new(file.try_clone()?.into()));
        Ok(Self { fifo: watch_readable(file.into())?, taker, copy_in, copy_out, capacity })
    }

    /// Returns when something was written since the last look.
    pub(super) async fn written(&self) -> io::Result<()> {
        self.fifo.readable().await.map(|mut guard| guard.clear_ready())
    }

    /// What is in it now, without taking it out.
    pub(super) fn peek(&self) -> io::Result<Vec<u8>> {
        let fifo = self.fifo.get_ref();
        let copied = match tee(fifo, &self.copy_in, self.capacity, SpliceFlags::NONBLOCK) {
            Ok(copied) => copied,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        let mut bytes = vec![0; copied];
        read_exactly(&self.copy_out, &mut bytes)?;
        Ok(bytes)
    }

    /// For taking out what `peek` gave, from any thread.
    pub(super) fn taker(&self) -> Taker {
        self.taker.clone()
    }

    /// Whether a writer would have to wait.
    pub(super) fn is_full(&self) -> bool {
        let mut fds = [PollFd::new(self.fifo.get_ref().as_fd(), PollFlags::POLLOUT)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
    }
}

/// Takes out what was peeked.
#[derive(Debug, Clone)]
pub(super) struct Taker(Arc<OwnedFd>);

impl Taker {
    /// Takes the first `bytes` of what `peek` gave.
    pub(super) fn take(&self, bytes: usize) -> io::Result<()> {
        read_exactly(&self.0, &mut vec![0; bytes])
    }
}

fn read_exactly(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::read(fd, &mut buffer[filled..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => filled += read,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn what_is_peeked_stays_until_it_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.out");
        create(&path).unwrap();
        create(&path).unwrap();
        let mut daemon = open_for_daemon(&path).unwrap();
        let reader = FifoReader::open(&path, 65536).unwrap();
        assert_eq!(reader.peek().unwrap(), b"");
        daemon.write_all(b"one\ntwo").unwrap();
        reader.written().await.unwrap();
        assert_eq!(reader.peek().unwrap(), b"one\ntwo");
        drop(reader);

        let next = FifoReader::open(&path, 65536).unwrap();
        assert_eq!(next.peek().unwrap(), b"one\ntwo", "the next reader finds what the last one did not take");
        next.taker().take(4).unwrap();
        assert_eq!(next.peek().unwrap(), b"two");
        assert!(!next.is_full());
    }

    #[test]
    fn something_else_of_that_name_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.out");
        fs::write(&path, "").unwrap();
        assert!(create(&path).unwrap_err().to_string().contains("something else"));
    }
}
