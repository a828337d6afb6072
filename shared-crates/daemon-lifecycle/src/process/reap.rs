//! How a process ended: by `waitid` for our children, else by what the kernel still tells about other people's.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};
use supervision::ExitHow;

use super::identity::{Process, Stat};
use super::orphans;

impl Process {
    /// Whether it has ended (reaped or not).
    pub(crate) fn has_exited(&self) -> io::Result<bool> {
        let mut fds = [rustix::event::PollFd::from_borrowed_fd(self.as_fd(), rustix::event::PollFlags::IN)];
        Ok(rustix::event::poll(&mut fds, Some(&rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 }))? > 0)
    }

    /// How it ended, if it has and waits for us to reap it.
    pub(super) fn as_our_zombie(&self) -> Option<ExitHow> {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        wait_for(WaitId::PidFd(self.as_fd()), look)
    }

    /// How it ended; reaps it where it is our child. Call it once, after the process was seen to end.
    pub(crate) fn exit_how(&self) -> ExitHow {
        let how = match wait_for(WaitId::PidFd(self.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Some(how) => how,
            None => self.foreign_exit_how(),
        };
        orphans::forget(self.pid());
        how
    }

    /// Kills our child with its group and reaps it, unless that is done already.
    pub(crate) fn kill_and_reap(&self) -> io::Result<()> {
        self.signal_group(libc::SIGKILL)?;
        child(self);
        Ok(())
    }

    /// For a process that is not our child: the kernel keeps the status for pidfds (6.15 and newer) once its parent has reaped it;
    /// until then it stands in `/proc`.
    fn foreign_exit_how(&self) -> ExitHow {
        let in_pidfd = || exit_status_of_pidfd(self);
        let in_proc = || {
            let stat = Stat::read(self.pid()).ok()??;
            let is_it = stat.is_zombie && stat.start_time_ticks == self.identity().start_time_ticks;
            is_it.then_some(stat.wait_status)
        };
        // Between the two looks its parent may have reaped it: then the first has it now.
        in_pidfd().or_else(in_proc).or_else(in_pidfd).map_or(ExitHow::Unknown, decode)
    }
}

/// Waits for a child that is about to end, and reaps it.
pub(super) fn child(process: &Process) {
    let _ = wait_for(WaitId::PidFd(process.as_fd()), WaitIdOptions::EXITED);
    orphans::forget(process.pid());
}

fn wait_for(id: WaitId<'_>, options: WaitIdOptions) -> Option<ExitHow> {
    loop {
        match waitid(id.clone(), options) {
            Ok(status) => return status.map(|status| from_wait_id(&status)),
            Err(rustix::io::Errno::INTR) => {}
            // ECHILD: not our child, or reaped by the kernel because SIGCHLD is ignored.
            Err(_) => return None,
        }
    }
}

fn from_wait_id(status: &WaitIdStatus) -> ExitHow {
    if let Some(code) = status.exit_status() {
        ExitHow::Code(code)
    } else if let Some(signal) = status.terminating_signal() {
        ExitHow::Signal(signal)
    } else {
        ExitHow::Unknown
    }
}

const fn decode(wait_status: i32) -> ExitHow {
    if libc::WIFEXITED(wait_status) {
        ExitHow::Code(libc::WEXITSTATUS(wait_status))
    } else if libc::WIFSIGNALED(wait_status) {
        ExitHow::Signal(libc::WTERMSIG(wait_status))
    } else {
        ExitHow::Unknown
    }
}

#[expect(unsafe_code, reason = "PIDFD_GET_INFO has no safe form yet")]
fn exit_status_of_pidfd(process: &Process) -> Option<i32> {
    // SAFETY: `pidfd_info` is plain integers, valid when zeroed; the kernel writes at most the size encoded in the request, which
    // is this struct's.
    let (result, info) = unsafe {
        let mut info: libc::pidfd_info = std::mem::zeroed();
        info.mask = u64::from(libc::PIDFD_INFO_EXIT);
        let result = libc::ioctl(process.as_fd().as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info);
        (result, info)
    };
    (result == 0 && info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0).then_some(info.exit_code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_statuses_are_told_apart() {
        assert_eq!(decode(3 << 8), ExitHow::Code(3));
        assert_eq!(decode(libc::SIGKILL), ExitHow::Signal(libc::SIGKILL));
        assert_eq!(decode(libc::SIGABRT | 0x80), ExitHow::Signal(libc::SIGABRT), "a core dump is still a signal");
    }
}
