//! Signs of life of a process that does not answer: did it compute or write meanwhile?

use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Instant;

/// What a process has to compute, of one core, to count as alive: a hung event loop whose timers still tick uses less.
const BUSY_PERCENT_MIN: u64 = 5;
/// The kernel counts a process's time in these (`USER_HZ`, the same on every Linux).
const TICK_MS: u64 = 10;

/// What one process did since [`begin`](Self::begin).
#[derive(Debug)]
pub(super) struct Activity {
    pid: u32,
    log_file: PathBuf,
    began: Option<(Instant, Trace)>,
}

/// What is left of everything it ever did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trace {
    cpu_ticks: u64,
    /// Which log file, and how long it is: a rotation is a sign of life, too.
    log: (u64, u64),
}

impl Activity {
    pub(super) const fn new(pid: u32, log_file: PathBuf) -> Self {
        Self { pid, log_file, began: None }
    }

    pub(super) fn begin(&mut self) {
        self.began = self.trace().map(|trace| (Instant::now(), trace));
    }

    /// Whether it computed or wrote since.
    pub(super) fn is_alive(&self) -> bool {
        let (Some((since, before)), Some(now)) = (&self.began, self.trace()) else { return false };
        let elapsed_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let cpu_ms = now.cpu_ticks.saturating_sub(before.cpu_ticks).saturating_mul(TICK_MS);
        now.log != before.log || cpu_ms > 0 && cpu_ms.saturating_mul(100) >= elapsed_ms.saturating_mul(BUSY_PERCENT_MIN)
    }

    fn trace(&self) -> Option<Trace> {
        let stat = std::fs::read(format!("/proc/{}/stat", self.pid)).ok()?;
        let log = self.log_file.metadata().map_or((0, 0), |file| (file.ino(), file.len()));
        Some(Trace { cpu_ticks: cpu_ticks(&stat)?, log })
    }
}

/// User and system time in `/proc/PID/stat`, of all threads.
fn cpu_ticks(stat: &[u8]) -> Option<u64> {
    // The name before may hold anything, so fields count from its end; the first after it is the third.
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(&stat[name_end + 1..]).ok()?;
    let mut fields = rest.split_ascii_whitespace().skip(14 - 3);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_behind_any_name() {
        let fields: Vec<String> = (4..=52).map(|number| number.to_string()).collect();
        let stat = format!("7 (a) b) S {}", fields.join(" "));
        assert_eq!(cpu_ticks(stat.as_bytes()), Some(14 + 15));
        assert_eq!(cpu_ticks(b"nonsense"), None);
    }

    #[test]
    fn one_that_computes_or_writes_is_alive_and_one_that_sleeps_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        std::fs::write(&log, "").unwrap();
        let mut own = Activity::new(std::process::id(), log.clone());
        own.begin();
        while !own.is_alive() {
            std::hint::black_box((0..100_000).sum::<u64>());
        }
        let mut idle = Activity::new(1, log.clone());
        idle.began = Some((Instant::now(), Trace { cpu_ticks: u64::MAX, log: idle.trace().unwrap().log }));
        assert!(!idle.is_alive());
        idle.begin();
        std::fs::write(&log, "line\n").unwrap();
        assert!(idle.is_alive());
    }
}
