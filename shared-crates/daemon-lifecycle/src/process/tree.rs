//! The end of a whole process tree. The one place that knows what belongs to a run besides its main process.
//!
//! ```text
//! with a cgroup:  remove it ── is busy ──▶ cgroup.kill ──▶ wait until it is empty ──▶ remove it
//! without:        ┌▶ scan /proc ──▶ pin what is new by a pidfd, stop it ─┐ something new ──▶ again: what is stopped forks no more
//!                 │                                                      ▼ nothing new
//!                 └──────────────────── wait ◀── kill all that is pinned ┘            nothing at all ──▶ gone
//! ```
//!
//! A scan is shared by all whose main process ended before it began: a thousand runs that end together cost some scans, not a
//! thousand.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};
use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use supervision::ExitHow;

use super::cgroup::Cgroup;
use super::identity::{Process, ProcessIdentity, Stat, open_pidfd};
use super::orphans;
use super::run_mark::{RunMark, run_id_of};
use super::wait::poll_timeout;

/// On a machine where processes come and go all the time no scan is quite sure; so many in a row without a find are believed.
const SCANS_UNSURE_MAX: u32 = 4;

/// What a run's processes are known by.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    /// In every process's environment, unless it cleared that.
    pub(crate) run_id: String,
    /// Its cgroup, where it has one.
    pub(crate) cgroup: Option<PathBuf>,
    /// When it was looked at: a main process that had ended by then is dead in this scan and those after it.
    pub(crate) seen: ScanNumber,
}

/// Scans are numbered; none begins before the one before it has finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ScanNumber(u64);

impl ScanNumber {
    /// The next scan to begin.
    pub(crate) fn next() -> Self {
        Self(shared().begun + 1)
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TreeEnd {
    /// Whether nothing is left of its tree.
    pub(crate) is_gone: bool,
    /// How its main process ended.
    pub(crate) how: ExitHow,
}

impl Tree {
    /// For a main process that has ended: kills what it left behind, waits until that is gone, at most `wait`, and reaps it. In this
    /// order: until it is reaped, its number and its session are nobody else's.
    pub(crate) fn bury(&self, leader: &Process, wait: Duration) -> io::Result<TreeEnd> {
        let zombie = leader.as_our_zombie();
        let may_be_killed = matches!(zombie, None | Some(ExitHow::Signal(libc::SIGKILL)));
        // Asked before the cgroup is removed.
        let ran_out_of_memory = may_be_killed && self.cgroup().is_some_and(|cgroup| cgroup.ran_out_of_memory());
        // One that is not our child is reaped by its parent at any moment: then its session may be another's, and only marks count.
        let is_gone = self.kill_rest(zombie.map(|_| leader.identity()), wait)?;
        let how = match leader.exit_how() {
            ExitHow::Signal(libc::SIGKILL) if ran_out_of_memory => ExitHow::OutOfMemory,
            how => how,
        };
        Ok(TreeEnd { is_gone, how })
    }

    /// Kills what a main process left that somebody else has reaped; whether that is gone.
    pub(crate) fn kill_rest_of_dead(&self, leader: &ProcessIdentity, wait: Duration) -> io::Result<bool> {
        if !leader.is_of_this_boot()? {
            return Ok(true);
        }
        // Its number, and that of its session, may be another's by now: only the marks count.
        self.kill_rest(None, wait)
    }

    /// Kills all that bears the mark of a run nobody knows the main process of; whether that is gone.
    pub(crate) fn kill_marked(&self, wait: Duration) -> io::Result<bool> {
        self.kill_rest(None, wait)
    }

    /// Whether this process belongs to the run.
    pub(crate) fn holds(&self, pid: u32) -> bool {
        match self.cgroup() {
            Some(cgroup) => cgroup.holds(pid),
            None => {
                RunMark::of_process(pid) == Some(RunMark::of_run(&self.run_id))
                    || run_id_of(pid).is_some_and(|run| run == self.run_id)
            }
        }
    }

    /// What the run uses, in bytes: all of it by its cgroup's count, else the main process's resident memory.
    pub(crate) fn memory_bytes(&self, leader: &Process) -> Option<u64> {
        let counted = self.cgroup().and_then(|cgroup| cgroup.memory_bytes());
        counted.or_else(|| resident_bytes(leader.pid()))
    }

    fn cgroup(&self) -> Option<Cgroup> {
        self.cgroup.clone().map(Cgroup::at)
    }

    fn kill_rest(&self, leader: Option<&ProcessIdentity>, wait: Duration) -> io::Result<bool> {
        let until = Instant::now() + wait;
        let Some(cgroup) = self.cgroup() else { return self.kill_scattered(leader, until) };
        // Removing it is the quickest way to ask whether anything is in it.
        Ok(cgroup.remove()? || (cgroup.kill(until)? && cgroup.remove()?))
    }

    fn kill_scattered(&self, leader: Option<&ProcessIdentity>, until: Instant) -> io::Result<bool> {
        loop {
            let mut is_every_signal_sent = true;
            let pinned = self.freeze(leader, until, &mut is_every_signal_sent)?;
            if pinned.is_empty() {
                return Ok(true);
            }
            for pidfd in pinned.values() {
                is_every_signal_sent &= send(pidfd, Signal::KILL)?;
            }
            // One after the other is as good as all at once: every one of them has to go.
            for pidfd in pinned.values() {
                let Some(left) = until.checked_duration_since(Instant::now()) else { return Ok(false) };
                wait_gone(pidfd, left)?;
                // An orphan of ours would stay a zombie until the next sweep; one of somebody else's gives an error.
                let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
            }
            if !is_every_signal_sent {
                return Ok(false);
            }
        }
    }

    /// Stops every process of the run, until a scan finds none that is not stopped.
    fn freeze(
        &self,
        leader: Option<&ProcessIdentity>,
        until: Instant,
        is_every_signal_sent: &mut bool,
    ) -> io::Result<BTreeMap<u32, OwnedFd>> {
        let mark = RunMark::of_run(&self.run_id);
        let mut pinned: BTreeMap<u32, OwnedFd> = BTreeMap::new();
        let mut dead = HashSet::new();
        let mut scans_unsure = 0;
        let mut table = Table::since(self.seen)?;
        // What a child of ours leaves comes to us, and stays visible until we reap it, which no scan allows meanwhile.
        let is_sure = leader.is_some() && orphans::are_ours();
        loop {
            let mut is_any_new = false;
            for pid in table.members(mark, &self.run_id, leader) {
                if pinned.contains_key(&pid) {
                    continue;
                }
                // One that is gone by now may have left a successor.
                let Some(pidfd) = open_pidfd(pid)? else {
                    is_any_new = true;
                    continue;
                };
                if has_ended(&pidfd)? {
                    is_any_new |= dead.insert(pid);
                    continue;
                }
                // Looked at again behind the open: what is held is what was meant, or dead.
                let is_member = Entry::read(pid).is_some_and(|entry| entry.belongs(mark, &self.run_id, leader))
                    || Table::since(ScanNumber::next())?.members(mark, &self.run_id, leader).contains(&pid);
                is_any_new = true;
                if is_member {
                    *is_every_signal_sent &= send(&pidfd, Signal::STOP)?;
                    pinned.insert(pid, pidfd);
                }
            }
            if !is_any_new || Instant::now() >= until {
                // A process that ended under the scan's eyes may have been one that forks and ends, on and on.
                if is_sure || table.vanished == 0 || scans_unsure == SCANS_UNSURE_MAX {
                    return Ok(pinned);
                }
                scans_unsure += 1;
            }
            table = Table::since(ScanNumber::next())?;
        }
    }
}

/// False where the process is not ours to signal (it is another user's by now).
fn send(pidfd: &OwnedFd, signal: Signal) -> io::Result<bool> {
    match pidfd_send_signal(pidfd, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(true),
        Err(rustix::io::Errno::PERM) => Ok(false),
        Err(errno) => Err(errno.into()),
    }
}

fn has_ended(pidfd: &OwnedFd) -> io::Result<bool> {
    Ok(nix::poll::poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], nix::poll::PollTimeout::ZERO)? > 0)
}

fn wait_gone(member: &OwnedFd, wait: Duration) -> io::Result<()> {
    match nix::poll::poll(&mut [PollFd::new(member.as_fd(), PollFlags::POLLIN)], poll_timeout(wait)) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

pub(super) fn resident_bytes(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Every process of the machine, as one scan saw it.
#[derive(Debug, Default)]
struct Table {
    entries: Vec<Entry>,
    /// Processes that were there when the scan began and not any more when it came to them.
    vanished: usize,
}

/// What a scan keeps of a process.
#[derive(Debug, Clone)]
struct Entry {
    pid: u32,
    /// A marked process needs no second look.
    mark: Option<RunMark>,
    /// Of an unmarked one.
    origin: Option<Origin>,
}

/// Where an unmarked process comes from.
#[derive(Debug, Clone)]
struct Origin {
    parent: u32,
    session: u32,
    run_id: Option<String>,
}

impl Entry {
    fn read(pid: u32) -> Option<Self> {
        if let Some(mark) = RunMark::of_process(pid) {
            return Some(Self { pid, mark: Some(mark), origin: None });
        }
        let stat = Stat::read(pid).ok().flatten()?;
        let origin = Origin { parent: stat.parent, session: stat.session, run_id: run_id_of(pid) };
        Some(Self { pid, mark: None, origin: Some(origin) })
    }

    /// By what it carries itself.
    fn belongs(&self, mark: RunMark, run_id: &str, leader: Option<&ProcessIdentity>) -> bool {
        let Some(origin) = &self.origin else { return self.mark == Some(mark) };
        match &origin.run_id {
            Some(found) => found == run_id,
            // Until the leader is reaped, its number and its session are nobody else's.
            None => leader.is_some_and(|leader| origin.session == leader.pid),
        }
    }
}

impl Table {
    fn scan() -> io::Result<Self> {
        let _no_sweep = orphans::no_sweep();
        let mut table = Self::default();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            match Entry::read(pid) {
                Some(entry) => table.entries.push(entry),
                None => table.vanished += 1,
            }
        }
        Ok(table)
    }

    /// Who belongs to a run: by mark, by session, or as a descendant of one who does and carries no other mark. Without the leader.
    fn members(&self, mark: RunMark, run_id: &str, leader: Option<&ProcessIdentity>) -> Vec<u32> {
        let own = self.entries.iter().filter(|entry| entry.belongs(mark, run_id, leader));
        let mut members: HashSet<u32> = own.map(|entry| entry.pid).chain(leader.map(|leader| leader.pid)).collect();
        loop {
            let children = self.entries.iter().filter(|entry| {
                let unmarked = entry.origin.as_ref().filter(|origin| origin.run_id.is_none());
                unmarked.is_some_and(|origin| members.contains(&origin.parent)) && !members.contains(&entry.pid)
            });
            let children: Vec<u32> = children.map(|entry| entry.pid).collect();
            if children.is_empty() {
                break;
            }
            members.extend(children);
        }
        members.into_iter().filter(|pid| leader.is_none_or(|leader| leader.pid != *pid)).collect()
    }

    /// That scan or a later one, shared with all who wait for it.
    fn since(needed: ScanNumber) -> io::Result<Arc<Self>> {
        static FINISHED: Condvar = Condvar::new();
        let mut scans = shared();
        loop {
            if scans.finished >= needed.0
                && let Some(table) = &scans.table
            {
                return Ok(Arc::clone(table));
            }
            if scans.finished < scans.begun {
                scans = FINISHED.wait(scans).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            scans.begun += 1;
            drop(scans);
            let scanned = Self::scan();
            scans = shared();
            scans.finished = scans.begun;
            FINISHED.notify_all();
            // One who waits for a scan that failed makes the next one.
            scans.table = None;
            scans.table = Some(Arc::new(scanned?));
        }
    }
}

/// The newest scan.
struct Scans {
    begun: u64,
    finished: u64,
    table: Option<Arc<Table>>,
}

fn shared() -> MutexGuard<'static, Scans> {
    static SCANS: Mutex<Scans> = Mutex::new(Scans { begun: 0, finished: 0, table: None });
    SCANS.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PROC-23
    #[test]
    fn those_who_were_dead_before_a_scan_share_it() {
        let (one, other) = (ScanNumber::next(), ScanNumber::next());
        let scan = Table::since(one).unwrap();
        assert!(Arc::ptr_eq(&scan, &Table::since(other).unwrap()), "both had ended before it began");
        let later = ScanNumber::next();
        assert!(!Arc::ptr_eq(&scan, &Table::since(later).unwrap()), "whoever ended behind it needs another");
        assert!(scan.entries.iter().any(|entry| entry.pid == std::process::id()));
    }

    #[test]
    fn a_child_without_a_mark_belongs_to_its_parent_and_one_with_another_mark_does_not() {
        let mark = RunMark::of_run("a:1");
        let unmarked = |pid, parent, run_id: Option<&str>| Entry {
            pid,
            mark: None,
            origin: Some(Origin { parent, session: 9, run_id: run_id.map(str::to_owned) }),
        };
        let marked = |pid, run: &str| Entry { pid, mark: Some(RunMark::of_run(run)), origin: None };
        let entries = vec![
            marked(10, "a:1"),
            unmarked(11, 10, None),
            unmarked(12, 11, None),
            unmarked(13, 1, Some("a:1")),
            unmarked(14, 10, Some("b:1")),
            marked(15, "b:1"),
            unmarked(16, 1, None),
        ];
        let mut members = Table { entries, vanished: 0 }.members(mark, "a:1", None);
        members.sort_unstable();
        assert_eq!(members, [10, 11, 12, 13]);
    }
}
