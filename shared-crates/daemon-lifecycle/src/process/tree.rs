//! The end of a whole process tree. The one place that knows what belongs to a daemon besides its main process.
//!
//! Today that is its process group and its session. A cgroup, or a scan for those that left the session, would come in here.

use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::identity::{Process, ProcessIdentity, Stat, open_pidfd};
use super::wait::poll_timeout;

/// The environment variable that marks every process of one run; children inherit it.
pub(crate) const RUN_ID_VARIABLE: &str = "RBEE_RUN_ID";

/// Kills the process and all that belongs to it; waits until they are gone, at most `wait`. Whether they are.
pub(crate) fn kill_tree(leader: &Process, wait: Duration) -> io::Result<bool> {
    leader.kill_group()?;
    let until = Instant::now() + wait;
    let is_member = |pid: u32, stat: &Stat| stat.session == leader.pid() && pid != leader.pid();
    kill_until_gone(until, is_member)
}

/// Kills what a dead leader left in its session. Its number may be another's by now, so only processes that carry the run's mark
/// count.
pub(crate) fn kill_session_of_dead(leader: &ProcessIdentity, run_id: &str, wait: Duration) -> io::Result<bool> {
    if !leader.is_of_this_boot()? {
        return Ok(true);
    }
    let session = leader.pid;
    let mark = format!("{RUN_ID_VARIABLE}={run_id}");
    let is_member =
        |pid: u32, stat: &Stat| stat.session == session && has_env_entry(pid, |entry| entry == mark.as_bytes());
    kill_until_gone(Instant::now() + wait, is_member)
}

/// Whether the process carries the mark of some run of this unit.
pub(crate) fn bears_mark_of(pid: u32, unit: &str) -> bool {
    has_env_entry(pid, |entry| entry.starts_with(format!("{RUN_ID_VARIABLE}={unit}:").as_bytes()))
}

fn kill_until_gone(until: Instant, is_member: impl Fn(u32, &Stat) -> bool) -> io::Result<bool> {
    loop {
        let members = find(&is_member)?;
        if members.is_empty() {
            return Ok(true);
        }
        for member in &members {
            rustix::process::pidfd_send_signal(member, rustix::process::Signal::KILL).or_else(|errno| match errno {
                rustix::io::Errno::SRCH => Ok(()),
                other => Err(other),
            })?;
        }
        // One after the other is as good as all at once: every one of them has to go.
        for member in &members {
            let Some(left) = until.checked_duration_since(Instant::now()) else { return Ok(false) };
            wait_gone(member, poll_timeout(left))?;
        }
    }
}

fn wait_gone(member: &OwnedFd, timeout: PollTimeout) -> io::Result<()> {
    match nix::poll::poll(&mut [PollFd::new(member.as_fd(), PollFlags::POLLIN)], timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Every live process for which `is_member` is true, held by a pidfd that was opened before the last look at it.
fn find(is_member: &impl Fn(u32, &Stat) -> bool) -> io::Result<Vec<OwnedFd>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let is_meant = |pid| matches!(Stat::read(pid), Ok(Some(stat)) if !stat.is_zombie && is_member(pid, &stat));
        if !is_meant(pid) {
            continue;
        }
        if let Some(pidfd) = open_pidfd(pid)?
            && is_meant(pid)
        {
            found.push(pidfd);
        }
    }
    Ok(found)
}

fn has_env_entry(pid: u32, is_meant: impl Fn(&[u8]) -> bool) -> bool {
    fs::read(format!("/proc/{pid}/environ")).is_ok_and(|env| env.split(|byte| *byte == 0).any(is_meant))
}
