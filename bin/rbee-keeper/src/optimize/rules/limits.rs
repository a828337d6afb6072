//! Rules for limits: nice, disk class, open files, memory.

use std::collections::BTreeMap;

use bytesize::ByteSize;
use rbee_runtime::config::WorkerConfig;

use super::{Advice, Past, Proposal, Setting, View, of_worker, proposal, size};

/// Behind everything that people wait for, before what nobody does.
const NICE: i64 = 5;
/// Reading less is over soon.
const LARGE_MODEL_BYTES: u64 = 2 << 30;
const MEMORY_STEP: u64 = 64 << 20;
const MEMORY_MIN: u64 = 128 << 20;
/// `memory_restart` needs room below `memory_max`.
const ABOVE_RESTART_PERCENT: u64 = 125;

/// Engines that can take every core step back for what is small and urgent.
pub(super) fn nice(view: &View<'_>, threads: &BTreeMap<String, (u32, u32)>, found: &mut Vec<Proposal>) {
    let cores = view.machine.cores;
    let total: u32 = threads.values().map(|(replicas, threads)| replicas * threads).sum();
    if total < cores {
        return;
    }
    for (name, _, _) in view.engines().filter(|(_, worker, _)| worker.limits.nice.is_none()) {
        let reason = format!("the engines can keep {total} of {cores} cores busy");
        let effect =
            "queen, the hive and you get a core at once when they need one; engines alone are as fast as before";
        found.push(proposal(of_worker(name, "limits.nice"), None, Setting::Number(NICE), reason, effect));
    }
}

/// A large model that is read from a disk that turns holds up everybody on it.
pub(super) fn io(view: &View<'_>, found: &mut Vec<Proposal>) {
    if !view.machine.is_rotational {
        return;
    }
    for (name, worker, bytes) in view.engines() {
        if let Some(bytes) = bytes.filter(|bytes| *bytes >= LARGE_MODEL_BYTES && worker.limits.io.is_none()) {
            let reason = format!("it reads {} at each start, from a disk that turns", size(bytes));
            let effect = "others are not held up by a load; the load takes longer when they read much";
            found.push(proposal(of_worker(name, "limits.io"), None, Setting::Text("low".to_owned()), reason, effect));
        }
    }
}

/// What the machine refuses would refuse the start.
pub(super) fn nofile(view: &View<'_>, found: &mut Vec<Proposal>) {
    let hard = view.machine.nofile_hard;
    for (name, worker) in &view.workers {
        if let Some(now) = worker.limits.nofile.filter(|now| *now > hard) {
            let reason = format!("{hard} open files are allowed here");
            let (from, to) = (number(now), number(hard));
            found.push(proposal(of_worker(name, "limits.nofile"), Some(from), to, reason, "it can start"));
        }
    }
}

fn number(value: u64) -> Setting {
    Setting::Number(i64::try_from(value).unwrap_or(i64::MAX))
}

/// Room for half as much again as was ever used; what takes more has a leak.
pub(super) fn memory_max(view: &View<'_>, found: &mut Vec<Proposal>) {
    // Without a cgroup it would count what is reserved, not what is used.
    if !view.machine.limits_memory {
        return;
    }
    for (name, worker) in &view.workers {
        let Some(peak) = view.past(name).and_then(Past::memory_peak) else { continue };
        let now = worker.limits.memory_max.map(|size| size.as_u64());
        // Nine tenths and more of the limit is soon all of it.
        let is_tight = now.is_none_or(|max| peak.saturating_mul(10) > max.saturating_mul(9));
        let to = bound(peak, worker, view.machine.memory_bytes);
        if !is_tight || now.is_some_and(|max| max >= to) || to <= peak {
            continue;
        }
        let (reason, effect) = match now {
            None => (
                format!("it used {} at most, and nothing bounds it", size(peak)),
                "a leak ends the worker, which is restarted, and not another one, or the machine",
            ),
            Some(max) => {
                (format!("it used {} of {}", size(peak), size(max)), "it is not ended for what it really needs")
            }
        };
        let from = worker.limits.memory_max.map(|max| Setting::Text(max.to_string().replace(' ', "")));
        found.push(proposal(of_worker(name, "limits.memory_max"), from, ByteSize(to), reason, effect));
    }
}

fn bound(peak: u64, worker: &WorkerConfig, memory: u64) -> u64 {
    let restart = worker.limits.memory_restart.map_or(0, |size| size.as_u64());
    let wanted = (peak / 2 * 3).max(restart / 100 * ABOVE_RESTART_PERCENT).max(MEMORY_MIN);
    let wanted = wanted.div_ceil(MEMORY_STEP) * MEMORY_STEP;
    // Never all of it, and whole MiB.
    let most = (memory / 100 * 95) >> 20 << 20;
    if restart < most { wanted.min(most) } else { wanted }
}

/// Where nothing bounds memory as a whole.
pub(super) fn cgroup(view: &View<'_>, found: &mut Vec<Advice>) {
    if !view.machine.limits_memory && !view.workers.is_empty() {
        found.push(Advice {
            what: "no cgroup with the memory controller is to be had here".to_owned(),
            reason: "limits of memory hold for each process alone, so none is proposed".to_owned(),
            effect: "as a service with its own cgroups, `optimize` can bound each worker by what it used".to_owned(),
            command: "rbee-keeper service install".to_owned(),
        });
    }
}
