//! This process becomes another program: same pid, same children.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

/// Where the new program finds its first socket.
const FIRST_FD: RawFd = 3;

/// See [`crate::replace_self`].
pub(crate) fn replace_self(
    programs: &[(&Path, String)],
    name: &str,
    args: &[OsString],
    sockets: &[BorrowedFd<'_>],
) -> io::Error {
    if let Err(error) = place(sockets) {
        return error;
    }
    let mut error = io::Error::from(io::ErrorKind::NotFound);
    for (program, value) in programs {
        let mut command = Command::new(program);
        command.args(args).env(name, value);
        command.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_PID", std::process::id().to_string());
        error = command.exec();
        tracing::error!(program = %program.display(), %error, "cannot become this program");
    }
    error
}

/// Makes these descriptors 3, 4, … without close-on-exec. Everything else of ours closes with the exec.
#[expect(unsafe_code, reason = "descriptors get numbers that others of ours may have")]
fn place(sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    let count = RawFd::try_from(sockets.len()).map_err(io::Error::other)?;
    let mut moved = Vec::with_capacity(sockets.len());
    // First out of the way of every number that is about to be given away, then down to 3, 4, …
    for socket in sockets {
        // SAFETY: duplicates a descriptor that is open for as long as it is borrowed.
        let fd = unsafe { libc::fcntl(socket.as_raw_fd(), libc::F_DUPFD_CLOEXEC, FIRST_FD + count) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        moved.push(fd);
    }
    for (target, fd) in (FIRST_FD..).zip(moved) {
        // SAFETY: whoever has that number of ours loses it: nothing of this program runs on, whatever comes of the exec.
        if unsafe { libc::dup2(fd, target) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
