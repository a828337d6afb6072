//! Which processes belong to a daemon: all in the cgroup of its run, else its main process and what came from it.

use std::collections::HashMap;
use std::path::PathBuf;

use super::files::{Reader, Stat, all_pids, pids_in};

/// A daemon to look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target {
    /// Its main process.
    pub pid: u32,
    /// The process that does its work, where that is none of its own: a container's.
    pub payload: Option<u32>,
    /// Only the process itself: what came from it are daemons of their own.
    pub alone: bool,
}

impl Target {
    /// A daemon with all that came from it.
    #[must_use]
    pub const fn tree(pid: u32) -> Self {
        Self { pid, payload: None, alone: false }
    }

    /// One of our own tiers: its children are daemons of their own.
    #[must_use]
    pub const fn alone(pid: u32) -> Self {
        Self { pid, payload: None, alone: true }
    }
}

/// The processes of one daemon.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub processes: Vec<(u32, Stat)>,
    /// The cgroups that hold them all; empty where there are none.
    pub cgroups: Vec<PathBuf>,
}

/// The trees of all targets, in their order; empty for one whose main process is gone.
pub(super) fn trees(targets: &[Target], reader: &mut Reader) -> Vec<Tree> {
    let mut trees: Vec<Tree> = Vec::with_capacity(targets.len());
    let mut roots: HashMap<u32, usize> = HashMap::new();
    for (index, target) in targets.iter().enumerate() {
        let mut tree = Tree::default();
        if let Some(stat) = reader.stat(target.pid) {
            tree.processes.push((target.pid, stat));
            if !target.alone {
                let all_have_one = by_cgroup(target, &mut tree, reader);
                if !all_have_one {
                    tree.cgroups.clear();
                    roots.extend(std::iter::once(target.pid).chain(target.payload).map(|root| (root, index)));
                }
            }
        }
        trees.push(tree);
    }
    if !roots.is_empty() {
        by_descent(&roots, &mut trees, reader);
    }
    trees
}

/// Whether everything of it is in cgroups of its own.
fn by_cgroup(target: &Target, tree: &mut Tree, reader: &mut Reader) -> bool {
    let mut pids = Vec::new();
    for (pid, whole) in std::iter::once((target.pid, false)).chain(target.payload.map(|pid| (pid, true))) {
        let Some(cgroup) = reader.cgroup(pid, whole) else { return false };
        pids_in(&cgroup, &mut pids);
        tree.cgroups.push(cgroup);
    }
    for pid in pids.into_iter().filter(|pid| *pid != target.pid) {
        tree.processes.extend(reader.stat(pid).map(|stat| (pid, stat)));
    }
    true
}

/// One look at every process for all of them. Who left its parent is still known by its session.
fn by_descent(roots: &HashMap<u32, usize>, trees: &mut [Tree], reader: &mut Reader) {
    let all: HashMap<u32, Stat> = all_pids().filter_map(|pid| Some((pid, reader.stat(pid)?))).collect();
    for (pid, stat) in &all {
        let mut at = *pid;
        // A chain of parents ends; one that was read while it changed may not.
        for _ in 0..64 {
            if let Some(index) = roots.get(&at) {
                // The main process is there already.
                if trees[*index].processes[0].0 != *pid {
                    trees[*index].processes.push((*pid, *stat));
                }
                break;
            }
            match all.get(&at) {
                Some(stat) if at > 1 => {
                    at = if stat.parent <= 1 && roots.contains_key(&stat.session) { stat.session } else { stat.parent };
                }
                _ => break,
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
    #[expect(clippy::disallowed_methods, reason = "the test needs a process to look at")]
    fn what_a_process_started_belongs_to_it_and_not_to_us() {
        let script = "sleep 1000 & sleep 1000 & echo up; wait";
        let mut child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut first = [0; 3];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
        let targets = [Target::tree(child.id()), Target::alone(std::process::id()), Target::tree(u32::MAX)];
        let found = trees(&targets, &mut Reader::default());
        let counts: Vec<usize> = found.iter().map(|tree| tree.processes.len()).collect();
        let children: Vec<u32> = found[0].processes.iter().map(|(pid, _)| *pid).collect();
        for pid in &children[1..] {
            let pid = i32::try_from(*pid).unwrap();
            rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL)
                .unwrap();
        }
        child.wait().unwrap();
        assert_eq!((counts, children[0]), (vec![3, 1, 0], child.id()));
    }
}
