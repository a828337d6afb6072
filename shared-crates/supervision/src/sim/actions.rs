//! The invariants that are looked at with each action, before it is carried out.

use super::checks::{Checks, needs, phase};
use super::invariant::{Invariant, Violation};
use super::os::Process;
use super::told::Told;
use crate::{Action, Cause, Change, Core, Incarnation, Now, Phase, Policy, UnitName};

impl Checks {
    pub(super) fn action(
        &mut self,
        now: Now,
        core: &Core,
        processes: &[Process],
        action: &Action,
    ) -> Result<(), Violation> {
        match action {
            Action::Spawn { unit, incarnation } => self.spawn(core, processes, unit, *incarnation),
            Action::AwaitReady { unit, .. } => {
                let timeout_ms = core.unit(unit).map_or(0, |known| known.spec().start_timeout_ms);
                self.of(unit).start_by = Some(now.plus_ms(timeout_ms));
                Ok(())
            }
            Action::Terminate { unit, incarnation } => self.terminate(now, core, unit, *incarnation),
            Action::Kill { unit, incarnation } => self.kill(now, unit, *incarnation),
            Action::Cleanup { unit, incarnation } => {
                let expected = self.of(unit).to_clean.take();
                Invariant::CleanedUp.holds(expected == Some(*incarnation), || format!("{unit}: {incarnation} early"))
            }
            Action::Changed(change) => {
                self.tells_change(change)?;
                self.changed(now, core, change)
            }
            Action::Happened(happening) => self.tells(now, core, happening),
            Action::Forget { unit } => {
                self.of(unit).told = Told::default();
                Ok(())
            }
            Action::WatchHealth { .. } => Ok(()),
        }
    }

    fn spawn(
        &mut self,
        core: &Core,
        processes: &[Process],
        unit: &UnitName,
        run: Incarnation,
    ) -> Result<(), Violation> {
        self.spawned += 1;
        let seen = self.of(unit);
        Invariant::RunNumbers.holds(run > seen.spawned, || format!("{unit}: {run} after {}", seen.spawned))?;
        Invariant::CleanedUp.holds(seen.to_clean.is_none(), || format!("{unit}: {run} before the last was"))?;
        seen.spawned(run);
        let live = processes.iter().find(|p| p.unit == *unit).map(|p| p.incarnation);
        Invariant::OneProcess.holds(live.is_none(), || format!("{unit}: {run} ordered while {live:?} lives"))?;
        let down = needs(core, unit).find(|need| phase(core, need) != Some(Phase::Running));
        Invariant::NeedsRun.holds(down.is_none(), || format!("{unit}: {run} ordered while {down:?} does not run"))
    }

    fn terminate(&mut self, now: Now, core: &Core, unit: &UnitName, run: Incarnation) -> Result<(), Violation> {
        let needs_it = core.units().find(|(_, other)| other.is_live() && other.spec().depends_on.contains(unit));
        Invariant::StopOrder
            .holds(needs_it.is_none(), || format!("{unit}: asked to end while {:?} lives", needs_it.map(|(n, _)| n)))?;
        let Some(known) = core.unit(unit) else { return Ok(()) };
        let seen = self.of(unit);
        seen.kill_by = Some(now.plus_ms(seen.patience_ms(known.spec())));
        Invariant::NoLateSignal.holds(run > seen.ended, || format!("{unit}: {run} is gone"))
    }

    fn kill(&mut self, now: Now, unit: &UnitName, run: Incarnation) -> Result<(), Violation> {
        let seen = self.of(unit);
        Invariant::NoLateSignal.holds(run > seen.ended, || format!("{unit}: {run} is gone"))?;
        let may = seen.asked_now || seen.killed_at.is_some() || seen.kill_by.is_some_and(|by| by <= now);
        (seen.kill_by, seen.killed_at) = (None, Some(now));
        Invariant::NotKilledEarly.holds(may, || format!("{unit}: {run} still had time"))
    }

    fn changed(&mut self, now: Now, core: &Core, change: &Change) -> Result<(), Violation> {
        let Change { unit, from, to, cause, .. } = change;
        self.is_true(now, core, change)?;
        if is_fall(change) {
            self.fallen.push((unit.clone(), cause.clone()));
        }
        let Some(known) = core.unit(unit) else { return Ok(()) };
        let spec = known.spec().restart.clone();
        let seen = self.of(unit);
        if *from == Phase::Running {
            let was_stable = seen.running_since.take().is_some_and(|since| now.ms_since(since) >= spec.reset_after_ms);
            if was_stable {
                seen.restarts.clear();
            }
        }
        match to {
            Phase::Running => {
                seen.running_since = Some(now);
                seen.start_by = None;
                seen.watchdog = seen.watchdog.map(|(timeout_ms, _)| (timeout_ms, now));
            }
            Phase::Restarting => {
                let forgiven = matches!(cause, Cause::Exited(how) if *from == Phase::Running && how.is_success());
                let may = match spec.policy {
                    Policy::Always => true,
                    Policy::OnFailure => !forgiven,
                    Policy::Never => false,
                };
                Invariant::Policy.holds(may && !seen.unavailable, || format!("{unit}: restarts after {cause}"))?;
                seen.restarting = Some((now, known.restarts()));
                seen.restarts.retain(|moment| now.ms_since(*moment) < spec.within_ms);
                seen.restarts.push(now);
                seen.all_restarts.push(now);
                let count = seen.restarts.len();
                Invariant::RestartWindow
                    .holds(count <= spec.restarts_max as usize, || format!("{unit}: {count} in its window"))?;
            }
            Phase::Failed => {
                if let Cause::TooManyRestarts { .. } = cause {
                    let count = seen.all_restarts.iter().filter(|at| now.ms_since(**at) < spec.within_ms).count();
                    Invariant::RestartWindow
                        .holds(count >= spec.restarts_max as usize, || format!("{unit}: gave up after {count}"))?;
                }
            }
            _ => {}
        }
        if let (Phase::Restarting, Cause::BackoffOver, Some((since, nth))) = (from, cause, seen.restarting) {
            let plain = spec.backoff_min_ms.saturating_mul(1 << nth.saturating_sub(1).min(30)).min(spec.backoff_max_ms);
            let least = (plain - plain / 10).max(spec.backoff_min_ms);
            let waited = now.ms_since(since);
            Invariant::Backoff.holds(waited >= least, || format!("{unit}: waited {waited} ms of {least}"))?;
        }
        Ok(())
    }

    /// What is told as the cause is what happened.
    fn is_true(&mut self, now: Now, core: &Core, change: &Change) -> Result<(), Violation> {
        let Change { unit, to: Phase::Stopping, cause, .. } = change else { return Ok(()) };
        let Some(spec) = core.unit(unit).map(crate::Unit::spec) else { return Ok(()) };
        let seen = self.of(unit);
        let is_over = |by: Option<Now>| by.is_some_and(|by| by <= now);
        let is_true = match cause {
            Cause::Unhealthy { .. } => spec.health_failures_max > 0 && seen.failures >= spec.health_failures_max,
            Cause::Hung { busy_probes } => seen.busy == *busy_probes && seen.busy >= spec.health_busy_max,
            Cause::MemoryHigh { .. } | Cause::OverThreshold(_) => seen.over == Some(true),
            Cause::WatchdogMissed { .. } => is_over(seen.watchdog.map(|(timeout_ms, heard)| heard.plus_ms(timeout_ms))),
            Cause::StartTimedOut { .. } => is_over(seen.start_by),
            Cause::ReloadTimedOut { .. } => is_over(seen.reload_by),
            Cause::DependencyLost { dependency } => {
                spec.depends_on.contains(dependency) && phase(core, dependency) != Some(Phase::Running)
            }
            _ => true,
        };
        Invariant::TrueCause.holds(is_true, || format!("{unit}: {cause}"))
    }
}

/// Whether a unit went down for a reason of its own or of its neighbours.
fn is_fall(change: &Change) -> bool {
    match change.cause {
        Cause::StartTimedOut { .. }
        | Cause::ReloadTimedOut { .. }
        | Cause::Unhealthy { .. }
        | Cause::Hung { .. }
        | Cause::WatchdogMissed { .. }
        | Cause::MemoryHigh { .. }
        | Cause::OverThreshold(_)
        | Cause::SpawnFailed { .. }
        | Cause::TooManyRestarts { .. }
        | Cause::DependencyLost { .. }
        | Cause::Exited(_) => change.to != Phase::Starting,
        _ => false,
    }
}
