//! Signals to a process that is held by its pidfd, and to its group.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::identity::{Process, Stat};

/// The signal that asks a daemon to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum StopSignal {
    /// SIGTERM.
    #[default]
    Term,
    /// SIGINT.
    Int,
    /// SIGQUIT.
    Quit,
    /// SIGHUP.
    Hup,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
}

impl StopSignal {
    const ALL: [(Self, &'static str, i32); 6] = [
        (Self::Term, "TERM", libc::SIGTERM),
        (Self::Int, "INT", libc::SIGINT),
        (Self::Quit, "QUIT", libc::SIGQUIT),
        (Self::Hup, "HUP", libc::SIGHUP),
        (Self::Usr1, "USR1", libc::SIGUSR1),
        (Self::Usr2, "USR2", libc::SIGUSR2),
    ];

    fn number(self) -> i32 {
        Self::ALL.iter().find(|(signal, ..)| *signal == self).map_or(libc::SIGTERM, |(.., number)| *number)
    }
}

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(Self::ALL.iter().find(|(signal, ..)| signal == self).map_or("TERM", |(_, name, _)| name))
    }
}

/// A name that is no stop signal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no stop signal; use one of TERM, INT, QUIT, HUP, USR1, USR2")]
pub struct UnknownSignal {
    /// The name.
    pub name: String,
}

impl FromStr for StopSignal {
    type Err = UnknownSignal;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let plain = name.strip_prefix("SIG").unwrap_or(name);
        let found = Self::ALL.iter().find(|(_, known, _)| *known == plain);
        found.map(|(signal, ..)| *signal).ok_or_else(|| UnknownSignal { name: name.to_owned() })
    }
}

impl Process {
    /// Sends a signal to the whole process group this process leads, or to itself alone where it leads none (a daemon that forked
    /// twice does not); one that is gone is fine.
    pub(super) fn signal_group(&self, number: i32) -> io::Result<()> {
        match send(self, number, libc::PIDFD_SIGNAL_PROCESS_GROUP) {
            // Kernels before 6.9 know no group flag: by number then, while the leader itself still keeps the number from being reused.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => self.signal_group_by_number(number),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => self.signal(number),
            result => result,
        }
    }

    /// Asks the whole group to end. A process that is stopped (SIGSTOP) hears that only when it goes on, so it does.
    pub(crate) fn ask_group_to_end(&self, signal: StopSignal) -> io::Result<()> {
        self.signal_group(signal.number())?;
        self.signal_group(libc::SIGCONT)
    }

    /// SIGKILL to this process and its group.
    pub(crate) fn kill_group(&self) -> io::Result<()> {
        self.signal(libc::SIGKILL)?;
        self.signal_group(libc::SIGKILL)
    }

    /// Sends a signal to this process alone.
    fn signal(&self, number: i32) -> io::Result<()> {
        ignore_gone(send(self, number, 0))
    }

    fn signal_group_by_number(&self, number: i32) -> io::Result<()> {
        let still_there =
            Stat::read(self.pid())?.is_some_and(|stat| stat.start_time_ticks == self.identity().start_time_ticks);
        match rustix_pid(self.pid()).filter(|_| still_there) {
            Some(pid) => match nix::sys::signal::killpg(pid, nix::sys::signal::Signal::try_from(number)?) {
                Err(nix::errno::Errno::ESRCH) => self.signal(number),
                result => result.map_err(io::Error::from),
            },
            None => Ok(()),
        }
    }
}

fn rustix_pid(pid: u32) -> Option<nix::unistd::Pid> {
    i32::try_from(pid).ok().filter(|pid| *pid > 1).map(nix::unistd::Pid::from_raw)
}

fn ignore_gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        other => other,
    }
}

#[expect(unsafe_code, reason = "the safe forms of pidfd_send_signal take no flags")]
fn send(process: &Process, number: i32, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: a system call on a descriptor we hold; a null siginfo means the default one.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_fd().as_raw_fd(),
            number,
            std::ptr::null::<libc::siginfo_t>(),
            flags,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_stop_signals_go_both_ways() {
        for (signal, name, number) in StopSignal::ALL {
            assert_eq!(name.parse(), Ok(signal));
            assert_eq!(format!("SIG{name}").parse(), Ok(signal));
            assert_eq!((signal.to_string().as_str(), signal.number()), (name, number));
        }
        let error = "KILL".parse::<StopSignal>().unwrap_err();
        assert_eq!(error.to_string(), "`KILL` is no stop signal; use one of TERM, INT, QUIT, HUP, USR1, USR2");
    }
}
