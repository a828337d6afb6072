//! Rules for time: how long to wait for a start, and before the next one.

use std::time::Duration;

use rbee_runtime::config::WorkerConfig;

use super::{Past, Proposal, View, of_worker, proposal};

/// In a week: often enough to be no accident.
const CRASHES_OFTEN: u64 = 5;
/// In a week: whatever it is, trying again does not repair it.
const CRASHES_ALWAYS: u64 = 20;
const BACKOFF_MIN: Duration = Duration::from_secs(5);
const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// Start timeouts in whole steps of this.
const STEP_S: u64 = 5;

/// One that falls again and again is given more time between.
pub(super) fn back_off(view: &View<'_>, found: &mut Vec<Proposal>) {
    for (name, worker) in &view.workers {
        let Some((crashes, cause)) = view.past(name).map(Past::crashes) else { continue };
        let restart = &worker.restart;
        let because = cause.map(|cause| format!(", mostly because {cause}")).unwrap_or_default();
        let reason = format!("it was restarted {crashes} times{because}");
        let of = |key: &str, from: Duration, to: Duration, effect: &str| {
            proposal(of_worker(name, key), Some(from.into()), to, reason.clone(), effect)
        };
        let first = restart.backoff_min.max(BACKOFF_MIN);
        if crashes >= CRASHES_OFTEN && restart.backoff_min < first {
            let effect = "what it needs has time to come back; an accident takes some seconds longer to repair";
            found.push(of("restart.backoff_min", restart.backoff_min, first, effect));
        }
        // The first delay must not be above the longest.
        let longest = if crashes >= CRASHES_ALWAYS { BACKOFF_MAX } else { first };
        if crashes >= CRASHES_OFTEN && restart.backoff_max < longest {
            let effect = "fewer starts in vain, each of which costs processor and disk";
            found.push(of("restart.backoff_max", restart.backoff_max, longest, effect));
        }
    }
}

/// Twice the slowest start fits, and then some.
pub(super) fn start_timeout(view: &View<'_>, found: &mut Vec<Proposal>) {
    for (name, worker) in &view.workers {
        let Some(slowest) = view.past(name).and_then(Past::slowest_start) else { continue };
        let now = patience(view, worker);
        if slowest * 2 <= now {
            continue;
        }
        let to = Duration::from_secs((slowest * 3).as_secs().div_ceil(STEP_S).max(1) * STEP_S);
        let took = humantime::format_duration(Duration::from_secs(slowest.as_secs().max(1)));
        let reason = format!("a start took {took}, {} are allowed", humantime::format_duration(now));
        let effect = "a slow start is waited for, and not broken off to be begun again";
        found.push(proposal(
            of_worker(name, "start_timeout"),
            worker.start_timeout.map(Into::into),
            to,
            reason,
            effect,
        ));
    }
}

/// What it has now: as the hive reckons where nothing is said.
fn patience(view: &View<'_>, worker: &WorkerConfig) -> Duration {
    let spec = worker.to_spec();
    let bytes = worker.model.as_ref().and_then(|model| view.machine.model_bytes.get(model)).copied().unwrap_or(0);
    // 64 MiB a second, as slow disks read.
    let grown = if spec.start_timeout_grows { bytes >> 26 } else { 0 };
    Duration::from_millis(spec.start_timeout_ms) + Duration::from_secs(grown)
}
