//! Looks at all daemons, round by round, at a bounded cost.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rbee_api::{Figures, ProcessUsage};

use super::files::{Reader, fds};
use super::tree::{Target, Tree, trees};
use crate::gpu::Gpus;

/// What proportional memory may cost in one round; the daemons whose turn it was not come first in the next.
const PSS_BUDGET: Duration = Duration::from_millis(5);
/// A daemon whose proportional memory took long to add up is asked so much more rarely, as a part of the time.
const PSS_REST_FACTOR: u32 = 2000;
/// Rounds between two looks at it.
const PSS_ROUNDS: u64 = 4;

/// What is remembered of a daemon's run from round to round.
#[derive(Debug, Clone, Copy)]
struct Seen {
    start_ticks: u64,
    at: Instant,
    cpu_us: u64,
    pss_bytes: Option<u64>,
    pss_at: Option<Instant>,
    pss_round: u64,
    pss_rest: Duration,
    round: u64,
}

/// Looks at daemons again and again.
#[derive(Debug)]
pub struct Rounds {
    seen: HashMap<u32, Seen>,
    reader: Reader,
    gpus: Gpus,
    round: u64,
    page_bytes: u64,
    us_per_tick: u64,
}

impl Default for Rounds {
    fn default() -> Self {
        Self::new()
    }
}

impl Rounds {
    /// Nothing is known yet.
    #[must_use]
    pub fn new() -> Self {
        let ticks_per_s = rustix::param::clock_ticks_per_second().max(1);
        Self {
            seen: HashMap::new(),
            reader: Reader::default(),
            gpus: Gpus::find(),
            round: 0,
            page_bytes: u64::try_from(rustix::param::page_size()).unwrap_or(4096),
            us_per_tick: 1_000_000 / ticks_per_s,
        }
    }

    /// Looks at all of them; in their order, nothing for one whose process is gone; what they take on
    /// disk is not looked at. Takes a millisecond for some dozens:
    /// not for a task that others wait for.
    pub fn look(&mut self, targets: &[Target]) -> Vec<Option<ProcessUsage>> {
        self.round += 1;
        let at = Instant::now();
        let trees = trees(targets, &mut self.reader);
        let on_gpus = self.gpus.bytes_by_process();
        let mut usages: Vec<Option<ProcessUsage>> =
            targets.iter().zip(&trees).map(|(target, tree)| self.usage(target, tree, at, on_gpus.as_ref())).collect();
        self.seen.retain(|_, seen| seen.round == self.round);
        self.weigh(targets, &trees, &mut usages);
        usages
    }

    fn usage(
        &mut self,
        target: &Target,
        tree: &Tree,
        at: Instant,
        on_gpus: Option<&HashMap<u32, u64>>,
    ) -> Option<ProcessUsage> {
        let (_, main) = tree.processes.first()?;
        let cpu_us = self.cpu_us(tree);
        let known = self.seen.get(&target.pid).filter(|seen| seen.start_ticks == main.start_ticks).copied();
        let cpu_percent = known.map_or(0.0, |seen| {
            let elapsed_us = at.duration_since(seen.at).as_micros().max(1) as f64;
            cpu_us.saturating_sub(seen.cpu_us) as f64 / elapsed_us * 100.0
        });
        let fresh = Seen {
            start_ticks: main.start_ticks,
            at,
            cpu_us,
            pss_bytes: None,
            pss_at: None,
            pss_round: 0,
            pss_rest: Duration::ZERO,
            round: self.round,
        };
        let seen = Seen { at, cpu_us, round: self.round, ..known.unwrap_or(fresh) };
        self.seen.insert(target.pid, seen);
        let mut figures = Figures { cpu_percent, pss_bytes: seen.pss_bytes, ..Figures::default() };
        for (pid, stat) in &tree.processes {
            figures.rss_bytes += stat.rss_pages * self.page_bytes;
            figures.threads += stat.threads;
            if let Some(count) = fds(*pid) {
                *figures.fds.get_or_insert(0) += count;
            }
            if let Some((read, written)) = self.reader.io(*pid) {
                *figures.read_bytes.get_or_insert(0) += read;
                *figures.written_bytes.get_or_insert(0) += written;
            }
            if let Some(on_gpus) = on_gpus {
                *figures.gpu_bytes.get_or_insert(0) += on_gpus.get(pid).copied().unwrap_or(0);
            }
        }
        Some(ProcessUsage { at: Timestamp::now(), processes: tree.processes.len() as u64, figures })
    }

    fn cpu_us(&mut self, tree: &Tree) -> u64 {
        let by_cgroup: Option<u64> = tree.cgroups.iter().map(|cgroup| self.reader.cgroup_cpu_us(cgroup)).sum();
        match by_cgroup {
            Some(us) if !tree.cgroups.is_empty() => us,
            _ => tree.processes.iter().map(|(_, stat)| stat.cpu_ticks * self.us_per_tick).sum(),
        }
    }

    /// Adds proportional memory up for those whose turn it is, the longest not looked at first.
    fn weigh(&mut self, targets: &[Target], trees: &[Tree], usages: &mut [Option<ProcessUsage>]) {
        let now = Instant::now();
        let mut due: Vec<(Option<Instant>, usize)> = targets
            .iter()
            .enumerate()
            .filter_map(|(index, target)| Some((self.seen.get(&target.pid)?, index)))
            .filter(|(seen, _)| match seen.pss_at {
                None => true,
                Some(at) => seen.pss_round + PSS_ROUNDS <= self.round && now.duration_since(at) >= seen.pss_rest,
            })
            .map(|(seen, index)| (seen.pss_at, index))
            .collect();
        due.sort_unstable();
        for (_, index) in due {
            if now.elapsed() > PSS_BUDGET {
                break;
            }
            let began = Instant::now();
            let weighed = trees[index].processes.iter().map(|(pid, _)| self.reader.pss_bytes(*pid));
            // One that ended meanwhile weighs nothing; where none may be looked at, nobody knows.
            let pss_bytes = weighed.flatten().reduce(|sum, bytes| sum + bytes);
            if let Some(seen) = self.seen.get_mut(&targets[index].pid) {
                seen.pss_bytes = pss_bytes;
                seen.pss_at = Some(began);
                seen.pss_round = self.round;
                seen.pss_rest = began.elapsed() * PSS_REST_FACTOR;
            }
            if let Some(usage) = &mut usages[index] {
                usage.figures.pss_bytes = pss_bytes;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// MONI-08
    #[test]
    fn a_daemon_is_seen_whole_and_one_that_is_gone_not_at_all() {
        let mut rounds = Rounds::new();
        let targets = [Target::alone(std::process::id()), Target::tree(u32::MAX)];
        let first = rounds.look(&targets);
        assert_eq!(first[1], None);
        let ProcessUsage { figures: own, processes, .. } = first[0].clone().unwrap();
        assert!(own.rss_bytes > 100_000 && own.fds.unwrap() >= 3 && own.threads >= 1, "{own:?}");
        assert!(own.pss_bytes.unwrap() > 10_000 && own.read_bytes.is_some(), "{own:?}");
        assert_eq!((own.cpu_percent, processes), (0.0, 1));
        // Looking is work enough: it counts as soon as the kernel has charged a tick for it.
        let began = Instant::now();
        while rounds.look(&targets[..1])[0].as_ref().unwrap().figures.cpu_percent <= 0.0 {
            assert!(began.elapsed() < Duration::from_secs(10), "no work is ever seen");
        }
    }

    /// MONI-08: what a child has used counts for its parent when the child is gone.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "the test needs a process to look at")]
    fn the_work_of_children_that_ended_is_not_lost() {
        let script =
            "echo up; read line; sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done'; echo done; read line";
        let mut child =
            Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
        assert_eq!(lines.next().unwrap().unwrap(), "up");
        let mut rounds = Rounds::new();
        let target = [Target::tree(child.id())];
        rounds.look(&target);
        std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"go\n").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "done");
        let seen = rounds.look(&target);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(seen[0].as_ref().unwrap().figures.cpu_percent > 0.0, "{seen:?}");
    }
}
