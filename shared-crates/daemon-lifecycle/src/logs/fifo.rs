//! A FIFO between a daemon and whoever supervises it.
//!
//! Both ends hold it open for reading and writing, so neither notices the other's death: the daemon's output waits in it for the
//! next reader. A line is taken out only after it is written down: [`Peeker::peek`] first (tee(2) into a pipe of our own), then
//! [`Journal::take`](super::journal::Journal::take).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, tee};

/// What a FIFO holds until it is made larger. Only a busy one is: memory for pipes is a user's scarce share.
const CAPACITY_AT_FIRST: usize = 64 * 1024;

/// Makes the FIFO unless it is there; says whether it did.
pub(super) fn create(path: &Path) -> io::Result<bool> {
    match nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(()) => Ok(true),
        Err(Errno::EEXIST) if fs::symlink_metadata(path)?.file_type().is_fifo() => Ok(false),
        Err(Errno::EEXIST) => Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else has the FIFO's name")),
        Err(errno) => Err(errno.into()),
    }
}

/// The supervisor's end.
#[derive(Debug)]
pub(super) struct Fifo {
    file: File,
    inode: u64,
    capacity: usize,
}

impl Fifo {
    /// Opens it without ever waiting. Anything else than a FIFO is refused.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.file_type().is_fifo() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no FIFO"));
        }
        Ok(Self { file, inode: metadata.ino(), capacity: CAPACITY_AT_FIRST })
    }

    pub(super) const fn file(&self) -> &File {
        &self.file
    }

    pub(super) const fn inode(&self) -> u64 {
        self.inode
    }

    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes in it now.
    pub(super) fn filled(&self) -> io::Result<u64> {
        Ok(rustix::io::ioctl_fionread(&self.file)?)
    }

    /// Whether a writer would have to wait.
    pub(super) fn is_full(&self) -> bool {
        let mut fds = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
    }

    /// Makes room for so many bytes; says whether that changed anything.
    pub(super) fn grow(&mut self, capacity: usize) -> bool {
        if self.capacity >= capacity {
            return false;
        }
        // Asked once: beyond a user's share of pipe memory the kernel refuses, and a smaller FIFO works too.
        self.capacity = capacity;
        set_capacity(&self.file, capacity)
    }

    /// Takes out what is there, up to so many bytes, without a trace of how many.
    pub(super) fn discard(&self, bytes: usize) -> io::Result<()> {
        let mut buffer = vec![0; bytes];
        read_exactly(&self.file, &mut buffer)
    }
}

/// Looks into FIFOs without taking anything out.
#[derive(Debug)]
pub(super) struct Peeker {
    copy_in: OwnedFd,
    copy_out: OwnedFd,
    capacity: usize,
    buffer: Vec<u8>,
}

impl Peeker {
    /// `capacity`: of the largest FIFO to be looked into (bytes); the kernel may grant less.
    pub(super) fn new(capacity: usize) -> io::Result<Self> {
        let (copy_out, copy_in) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        set_capacity(&copy_in, capacity.max(CAPACITY_AT_FIRST));
        let capacity = usize::try_from(fcntl(&copy_in, FcntlArg::F_GETPIPE_SZ)?).unwrap_or(CAPACITY_AT_FIRST);
        Ok(Self { copy_in, copy_out, capacity, buffer: Vec::new() })
    }

    pub(super) const fn capacity(&self) -> usize {
        self.capacity
    }

    /// What is in it now, or the beginning of it.
    pub(super) fn peek(&mut self, fifo: &Fifo) -> io::Result<&[u8]> {
        let copied = match tee(fifo.file(), &self.copy_in, self.capacity, SpliceFlags::NONBLOCK) {
            Ok(copied) => copied,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        if self.buffer.len() < copied {
            self.buffer.resize(copied, 0);
        }
        let bytes = &mut self.buffer[..copied];
        read_exactly(&self.copy_out, bytes)?;
        Ok(bytes)
    }

    /// Gives back its memory.
    pub(super) fn relax(&mut self) {
        self.buffer = Vec::new();
    }
}

fn set_capacity(fd: impl std::os::fd::AsFd, bytes: usize) -> bool {
    fcntl(fd, FcntlArg::F_SETPIPE_SZ(i32::try_from(bytes).unwrap_or(i32::MAX))).is_ok()
}

fn read_exactly(fd: impl std::os::fd::AsFd, buffer: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::read(&fd, &mut buffer[filled..]) {
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

    fn open_for_daemon(path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).open(path)
    }

    #[test]
    fn what_is_peeked_stays_until_it_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.out");
        assert!(create(&path).unwrap());
        assert!(!create(&path).unwrap());
        let mut daemon = open_for_daemon(&path).unwrap();
        let mut peeker = Peeker::new(128 * 1024).unwrap();
        let fifo = Fifo::open(&path).unwrap();
        assert_eq!(peeker.peek(&fifo).unwrap(), b"");
        daemon.write_all(b"one\ntwo").unwrap();
        assert_eq!(peeker.peek(&fifo).unwrap(), b"one\ntwo");
        drop(fifo);

        let next = Fifo::open(&path).unwrap();
        assert_eq!(peeker.peek(&next).unwrap(), b"one\ntwo", "the next reader finds what the last one did not take");
        next.discard(4).unwrap();
        assert_eq!(peeker.peek(&next).unwrap(), b"two");
        assert!(!next.is_full());
    }

    #[test]
    fn a_larger_one_holds_more_and_all_of_it_can_be_peeked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.out");
        create(&path).unwrap();
        let mut fifo = Fifo::open(&path).unwrap();
        let mut daemon = open_for_daemon(&path).unwrap();
        daemon.write_all(&[b'x'; 65536]).unwrap();
        assert!(fifo.is_full());
        assert!(fifo.grow(128 * 1024) && !fifo.grow(128 * 1024));
        assert!(!fifo.is_full());
        daemon.write_all(&[b'y'; 65536]).unwrap();
        assert_eq!(Peeker::new(128 * 1024).unwrap().peek(&fifo).unwrap().len(), 128 * 1024);
        assert_eq!(fifo.filled().unwrap(), 128 * 1024);
    }

    #[test]
    fn something_else_of_that_name_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.out");
        fs::write(&path, "").unwrap();
        assert!(create(&path).unwrap_err().to_string().contains("something else"));
        assert!(Fifo::open(&path).is_err());
    }
}
