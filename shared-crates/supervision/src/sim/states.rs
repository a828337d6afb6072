//! What the checker knows of one unit: a second, simpler account of its life, kept from events and actions alone.

use super::told::Told;
use crate::{Event, Incarnation, Now, Phase, Spec, StopMode, Unit};

/// One unit as the checker sees it.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Newest run ordered.
    pub(super) spawned: Incarnation,
    /// Newest run whose end was reported to the core.
    pub(super) ended: Incarnation,
    /// The run that has to be cleaned up.
    pub(super) to_clean: Option<Incarnation>,
    /// Least patience its owner asked for in the present stop.
    asked_ms: Option<u64>,
    /// Whether that was none at all.
    pub(super) asked_now: bool,
    /// When the live process must be killed, once it was asked to end.
    pub(super) kill_by: Option<Now>,
    pub(super) killed_at: Option<Now>,
    /// When it must be ready.
    pub(super) start_by: Option<Now>,
    /// When its reload must be done.
    pub(super) reload_by: Option<Now>,
    pub(super) running_since: Option<Now>,
    pub(super) failures: u32,
    pub(super) busy: u32,
    /// Longest silence, and when it was heard last.
    pub(super) watchdog: Option<(u64, Now)>,
    /// What has just been reported calls for this run's end.
    pub(super) must_fall: Option<Incarnation>,
    /// What has just been reported: it uses more than it may; whether that calls for its end.
    pub(super) over: Option<bool>,
    /// What was told of it.
    pub(super) told: Told,
    /// What has just been reported: it cannot be spawned at all.
    pub(super) unavailable: bool,
    /// Since when it waits out a back-off, and which in a row that is.
    pub(super) restarting: Option<(Now, u32)>,
    /// Restarts since they were forgiven.
    pub(super) restarts: Vec<Now>,
    /// Restarts that this supervisor decided, forgiven or not.
    pub(super) all_restarts: Vec<Now>,
}

impl Seen {
    /// A supervisor died: what it had promised died with it, what it had done did not.
    pub(super) fn supervisor_died(&mut self) {
        *self = Self { spawned: self.spawned, ended: self.ended, ..Self::default() };
    }

    /// A new run was ordered.
    pub(super) fn spawned(&mut self, incarnation: Incarnation) {
        let Self { ended, restarts, all_restarts, told, .. } = std::mem::take(self);
        *self = Self { spawned: incarnation, ended, restarts, all_restarts, told, ..Self::default() };
    }

    /// Its owner asks it to stop.
    pub(super) fn asked_to_stop(&mut self, now: Now, unit: &Unit, mode: StopMode) {
        let patience_ms = match mode {
            StopMode::Graceful => unit.spec().stop_timeout_ms,
            StopMode::Within { timeout_ms } => timeout_ms,
            StopMode::Now => 0,
        };
        self.asked_now |= mode == StopMode::Now;
        self.asked_ms = Some(match unit.phase() {
            Phase::Stopping => self.patience_ms(unit.spec()).min(patience_ms),
            _ => patience_ms,
        });
        if self.killed_at.is_none() {
            self.kill_by = self.kill_by.map(|by| by.min(now.plus_ms(patience_ms)));
        }
    }

    /// Between the polite signal and the kill.
    pub(super) fn patience_ms(&self, spec: &Spec) -> u64 {
        self.asked_ms.unwrap_or(spec.stop_timeout_ms)
    }

    /// A report of its live run.
    pub(super) fn reported(&mut self, now: Now, unit: &Unit, event: &Event) {
        let spec = unit.spec();
        let runs = unit.phase() == Phase::Running;
        match event {
            Event::Exited { incarnation, .. }
            | Event::SpawnFailed { incarnation, .. }
            | Event::Unavailable { incarnation, .. } => {
                self.ended = self.ended.max(*incarnation);
                self.to_clean = Some(*incarnation);
                let kind = crate::SpawnErrorKind::Unavailable;
                self.unavailable = match event {
                    Event::SpawnFailed { kind: is, .. } => *is == kind,
                    Event::Unavailable { .. } => unit.phase() == Phase::Starting,
                    _ => false,
                };
            }
            Event::Ready { .. } if runs => self.reload_by = None,
            Event::ExtendTimeout { by_ms, .. } => {
                let until = now.plus_ms(*by_ms);
                let later = |by: Option<Now>| by.map(|by| by.max(until));
                match unit.phase() {
                    Phase::Starting => self.start_by = later(self.start_by),
                    Phase::Running => self.reload_by = later(self.reload_by),
                    _ if self.killed_at.is_none() => self.kill_by = later(self.kill_by),
                    _ => {}
                }
            }
            Event::HealthOk { .. } => (self.failures, self.busy) = (0, 0),
            Event::HealthFailed { .. } if runs && self.reload_by.is_none() => self.probe_failed(unit),
            Event::HealthBusy { .. } if runs && self.reload_by.is_none() => {
                if spec.health_busy_max == 0 {
                    self.probe_failed(unit);
                } else if spec.health_failures_max > 0 {
                    self.busy += 1;
                    self.falls_if(self.busy >= spec.health_busy_max, unit);
                }
            }
            Event::WatchdogArmed { timeout_ms, .. } => {
                self.watchdog = (*timeout_ms > 0).then_some((*timeout_ms, now));
            }
            Event::WatchdogPing { .. } => self.watchdog = self.watchdog.map(|(timeout_ms, _)| (timeout_ms, now)),
            Event::Reloading { .. } if runs && self.reload_by.is_none() => {
                self.reload_by = Some(now.plus_ms(spec.start_timeout_ms));
                (self.failures, self.busy) = (0, 0);
            }
            Event::MemoryHigh { .. } if self.may_be_over(unit) => {
                self.over = Some(true);
                self.falls_if(true, unit);
            }
            Event::OverThreshold { restarts, .. } if self.may_be_over(unit) => {
                self.over = Some(*restarts);
                self.falls_if(*restarts, unit);
            }
            _ => {}
        }
    }

    const fn may_be_over(&self, unit: &Unit) -> bool {
        match unit.phase() {
            Phase::Running => true,
            Phase::Starting => self.start_by.is_some(),
            _ => false,
        }
    }

    fn probe_failed(&mut self, unit: &Unit) {
        self.failures += 1;
        let max = unit.spec().health_failures_max;
        self.falls_if(max > 0 && self.failures >= max, unit);
    }

    fn falls_if(&mut self, must: bool, unit: &Unit) {
        if must {
            self.must_fall = Some(unit.incarnation());
        }
    }

    /// So late is the clock that the supervisor itself must have stood still.
    pub(super) fn clock_came(&mut self, now: Now) {
        if let Some((timeout_ms, heard)) = &mut self.watchdog
            && now.ms_since(heard.plus_ms(*timeout_ms)) > *timeout_ms
        {
            *heard = now;
        }
    }
}
