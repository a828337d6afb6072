//! Rules for our own engine: threads, slots, its model in memory.

use std::collections::BTreeMap;

use worker_lifecycle::default_threads;

use super::{Advice, Proposal, Setting, View, of_worker, proposal};

/// A worker whose replicas are as busy as their threads allow.
const BUSY_PERCENT: f64 = 90.0;
/// Beyond that, the history was made with other threads.
const OVERSHOOT_PERCENT: f64 = 110.0;
/// More at once was not measured to bring more.
const SLOTS_MAX: u32 = 16;
/// Fewer requests say nothing about the busiest times.
const REQUESTS_MIN: u64 = 100;
/// Of memory, what may be locked for models: the rest is for everybody.
const LOCKED_SHARE: u64 = 4;

/// An engine's threads.
struct Share<'v> {
    name: &'v str,
    replicas: u32,
    /// What each replica has now, said or chosen.
    now: u32,
    /// What would be chosen.
    usual: u32,
    to: u32,
}

/// Fewer threads than cores over all engines, and more for one that is out of breath. What each engine has then.
pub(super) fn threads(view: &View<'_>, found: &mut Vec<Proposal>) -> BTreeMap<String, (u32, u32)> {
    let cores = view.machine.cores;
    let allowed = cores.saturating_sub(1).max(1);
    let share = |(name, worker, bytes): (_, &rbee_runtime::config::WorkerConfig, Option<u64>)| {
        let usual = default_threads(bytes.unwrap_or(0), cores);
        let now = worker.threads.unwrap_or(usual);
        Share { name, replicas: worker.replicas, now, usual, to: now }
    };
    let mut shares: Vec<Share<'_>> = view.engines().map(share).collect();
    let total = sum(&shares);
    fit(&mut shares, allowed);
    let free = allowed.saturating_sub(sum(&shares));
    raise(view, &mut shares, free);
    for Share { name, now, to, .. } in shares.iter().filter(|share| share.now != share.to) {
        let from = view.config.worker.get(*name).and_then(|worker| worker.threads);
        let (mut reason, effect) = if to < now {
            let effect =
                "decoding several times faster while all are busy: threads that wait for a core hold up the others";
            (format!("the engines together have {total} threads for {cores} cores"), effect)
        } else {
            let reason = format!("each of its {now} threads was busy at times, and cores are free");
            (reason, "prompts are read faster; decoding gains less")
        };
        if from.is_none() {
            reason += &format!("; {now} were chosen for it");
        }
        found.push(proposal(of_worker(name, "threads"), from.map(Setting::from), *to, reason, effect));
    }
    shares.into_iter().map(|share| (share.name.to_owned(), (share.replicas, share.to))).collect()
}

fn sum(shares: &[Share<'_>]) -> u32 {
    shares.iter().map(|share| share.replicas * share.to).sum()
}

/// Shares what is there, one each at least, until nothing changes: so a second look changes nothing either.
fn fit(shares: &mut [Share<'_>], allowed: u32) {
    loop {
        let total = sum(shares).max(allowed);
        let before: Vec<u32> = shares.iter().map(|share| share.to).collect();
        for share in shares.iter_mut() {
            share.to = (share.to * allowed / total).max(1);
        }
        if shares.iter().map(|share| share.to).eq(before) {
            return;
        }
    }
}

/// Gives free cores to those whose history, with as many threads, shows that they would use them.
fn raise(view: &View<'_>, shares: &mut [Share<'_>], mut free: u32) {
    for share in shares {
        let more = share.usual.saturating_sub(share.to).min(free / share.replicas);
        let peak = view.past(share.name).and_then(super::Past::cpu_peak).unwrap_or(0.0);
        if more > 0 && (BUSY_PERCENT..=OVERSHOOT_PERCENT).contains(&(peak / f64::from(share.to))) {
            share.to += more;
            free -= more * share.replicas;
        }
    }
}

/// As many slots as there are requests at once in the busiest times.
pub(super) fn slots(view: &View<'_>, found: &mut Vec<Proposal>) {
    let Some(report) = view.history else { return };
    for model in report.models.iter().filter(|model| model.requests >= REQUESTS_MIN) {
        let workers: Vec<_> =
            view.engines().filter(|(_, worker, _)| worker.model.as_deref() == Some(&model.name)).collect();
        let replicas: u32 = workers.iter().map(|(_, worker, _)| worker.replicas).sum();
        let busiest = model.series.requests.iter().copied().fold(0.0, f32::max);
        let (Some(latency), true) = (model.latency_ms, replicas > 0) else { continue };
        // Little's law, for the busiest step, by how long the slow ones take.
        let at_once = f64::from(busiest) / report.step_s.max(1) as f64 * latency.p95 / 1000.0;
        let places: u32 = workers.iter().map(|(_, worker, _)| worker.replicas * worker.slots).sum();
        let needed = (at_once * 1.5).ceil() as u32;
        let each = needed.div_ceil(replicas).next_power_of_two().min(SLOTS_MAX);
        if places >= needed {
            continue;
        }
        for (name, worker, _) in workers.iter().filter(|(_, worker, _)| worker.slots < each) {
            let reason = format!("up to {at_once:.1} requests were under way at once, {places} are served at once");
            let effect = format!(
                "less waiting for a first token; more tokens a second in total, fewer for each; memory for {} contexts more",
                (each - worker.slots) * worker.replicas
            );
            found.push(proposal(of_worker(name, "slots"), Some(worker.slots.into()), each, reason, effect));
        }
    }
}

/// A model that is to stay, and that memory is large enough for, is not given up for a file that was read once.
pub(super) fn mlock(view: &View<'_>, found: &mut Vec<Proposal>) {
    let engines: Vec<_> = view.engines().collect();
    let room = view.machine.memory_bytes / LOCKED_SHARE;
    // A mapped model is in memory once, however many use it.
    let mut models = BTreeMap::new();
    for (_, worker, bytes) in &engines {
        if let (Some(model), Some(bytes)) = (&worker.model, bytes) {
            let copies = if worker.mmap { 1 } else { u64::from(worker.replicas) };
            models.insert(model, bytes * copies);
        }
    }
    if models.values().sum::<u64>() > room {
        return;
    }
    for (name, worker, bytes) in engines {
        let Some(bytes) = bytes.filter(|bytes| *bytes <= view.machine.memlock_bytes) else { continue };
        if worker.mlock || worker.idle_ttl.is_some() || worker.auto_start == Some(false) {
            continue;
        }
        let reason = format!(
            "its model ({}) is mapped: the kernel drops it for other files; {} of memory are here, and locking is allowed",
            super::size(bytes),
            super::size(view.machine.memory_bytes)
        );
        // Measured: 94 MiB, from a fast disk.
        let effect = "the first answer after a quiet time does not wait for the disk (a model of 94 MiB: 0.01 s, not 0.15 s); \
            that memory is for nothing else";
        found.push(proposal(of_worker(name, "mlock"), Some(Setting::Flag(false)), Setting::Flag(true), reason, effect));
    }
}

/// Pages of 2 MiB: the kernel's business.
pub(super) fn huge_pages(view: &View<'_>, found: &mut Vec<Advice>) {
    let reads = view.engines().any(|(_, worker, _)| !worker.mmap);
    if view.machine.huge_pages.as_deref() == Some("never") && reads {
        found.push(Advice {
            what: "transparent huge pages are off, and a model is read into memory (`mmap = false`)".to_owned(),
            reason: "each of its 4 KiB pages needs a place in the processor's table of pages".to_owned(),
            effect: "often some percent more tokens a second on large models; measure it: `cargo xtask bench`"
                .to_owned(),
            command: "echo always | sudo tee /sys/kernel/mm/transparent_hugepage/enabled".to_owned(),
        });
    }
}
