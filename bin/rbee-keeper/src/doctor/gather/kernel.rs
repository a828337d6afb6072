//! What the kernel says: ports and limits.

use std::io;
use std::net::{SocketAddr, TcpListener};

use nix::sys::resource::{Resource, getrlimit};
use rbee_runtime::listen::holder_of;

use super::super::facts::{LimitFacts, PortState};

/// Bits of a process's effective capabilities.
const CAP_IPC_LOCK: u32 = 14;
const CAP_SYS_NICE: u32 = 23;
const CAP_SYS_RESOURCE: u32 = 24;

/// Whether something could listen there now.
pub(super) fn port(address: SocketAddr) -> PortState {
    match TcpListener::bind(address) {
        Ok(_) => PortState::Free,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            PortState::Taken(holder_of(address.port()).to_string())
        }
        Err(error) => PortState::Refused(error.to_string()),
    }
}

/// What this process, and so what it starts, may use.
pub(super) fn limits() -> LimitFacts {
    let of = |resource| getrlimit(resource).unwrap_or((u64::MAX, u64::MAX));
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities =
        status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    let has = |bit: u32| capabilities.is_some_and(|set| set >> bit & 1 == 1);
    LimitFacts {
        nofile_hard: of(Resource::RLIMIT_NOFILE).1,
        nproc_soft: of(Resource::RLIMIT_NPROC).0,
        processes: processes_of(nix::unistd::geteuid().as_raw()),
        memlock: if has(CAP_IPC_LOCK) { u64::MAX } else { of(Resource::RLIMIT_MEMLOCK).0 },
        may_raise_limits: has(CAP_SYS_RESOURCE),
        nice_min: if has(CAP_SYS_NICE) { -20 } else { nice_min() },
    }
}

/// `RLIMIT_NICE` allows values down to 20 minus it.
fn nice_min() -> i32 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max nice priority"));
    let limit: Option<i32> = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    limit.map_or(0, |limit| (20 - limit).min(0))
}

fn processes_of(uid: u32) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let of_user = entries.filter(|entry| {
        let is_process = entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok());
        is_process && entry.metadata().is_ok_and(|about| about.uid() == uid)
    });
    of_user.count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_free_taken_or_not_of_this_machine() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert!(matches!(port(address), PortState::Taken(by) if by.contains(&std::process::id().to_string())));
        drop(taken);
        assert_eq!(port(address), PortState::Free);
        assert!(matches!(port("192.0.2.1:80".parse().unwrap()), PortState::Refused(_)));
    }

    #[test]
    fn limits_are_those_of_this_process() {
        let limits = limits();
        assert!(limits.nofile_hard > 16 && limits.processes > 0 && (-20..=0).contains(&limits.nice_min));
    }
}
