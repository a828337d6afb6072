//! In which state one daemon was when, as far as anybody knows. Pure.
//!
//! ```text
//!   time      ──────┬──────────┬────┬─────────────────┬──────┬───────────────▶
//!   events          starting   running     its supervisor is killed … comes back, finds it gone
//!   timeline unknown│ starting │ up                   │ unknown              │ down …
//! ```
//!
//! Events come by id, not by clock: where a clock was set back, the newer record wins over what it overlaps.

use rbee_api::Phase;
use rbee_api::event::{Event, EventKind};
use rbee_api::report::{Availability, Period};

use super::Window;

/// What a daemon was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody looked.
    Unknown,
    /// Spawned, not ready.
    Starting,
    /// Ready.
    Up,
    /// On its way down: by order where [`State::Off`] follows.
    Stopping,
    /// Waits for its next start.
    Waiting,
    /// Given up, or cannot be started: only an order brings it back.
    Down,
    /// Stopped by order.
    Off,
}

impl State {
    /// After an event; `None` where it says nothing about that.
    pub(super) fn after(event: &Event) -> Option<Self> {
        // A hive that is silent may well be alive: its daemons are, and it tells later.
        let phase = event.phase.or(match event.kind {
            EventKind::Starting => Some(Phase::Starting),
            EventKind::Running | EventKind::Undrained => Some(Phase::Running),
            EventKind::Stopping => Some(Phase::Stopping),
            EventKind::Stopped => Some(Phase::Stopped),
            EventKind::Restarting => Some(Phase::Restarting),
            EventKind::Failed => Some(Phase::Failed),
            EventKind::Unavailable => Some(Phase::Unavailable),
            EventKind::Draining => Some(Phase::Draining),
            _ => None,
        })?;
        Some(match phase {
            Phase::Starting => Self::Starting,
            Phase::Running | Phase::Draining => Self::Up,
            Phase::Stopping => Self::Stopping,
            Phase::Restarting => Self::Waiting,
            Phase::Failed | Phase::Unavailable | Phase::Stale => Self::Down,
            Phase::Stopped => Self::Off,
        })
    }

    /// Whether something could have happened to it while nobody looked.
    const fn changes_by_itself(self) -> bool {
        matches!(self, Self::Starting | Self::Up | Self::Stopping | Self::Waiting)
    }
}

/// A time during which nobody looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Away {
    /// The last sign of whoever looks.
    pub(super) from_ms: i64,
    /// The first sign after that.
    pub(super) to_ms: i64,
}

/// A daemon's course: each state holds until the next begins.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Timeline {
    spans: Vec<(i64, State)>,
}

impl Timeline {
    /// From the events of one daemon, by id.
    pub(super) fn of(events: &[&Event], away: &[Away]) -> Self {
        let mut timeline = Self::default();
        let mut missed = away.iter().peekable();
        let mut run = None;
        for event in events {
            let at_ms = event.at.as_millisecond();
            let mut gone = None;
            while let Some(away) = missed.next_if(|away| away.to_ms <= at_ms) {
                gone = gone.or(Some(away.from_ms));
            }
            let is_up = matches!(State::after(event), Some(State::Starting | State::Up));
            let same_run = is_up && event.incarnation.is_some() && event.incarnation == run;
            run = event.incarnation.or(run);
            // The same process is there again: it was alive all the time.
            let from_ms = gone.filter(|_| event.kind != EventKind::Adopted && !same_run);
            from_ms.into_iter().for_each(|from_ms| timeline.lose(from_ms));
            if event.kind == EventKind::Gap {
                timeline.paint(at_ms, State::Unknown);
            } else if let Some(state) = State::after(event) {
                timeline.paint(at_ms, state);
            }
        }
        // Nothing was heard of it since its supervisor is back: it is as it was, or it would have been told.
        for away in missed {
            timeline.lose_between(*away);
        }
        timeline
    }

    /// It is in this state from then on.
    fn paint(&mut self, at_ms: i64, state: State) {
        while self.spans.last().is_some_and(|(from_ms, _)| *from_ms >= at_ms) {
            self.spans.pop();
        }
        if self.spans.last().is_none_or(|(_, before)| *before != state) {
            self.spans.push((at_ms, state));
        }
    }

    /// Nobody knows from then on, unless it was down for good.
    fn lose(&mut self, from_ms: i64) {
        if self.at(from_ms).changes_by_itself() {
            self.paint(from_ms, State::Unknown);
        }
    }

    fn lose_between(&mut self, away: Away) {
        let (before, after) = (self.at(away.from_ms), self.at(away.to_ms));
        if before.changes_by_itself() && self.spans.last().is_some_and(|(from_ms, _)| *from_ms <= away.from_ms) {
            self.paint(away.from_ms, State::Unknown);
            self.paint(away.to_ms, after);
        }
    }

    /// For a tier's own daemon: while it was away it was down, or off if it had been told to end.
    pub(super) fn was_gone(&mut self, away: &[Away]) {
        for away in away {
            let after = self.at(away.to_ms);
            let back = self.spans.partition_point(|(from_ms, _)| *from_ms <= away.to_ms);
            let rest = self.spans.split_off(back);
            match self.at(away.from_ms) {
                State::Unknown => {}
                State::Stopping | State::Off => self.paint(away.from_ms, State::Off),
                _ => self.paint(away.from_ms, State::Waiting),
            }
            self.paint(away.to_ms, after);
            self.spans.extend(rest);
        }
    }

    /// Its hive is silent since then.
    pub(super) fn silent_since(&mut self, at_ms: i64) {
        if self.at(at_ms).changes_by_itself() {
            self.paint(at_ms, State::Unknown);
        }
    }

    /// The state at that time.
    pub(super) fn at(&self, at_ms: i64) -> State {
        let after = self.spans.partition_point(|(from_ms, _)| *from_ms <= at_ms);
        after.checked_sub(1).map_or(State::Unknown, |index| self.spans[index].1)
    }

    /// All that is in the window, without holes: (from, to, state).
    pub(super) fn within(&self, window: Window) -> impl Iterator<Item = (i64, i64, State)> + '_ {
        let before = [(i64::MIN, State::Unknown)];
        let ends = self.spans.iter().map(|(from_ms, _)| *from_ms).chain([i64::MAX]);
        let followers = self.spans.iter().map(|(_, state)| Some(*state)).chain([None]);
        before.into_iter().chain(self.spans.iter().copied()).zip(ends.zip(followers)).filter_map(
            move |((from_ms, state), (to_ms, follower))| {
                let (from_ms, to_ms) = (from_ms.max(window.from_ms), to_ms.min(window.to_ms));
                let state = match (state, follower) {
                    (State::Stopping, Some(State::Off)) => State::Off,
                    (state, _) => state,
                };
                (from_ms < to_ms).then_some((from_ms, to_ms, state))
            },
        )
    }

    /// How much of the window it was there.
    pub(super) fn availability(&self, window: Window) -> Availability {
        let mut times = Availability::default();
        for (from_ms, to_ms, state) in self.within(window) {
            add(&mut times, state, (to_ms - from_ms).unsigned_abs());
        }
        times.percent = share(&times).map(|share| share * 100.0);
        times
    }

    /// Availability and rest of each step of the window: (share of the wanted time that it was up, nobody wanted it).
    pub(super) fn by_step(&self, window: Window, period: Period) -> Vec<(Option<f32>, bool)> {
        let mut steps = vec![Availability::default(); window.steps(period)];
        for (from_ms, to_ms, state) in self.within(window) {
            for (index, (from_ms, to_ms)) in window.split(period, from_ms, to_ms) {
                if let Some(times) = steps.get_mut(index) {
                    add(times, state, (to_ms - from_ms).unsigned_abs());
                }
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "three digits are shown")]
        let told = |times: &Availability| {
            let share = share(times);
            (share.map(|share| share as f32), share.is_none() && times.off_ms > 0)
        };
        steps.iter().map(told).collect()
    }
}

fn add(times: &mut Availability, state: State, ms: u64) {
    *match state {
        State::Unknown => &mut times.unknown_ms,
        State::Starting => &mut times.starting_ms,
        State::Up => &mut times.up_ms,
        State::Stopping | State::Waiting | State::Down => &mut times.down_ms,
        State::Off => &mut times.off_ms,
    } += ms;
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of a week")]
fn share(times: &Availability) -> Option<f64> {
    let wanted_ms = times.up_ms + times.starting_ms + times.down_ms;
    (wanted_ms > 0).then(|| times.up_ms as f64 / wanted_ms as f64)
}

#[cfg(test)]
mod tests;
