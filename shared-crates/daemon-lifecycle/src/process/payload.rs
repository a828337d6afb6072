//! What a process uses that stands outside of the run it works for, such as the main process of a container.

use std::fs;
use std::path::PathBuf;

use super::identity::{ProcessIdentity, Stat};

/// Where hierarchies of cgroups are, as distributions mount them: the whole of version 2, then version 1's by controller.
const MOUNTS: [&str; 2] = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];

/// Resident memory of the process and of all in its cgroup, in bytes; of itself alone where it has no cgroup of its own.
/// `None`: it is not there any more.
pub(crate) fn memory_bytes(identity: &ProcessIdentity) -> Option<u64> {
    if !is_there(identity) {
        return None;
    }
    let together: u64 = neighbours(identity.pid).into_iter().filter_map(super::tree::resident_bytes).sum();
    if together > 0 { Some(together) } else { super::tree::resident_bytes(identity.pid) }
}

fn is_there(identity: &ProcessIdentity) -> bool {
    identity.is_of_this_boot().unwrap_or(false)
        && matches!(Stat::read(identity.pid), Ok(Some(stat)) if stat.start_time_ticks == identity.start_time_ticks)
}

/// Every process in its cgroup, itself too; none where it shares that with us or the whole machine.
fn neighbours(pid: u32) -> Vec<u32> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let theirs = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let places = theirs.lines().filter(|line| !own.lines().any(|own| own == *line)).flat_map(places);
    let listed = places.into_iter().find_map(|place| fs::read_to_string(place.join("cgroup.procs")).ok());
    listed.map(|pids| pids.lines().filter_map(|pid| pid.parse().ok()).collect()).unwrap_or_default()
}

/// Where a line of `/proc/PID/cgroup` (`4:memory:/docker/7f…`) says that it is.
fn places(line: &str) -> Vec<PathBuf> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (parts.next(), parts.next().and_then(|path| path.strip_prefix('/'))) else {
        return Vec::new();
    };
    match controllers {
        _ if path.is_empty() => Vec::new(),
        "" => MOUNTS.iter().map(|mount| PathBuf::from(mount).join(path)).collect(),
        "memory" => vec![PathBuf::from(MOUNTS[0]).join("memory").join(path)],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_where_the_cgroup_is_unless_it_is_everybodys() {
        assert_eq!(places("4:memory:/docker/7f"), [PathBuf::from("/sys/fs/cgroup/memory/docker/7f")]);
        assert_eq!(places("0::/a:b")[1], PathBuf::from("/sys/fs/cgroup/unified/a:b"));
        for none in ["0::/", "3:cpu,cpuacct:/docker/7f", "nonsense", ""] {
            assert!(places(none).is_empty(), "{none}");
        }
    }

    #[test]
    fn our_own_memory_is_ours_alone_and_a_process_that_is_gone_has_none() {
        let stat = Stat::read(std::process::id()).unwrap().unwrap();
        let own = ProcessIdentity::of_this_boot(std::process::id(), stat.start_time_ticks).unwrap();
        assert!(memory_bytes(&own).unwrap() > 100_000);
        assert_eq!(memory_bytes(&ProcessIdentity { start_time_ticks: stat.start_time_ticks + 1, ..own }), None);
    }
}
