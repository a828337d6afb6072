//! How a unit's limits are put into force: by its cgroup's controllers, by the limits the kernel keeps for each process, or not at all.

use std::ffi::c_int;
use std::io;
use std::sync::OnceLock;

use super::cgroup::{Cgroup, Controlled};
use super::spawn_error::SpawnError;
use crate::limits::{IoClass, Limits};

type Rlimit = (libc::__rlimit_resource_t, libc::rlimit64);

/// The soft limit of open files this program began with, where it raised that for itself.
static OWN_NOFILE: OnceLock<libc::rlimit64> = OnceLock::new();

/// What a child sets for itself before it executes its program.
#[derive(Debug, Clone, Default)]
pub(crate) struct ChildLimits {
    limits: Limits,
    controlled: Controlled,
}

/// Lets this program open as many files as it may: a supervisor needs some for each unit. Its children begin with the old limit, which
/// programs that count on small descriptors rely on.
pub(crate) fn raise_open_files() {
    OWN_NOFILE.get_or_init(|| {
        let own = rlimit(libc::RLIMIT_NOFILE);
        set_soft_limit(libc::RLIMIT_NOFILE, own.rlim_max);
        own
    });
}

impl ChildLimits {
    /// Sets what the cgroup can limit; the child sets the rest.
    pub(crate) fn new(limits: &Limits, cgroup: Option<&Cgroup>) -> Self {
        let controlled = cgroup.map(|cgroup| cgroup.limit(limits)).unwrap_or_default();
        Self { limits: *limits, controlled }
    }

    /// For people: each limit, and how it is in force.
    pub(crate) fn in_force(&self) -> Vec<String> {
        const NOT: &str = "not in force";
        let Limits { memory_max_bytes, cpus, nofile, nproc, nice, io, memory_restart_bytes } = &self.limits;
        let by = |is_controlled: bool, otherwise: &'static str| if is_controlled { "cgroup" } else { otherwise };
        // Of root's processes the kernel counts none.
        let nproc_otherwise = if nix::unistd::geteuid().is_root() { NOT } else { "rlimit, of its user" };
        let said = [
            memory_max_bytes.map(|_| ("memory_max", by(self.controlled.memory, "rlimit, private memory a process"))),
            memory_restart_bytes.map(|_| ("memory_restart", "measured")),
            cpus.map(|_| ("cpus", by(self.controlled.cpus, NOT))),
            nofile.map(|_| ("nofile", "rlimit")),
            nproc.map(|_| ("nproc", by(self.controlled.nproc, nproc_otherwise))),
            nice.map(|_| ("nice", "priority")),
            io.map(|_| ("io", "priority")),
        ];
        said.into_iter().flatten().map(|(name, how)| format!("{name}: {how}")).collect()
    }

    pub(super) fn rlimits(&self) -> Vec<Rlimit> {
        self.named_rlimits().into_iter().map(|(_, _, limit)| limit).collect()
    }

    pub(super) fn nice(&self) -> Option<c_int> {
        self.limits.nice.map(c_int::from)
    }

    /// As `ioprio_set` wants it: the best-effort class with a level of 0 (first) to 7.
    pub(super) fn io_priority(&self) -> Option<c_int> {
        const BEST_EFFORT: c_int = 2 << 13;
        self.limits.io.map(|io| {
            BEST_EFFORT
                | match io {
                    IoClass::High => 0,
                    IoClass::Normal => 4,
                    IoClass::Low => 7,
                }
        })
    }

    pub(super) fn refused(&self, index: usize, source: io::Error) -> SpawnError {
        let named = self.named_rlimits().into_iter().nth(index);
        let (name, wanted, resource) =
            named.map_or(("limit", 0, libc::RLIMIT_NOFILE), |(name, wanted, (resource, _))| (name, wanted, resource));
        SpawnError::LimitRefused { limit: format!("{name} = {wanted}"), may: Some(rlimit(resource).rlim_max), source }
    }

    pub(super) fn nice_refused(&self, source: io::Error) -> SpawnError {
        let limit = format!("nice = {}", self.limits.nice.unwrap_or_default());
        SpawnError::LimitRefused { limit, may: None, source }
    }

    /// In the order in which the child sets them: the name, the number wished for, the limit.
    fn named_rlimits(&self) -> Vec<(&'static str, u64, Rlimit)> {
        let both = |resource, number| (resource, libc::rlimit64 { rlim_cur: number, rlim_max: number });
        let mut named = Vec::new();
        match (self.limits.nofile, OWN_NOFILE.get()) {
            (Some(nofile), _) => named.push(("nofile", nofile, both(libc::RLIMIT_NOFILE, nofile))),
            (None, Some(own)) => named.push(("nofile", own.rlim_cur, (libc::RLIMIT_NOFILE, *own))),
            (None, None) => {}
        }
        if let Some(nproc) = self.limits.nproc.filter(|_| !self.controlled.nproc) {
            named.push(("nproc", nproc, both(libc::RLIMIT_NPROC, nproc)));
        }
        // Not RLIMIT_AS: that counts address space, which a mapped model, a Go or Java heap or a GPU driver reserves without using it.
        if let Some(bytes) = self.limits.memory_max_bytes.filter(|_| !self.controlled.memory) {
            named.push(("memory_max", bytes, both(libc::RLIMIT_DATA, bytes)));
        }
        named
    }
}

#[expect(unsafe_code, reason = "64 bits wide on every machine, unlike the safe form")]
fn rlimit(resource: libc::__rlimit_resource_t) -> libc::rlimit64 {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes into local memory; with a known resource it cannot fail.
    unsafe { libc::getrlimit64(resource, &raw mut limit) };
    limit
}

#[expect(unsafe_code, reason = "64 bits wide on every machine, unlike the safe form")]
fn set_soft_limit(resource: libc::__rlimit_resource_t, soft: u64) {
    let limit = libc::rlimit64 { rlim_cur: soft, ..rlimit(resource) };
    // SAFETY: reads from local memory. Up to its hard limit nobody is refused.
    unsafe { libc::setrlimit64(resource, &raw const limit) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_says_how_it_is_in_force() {
        let limits = Limits {
            memory_max_bytes: Some(1 << 30),
            cpus: Some(2.0),
            nofile: Some(64),
            nice: Some(5),
            io: Some(IoClass::Low),
            ..Limits::default()
        };
        let without = ChildLimits { limits, controlled: Controlled::default() };
        assert_eq!(
            without.in_force(),
            [
                "memory_max: rlimit, private memory a process",
                "cpus: not in force",
                "nofile: rlimit",
                "nice: priority",
                "io: priority"
            ]
        );
        let controlled = Controlled { memory: true, cpus: true, nproc: true };
        let with = ChildLimits { limits, controlled };
        assert_eq!(with.in_force()[..2], ["memory_max: cgroup", "cpus: cgroup"]);
        assert!(with.rlimits().iter().all(|(resource, _)| *resource != libc::RLIMIT_DATA));
        assert_eq!(ChildLimits::default().in_force(), [""; 0]);
    }
}
