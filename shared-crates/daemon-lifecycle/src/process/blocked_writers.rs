//! Hearing of writers that wait for room in a FIFO that is not empty.
//!
//! Epoll is not enough for them: a write that does not fit wakes readers before it sleeps only if it found the FIFO empty. Who leaves
//! an unfinished line in there would wait for its end, and the writer for the room. The kernel's older way tells of every write.

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Values of the kernel's interface for which there is no binding.
const F_SETOWN_EX: libc::c_int = 15;
const F_OWNER_TID: libc::c_int = 0;

#[repr(C)]
struct OwnerEx {
    kind: libc::c_int,
    id: libc::pid_t,
}

/// What this thread reads of writes to the FIFOs for which it called [`tell_of_writes`]: readable after each.
pub(crate) fn writes_told() -> io::Result<SignalFd> {
    let told = SigSet::from(Signal::SIGIO);
    told.thread_block()?;
    Ok(SignalFd::with_flags(&told, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

/// Whether this thread, which called [`writes_told`], is told of every write to the FIFO.
#[expect(unsafe_code, reason = "there is no binding for F_SETOWN_EX")]
pub(crate) fn tell_of_writes(fifo: impl AsFd, is_told: bool) -> io::Result<()> {
    let fifo = fifo.as_fd();
    if is_told {
        let owner = OwnerEx { kind: F_OWNER_TID, id: nix::unistd::gettid().as_raw() };
        // SAFETY: the descriptor is open while it is borrowed, and the kernel reads the struct during the call only.
        let set = unsafe { libc::fcntl(fifo.as_raw_fd(), F_SETOWN_EX, &raw const owner) };
        if set < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let mut flags = OFlag::O_NONBLOCK;
    flags.set(OFlag::O_ASYNC, is_told);
    fcntl(fifo, FcntlArg::F_SETFL(flags))?;
    Ok(())
}
