//! What is left in a service manager's unit when its daemon has ended: for the unit's last command, after a stop that shall leave
//! nothing. A queen that was upgraded and still writes her last answers is such a rest.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::cgroup::{Cgroup, Hierarchy, own_path};
use super::identity::Process;
use super::wait::readable_until;

/// How long the killed may take to disappear.
const KILLED_WAIT: Duration = Duration::from_secs(5);

/// Ends every other process in the cgroup of the unit that this process belongs to: SIGTERM, after `patience` SIGKILL. Nothing where
/// this process is in no cgroup of that name. How many there were.
///
/// # Errors
/// When one cannot be signalled.
pub fn end_rest_of_unit(unit: &str, patience: Duration) -> io::Result<usize> {
    let own = own_path(&fs::read_to_string("/proc/self/cgroup")?);
    let place = own.and_then(|own| unit_in(&own, unit)).and_then(|path| Hierarchy::found()?.place_of(&path));
    let Some(place) = place else { return Ok(0) };
    let asked = signal_all(&place, patience, |process| process.signal_group(libc::SIGTERM))?;
    signal_all(&place, KILLED_WAIT, Process::kill_group)?;
    Ok(asked)
}

/// Signals all that are there, and waits until they are gone, at most so long.
fn signal_all(place: &Path, wait: Duration, signal: impl Fn(&Process) -> io::Result<()>) -> io::Result<usize> {
    let cgroup = Cgroup::at(place.to_owned());
    let mut signalled = Vec::new();
    for pid in members(place).into_iter().filter(|pid| *pid != std::process::id()) {
        // Looked at again once it is held: what is signalled is in there.
        if let Some(process) = Process::of_pid(pid)?.filter(|_| cgroup.holds(pid)) {
            signal(&process)?;
            signalled.push(process);
        }
    }
    let until = Instant::now() + wait;
    for process in &signalled {
        readable_until(&[process.as_fd()], Some(until))?;
    }
    Ok(signalled.len())
}

fn members(place: &Path) -> Vec<u32> {
    let text = fs::read_to_string(place.join("cgroup.procs")).unwrap_or_default();
    let mut pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            pids.extend(members(&entry.path()));
        }
    }
    pids
}

/// The unit's cgroup: ours, or one above it (a unit's commands are below it, beside its daemon).
fn unit_in(own: &Path, unit: &str) -> Option<PathBuf> {
    own.ancestors().find(|path| path.file_name().is_some_and(|name| name == unit)).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SERV-14
    #[test]
    fn only_a_command_of_the_unit_itself_finds_its_rest() {
        let unit = "rbee-queen.service";
        for (own, found) in [
            ("/system.slice/rbee-queen.service/.control", Some("/system.slice/rbee-queen.service")),
            ("/system.slice/rbee-queen.service", Some("/system.slice/rbee-queen.service")),
            ("/user.slice/user-1.slice/session-1.scope", None),
        ] {
            assert_eq!(unit_in(Path::new(own), unit), found.map(PathBuf::from), "{own}");
        }
        assert_eq!(end_rest_of_unit("no-such.service", Duration::ZERO).unwrap(), 0);
    }
}
