//! The processes of one home, found by their environment; ended by pid, waited for by pidfd.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// One process of a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Its command line.
    pub command: String,
}

/// All live processes that have `RBEE_HOME=home` in their environment, but for ourselves.
pub fn of_home(home: &Path) -> Vec<Process> {
    let wanted = format!("RBEE_HOME={}", home.display());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if pid == std::process::id() || !is_alive(pid) {
            continue;
        }
        // A process that ends meanwhile reads as empty.
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes()) {
            let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ").trim_end().to_owned();
            found.push(Process { pid, command });
        }
    }
    found.sort_by_key(|process| process.pid);
    found
}

/// Whether the process runs: a zombie has ended.
pub fn is_alive(pid: u32) -> bool {
    state(pid).is_some_and(|state| state != 'Z' && state != 'X')
}

fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name stands in brackets and may hold anything.
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Sends SIGKILL, as a crash would, and waits until the process has ended.
///
/// # Panics
/// When there is no such process, or it does not end.
pub fn crash(pid: u32) {
    assert!(send(pid, Signal::KILL), "no process {pid} to kill");
    wait_gone(pid, Duration::from_secs(10));
}

/// Sends a signal; false when there is no such process any more.
pub fn send(pid: u32, signal: Signal) -> bool {
    open(pid).is_some_and(|process| pidfd_send_signal(process, signal).is_ok())
}

/// Waits until the process has ended.
///
/// # Panics
/// When it has not after `timeout`.
pub fn wait_gone(pid: u32, timeout: Duration) {
    let Some(process) = open(pid) else { return };
    let timeout = Timespec::try_from(timeout).unwrap();
    let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&timeout)).unwrap();
    assert!(ended == 1, "process {pid} has not ended after {} s", timeout.tv_sec);
}

fn open(pid: u32) -> Option<OwnedFd> {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap())?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test of what finds processes needs one")]
    fn a_process_is_found_by_its_home_and_no_longer_after_its_end() {
        let home = tempfile::tempdir().unwrap();
        let mut child = Command::new("sleep").arg("1000").env("RBEE_HOME", home.path()).spawn().unwrap();
        crate::wait::until("exec", Duration::from_secs(10), || {
            of_home(home.path()).iter().any(|process| process.command == "sleep 1000").then_some(())
        });
        crash(child.id());
        // A zombie, not reaped yet: no longer a process of the home.
        assert_eq!(of_home(home.path()), []);
        assert!(!is_alive(child.id()));
        child.wait().unwrap();
        assert!(!send(child.id(), Signal::KILL));
    }
}
