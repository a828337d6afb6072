//! What a unit may use: limits on its memory, processors, files and processes, and its place in the queue for the rest.

use serde::{Deserialize, Serialize};

/// Limits of one unit. What is absent is not limited by us.
///
/// A limit is in force through a cgroup where there is one with the controller, else through the kernel's limits of a process; the
/// unit's status says which, or that it is not in force.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Memory of the whole unit, in bytes. Without a cgroup: private memory of each of its processes.
    pub memory_max_bytes: Option<u64>,
    /// The unit is restarted when it uses more memory than this, in bytes.
    pub memory_restart_bytes: Option<u64>,
    /// Processors it may keep busy, 1.0 being one. In force only with a cgroup.
    pub cpus: Option<f64>,
    /// Open files of each of its processes.
    pub nofile: Option<u64>,
    /// Its processes and threads. Without a cgroup: those of its user.
    pub nproc: Option<u64>,
    /// Its nice value, -20 (first) to 19 (last).
    pub nice: Option<i8>,
    /// Its place in the queue for disks.
    pub io: Option<IoClass>,
}

/// A place in the queue for disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IoClass {
    /// After the others.
    Low,
    /// As the others.
    #[default]
    Normal,
    /// Before the others.
    High,
}

/// The fewest open files a process can do anything with: its standard three and some to load its program.
const NOFILE_MIN: u64 = 16;
/// The least memory anything can start with, in bytes.
const MEMORY_BYTES_MIN: u64 = 1 << 20;

impl Limits {
    /// What makes these limits impossible, if anything.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        if let Some(nice) = self.nice.filter(|nice| !(-20..=19).contains(nice)) {
            return Some(format!("nice is {nice}, outside of -20 to 19"));
        }
        if let Some(cpus) = self.cpus.filter(|cpus| !cpus.is_finite() || *cpus < 0.01) {
            return Some(format!("cpus is {cpus}; it has to be 0.01 or more"));
        }
        if let Some(nofile) = self.nofile.filter(|nofile| *nofile < NOFILE_MIN) {
            return Some(format!("nofile is {nofile}; it has to be {NOFILE_MIN} or more"));
        }
        if self.nproc == Some(0) {
            return Some("nproc is 0: nothing could run".to_owned());
        }
        for (name, bytes) in [("memory_max", self.memory_max_bytes), ("memory_restart", self.memory_restart_bytes)] {
            if let Some(bytes) = bytes.filter(|bytes| *bytes < MEMORY_BYTES_MIN) {
                return Some(format!("{name} is {bytes} bytes; it has to be 1 MiB or more"));
            }
        }
        match (self.memory_restart_bytes, self.memory_max_bytes) {
            (Some(restart), Some(max)) if restart >= max => {
                Some("memory_restart is not below memory_max, so it would never be reached".to_owned())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_limits_are_told_by_name() {
        assert_eq!(Limits::default().problem(), None);
        let mib = 1 << 20;
        let fine = Limits {
            memory_max_bytes: Some(64 * mib),
            memory_restart_bytes: Some(32 * mib),
            cpus: Some(0.5),
            nofile: Some(64),
            nproc: Some(1),
            nice: Some(-20),
            io: Some(IoClass::High),
        };
        assert_eq!(fine.problem(), None);
        for (limits, word) in [
            (Limits { nice: Some(20), ..fine }, "nice is 20"),
            (Limits { cpus: Some(0.0), ..fine }, "cpus is 0"),
            (Limits { cpus: Some(f64::NAN), ..fine }, "cpus is NaN"),
            (Limits { nofile: Some(3), ..fine }, "nofile is 3"),
            (Limits { nproc: Some(0), ..fine }, "nproc is 0"),
            (Limits { memory_max_bytes: Some(5), ..fine }, "memory_max is 5"),
            (Limits { memory_restart_bytes: Some(64 * mib), ..fine }, "memory_restart is not below"),
        ] {
            let problem = limits.problem().unwrap();
            assert!(problem.contains(word), "{problem}");
        }
    }
}
