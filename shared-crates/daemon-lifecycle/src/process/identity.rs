//! Which process is meant: pid, kernel start time and boot id together, so that a recycled pid is never taken for the old process.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

/// Names one process of one boot of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessIdentity {
    /// Its process id.
    pub(crate) pid: u32,
    /// Its start, in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub(crate) start_time_ticks: u64,
    /// The boot it belongs to.
    pub(crate) boot_id: String,
}

impl ProcessIdentity {
    /// A process of this boot.
    pub(crate) fn of_this_boot(pid: u32, start_time_ticks: u64) -> io::Result<Self> {
        Ok(Self { pid, start_time_ticks, boot_id: boot_id()?.to_owned() })
    }

    /// Whether the machine has not been restarted since.
    pub(crate) fn is_of_this_boot(&self) -> io::Result<bool> {
        Ok(self.boot_id == boot_id()?)
    }
}

/// A process held by its pidfd, and verified to be the one that was meant.
#[derive(Debug)]
pub(crate) struct Process {
    pidfd: OwnedFd,
    identity: ProcessIdentity,
}

impl Process {
    /// Holds the process that `pid` names now; `None` when there is none.
    pub(crate) fn of_pid(pid: u32) -> io::Result<Option<Self>> {
        let Some(pidfd) = open_pidfd(pid)? else { return Ok(None) };
        // Read after the open: whatever this says is about the process held, or about none.
        let Some(stat) = Stat::read(pid)? else { return Ok(None) };
        let identity = ProcessIdentity::of_this_boot(pid, stat.start_time_ticks)?;
        Ok(Some(Self { pidfd, identity }))
    }

    /// Holds the process with this identity; `None` when it is gone, even if its number is used again or it waits to be reaped.
    pub(crate) fn open(identity: &ProcessIdentity) -> io::Result<Option<Self>> {
        if !identity.is_of_this_boot()? {
            return Ok(None);
        }
        let process = Self::of_pid(identity.pid)?.filter(|process| process.identity == *identity);
        match process {
            Some(process) if !process.has_exited()? => Ok(Some(process)),
            _ => Ok(None),
        }
    }

    /// Who it is.
    pub(crate) const fn identity(&self) -> &ProcessIdentity {
        &self.identity
    }

    /// Its process id.
    pub(crate) const fn pid(&self) -> u32 {
        self.identity.pid
    }

    /// Its exit is waited for from now on: not for the reaping of orphans, if it is our child (a daemon that forked may be).
    pub(crate) fn await_exit(&self) {
        super::orphans::await_exit_of(self.pid());
    }

    /// When it began, by the wall clock as it goes now, to a tick.
    pub(crate) fn started_at(&self) -> Option<std::time::SystemTime> {
        let ticks_a_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??.unsigned_abs();
        let since_boot = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).ok()?;
        let began = std::time::Duration::from_millis(self.identity.start_time_ticks * 1000 / ticks_a_second);
        let ago = std::time::Duration::from(since_boot).checked_sub(began)?;
        std::time::SystemTime::now().checked_sub(ago)
    }

    /// One just started: the kernel gave its pidfd, it told its start time itself.
    pub(super) fn of_child(pidfd: OwnedFd, pid: u32, start_time_ticks: u64) -> io::Result<Self> {
        Ok(Self { pidfd, identity: ProcessIdentity::of_this_boot(pid, start_time_ticks)? })
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

/// A pidfd of the process that `pid` names now.
pub(super) fn open_pidfd(pid: u32) -> io::Result<Option<OwnedFd>> {
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
    match pidfd_open(raw, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Some(pidfd)),
        // EINVAL: the number is a thread's, not a process's.
        Err(rustix::io::Errno::SRCH | rustix::io::Errno::INVAL) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// The session a process belongs to: the pid of the process that made it.
pub(crate) fn session_of(pid: u32) -> Option<u32> {
    Stat::read(pid).ok()?.map(|stat| stat.session)
}

/// What `/proc/PID/stat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    /// Exited, but not reaped by its parent.
    pub(super) is_zombie: bool,
    /// Its parent.
    pub(super) parent: u32,
    /// Session id: the pid of the process that made the session.
    pub(super) session: u32,
    /// Clock ticks since boot.
    pub(super) start_time_ticks: u64,
    /// `wait` status; meaningful for a zombie, 0 where it is hidden from us.
    pub(super) wait_status: i32,
}

impl Stat {
    /// `None` when there is no such process.
    pub(super) fn read(pid: u32) -> io::Result<Option<Self>> {
        match fs::read(format!("/proc/{pid}/stat")) {
            Ok(text) => Self::parse(&text).map(Some).ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, format!("/proc/{pid}/stat has an unknown form"))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH) => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn parse(text: &[u8]) -> Option<Self> {
        // The second field is the program's name in parentheses and may hold anything, so fields count from its end.
        let name_end = text.iter().rposition(|byte| *byte == b')')?;
        let rest = std::str::from_utf8(&text[name_end + 1..]).ok()?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            is_zombie: matches!(field(3)?, "Z" | "X" | "x"),
            parent: field(4)?.parse().unwrap_or(0),
            session: field(6)?.parse().unwrap_or(0),
            start_time_ticks: field(22)?.parse().ok()?,
            wait_status: field(52).and_then(|text| text.parse().ok()).unwrap_or(0),
        })
    }
}

/// The start time in the text of a `/proc/PID/stat`. Allocates nothing: a child calls it before its exec.
pub(super) fn start_time_ticks_in(stat: &[u8]) -> Option<u64> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let field = stat.get(name_end + 2..)?.split(|byte| *byte == b' ').nth(22 - 3)?;
    field.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// The kernel's id of this boot.
fn boot_id() -> io::Result<&'static str> {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    if let Some(known) = BOOT_ID.get() {
        return Ok(known);
    }
    let read = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(BOOT_ID.get_or_init(|| read.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let tail = (7..=52).map(|number| if number == 22 { "777".to_owned() } else { number.to_string() });
        let text = format!("12 (a) S (b) Z 1 2 9 {}", tail.collect::<Vec<_>>().join(" "));
        let stat = Stat::parse(text.as_bytes()).unwrap();
        assert_eq!(stat, Stat { is_zombie: true, parent: 1, session: 9, start_time_ticks: 777, wait_status: 52 });
        assert_eq!(start_time_ticks_in(text.as_bytes()), Some(777));
        assert_eq!(start_time_ticks_in(b"12 (a) S 1"), None);
    }

    /// PROC-01
    #[test]
    fn this_process_is_itself_and_nobody_else() {
        let me = Process::of_pid(std::process::id()).unwrap().unwrap();
        assert!(Process::open(me.identity()).unwrap().is_some());
        let older = ProcessIdentity { start_time_ticks: me.identity().start_time_ticks - 1, ..me.identity().clone() };
        assert!(Process::open(&older).unwrap().is_none(), "another start time is another process");
        let rebooted = ProcessIdentity { boot_id: "another".to_owned(), ..me.identity().clone() };
        assert!(Process::open(&rebooted).unwrap().is_none(), "another boot is another process");
    }

    #[test]
    fn no_process_has_pid_zero_or_an_impossible_pid() {
        assert!(Process::of_pid(0).unwrap().is_none());
        assert!(Process::of_pid(u32::MAX).unwrap().is_none());
    }
}
