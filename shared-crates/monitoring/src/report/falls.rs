//! Restarts with their causes, slow starts and failed health probes of one daemon, from its events. Pure.
//!
//! ```text
//!   up ──falls (stopping, restarting)──▶ its cause is remembered ──starting──▶ a restart
//!                                              │        └──failed, unavailable──▶ gave up
//!                                              └──stopped──▶ an order: no restart
//! ```

use rbee_api::event::{Event, EventKind};
use rbee_api::report::{
    CAUSES_MAX, CauseCount, HEALTH_FAILURES_MAX, HealthFailure, HealthFailures, RESTARTS_MAX, Restart, Restarts,
    SLOWEST_STARTS_MAX, SlowStart,
};

use super::Window;
use super::timeline::State;

/// What is said where an event gives no cause.
const UNKNOWN_CAUSE: &str = "of a cause that was not told";

/// What the events of one daemon come to.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Falls {
    pub(super) restarts: Restarts,
    pub(super) slowest_starts: Vec<SlowStart>,
    pub(super) health_failures: HealthFailures,
}

impl Falls {
    /// From the events of one daemon, by id; those before the window are only what led to it.
    pub(super) fn of(events: &[&Event], window: Window) -> Self {
        let mut reading = Reading::default();
        for event in events {
            reading.read(event);
        }
        reading.finish(window)
    }
}

#[derive(Default)]
struct Reading {
    /// Since the daemon was last up or starting.
    fall: Option<Restart>,
    started: Option<SlowStart>,
    state: Option<State>,
    restarts: Vec<Restart>,
    starts: Vec<SlowStart>,
    failures: Vec<HealthFailure>,
}

impl Reading {
    fn read(&mut self, event: &Event) {
        if event.kind == EventKind::HealthFailed {
            let reason = event.cause.clone().unwrap_or_else(|| "it did not pass its health probe".to_owned());
            self.failures.push(HealthFailure { at: event.at, reason });
        }
        if event.kind == EventKind::Gap {
            (self.fall, self.started, self.state) = (None, None, None);
            return;
        }
        let Some(state) = State::after(event) else { return };
        let before = self.state.replace(state);
        let fall = |gave_up| Restart {
            at: event.at,
            cause: event.cause.clone().unwrap_or_else(|| UNKNOWN_CAUSE.to_owned()),
            gave_up,
        };
        match state {
            State::Starting => {
                // Whoever takes it over says `starting` again for what starts already.
                if event.kind != EventKind::Adopted {
                    self.restarts.extend(self.fall.take());
                    self.started = Some(SlowStart { at: event.at, took_ms: 0, incarnation: event.incarnation });
                }
            }
            State::Up => {
                self.fall = None;
                let started = self.started.take().filter(|_| event.kind == EventKind::Running);
                self.starts.extend(told_start(event).or_else(|| started.and_then(|start| took(start, event))));
            }
            State::Stopping | State::Waiting => {
                self.started = None;
                self.fall.get_or_insert_with(|| fall(false));
            }
            State::Down => {
                self.started = None;
                let because = self.fall.take().map(|fall| fall.cause);
                if before != Some(State::Down) {
                    let mut last = fall(true);
                    if event.cause.is_none() {
                        last.cause = because.unwrap_or(last.cause);
                    }
                    self.restarts.push(last);
                }
            }
            State::Off | State::Unknown => (self.fall, self.started) = (None, None),
        }
    }

    fn finish(mut self, window: Window) -> Falls {
        // It waits for its next start: that it fell is certain.
        self.restarts.extend(self.fall.take().filter(|_| self.state == Some(State::Waiting)));
        self.restarts.retain(|restart| window.contains(restart.at));
        self.failures.retain(|failure| window.contains(failure.at));
        self.starts.retain(|start| window.contains(start.at));
        self.starts.sort_by_key(|start| std::cmp::Reverse(start.took_ms));
        self.starts.truncate(SLOWEST_STARTS_MAX);
        Falls {
            restarts: Restarts {
                total: self.restarts.len() as u64,
                causes: causes(&self.restarts),
                newest: self.restarts.into_iter().rev().take(RESTARTS_MAX).collect(),
            },
            slowest_starts: self.starts,
            health_failures: HealthFailures {
                total: self.failures.len() as u64,
                newest: self.failures.into_iter().rev().take(HEALTH_FAILURES_MAX).collect(),
            },
        }
    }
}

/// A start whose length the supervisor has told.
fn told_start(ready: &Event) -> Option<SlowStart> {
    let took_ms = ready.detail.as_ref()?.get("start_ms")?.as_u64()?;
    let at_ms = ready.at.as_millisecond().checked_sub(i64::try_from(took_ms).ok()?)?;
    let at = jiff::Timestamp::from_millisecond(at_ms).ok()?;
    Some(SlowStart { at, took_ms, incarnation: ready.incarnation })
}

/// A start that was ready with this event; one of another run, or over a clock set back, tells nothing.
fn took(start: SlowStart, ready: &Event) -> Option<SlowStart> {
    let took_ms = ready.at.as_millisecond() - start.at.as_millisecond();
    let same_run = start.incarnation.is_none() || ready.incarnation.is_none() || start.incarnation == ready.incarnation;
    let took_ms = u64::try_from(took_ms).ok().filter(|_| same_run)?;
    Some(SlowStart { took_ms, ..start })
}

fn causes(restarts: &[Restart]) -> Vec<CauseCount> {
    let mut causes: Vec<CauseCount> = Vec::new();
    for restart in restarts {
        match causes.iter_mut().find(|known| known.cause == restart.cause) {
            Some(known) => known.count += 1,
            None => causes.push(CauseCount { cause: restart.cause.clone(), count: 1 }),
        }
    }
    causes.sort_by_key(|known| std::cmp::Reverse(known.count));
    causes.truncate(CAUSES_MAX);
    causes
}

#[cfg(test)]
mod tests;
