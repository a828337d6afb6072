//! When a tier was not there to look: from its last sign of life to the first one after that. Pure.
//!
//! Signs are its own events and its own samples. Samples that were rolled up into an hour say how many there were in
//! it; what is missing there is taken to be missing just before the tier came back.

use rbee_api::event::{Event, EventKind};

use super::timeline::Away;
use super::usage::Point;

/// Silence of so many intervals is taken for absence: a machine asleep, a process that was halted.
const SILENT_INTERVALS: i64 = 4;

/// What is known of a tier's presence.
#[derive(Debug, Default)]
pub(super) struct Presence {
    /// When its process began, and the event before that.
    began_ms: Vec<(i64, Option<i64>)>,
    /// All its events.
    told_ms: Vec<i64>,
    /// Its own samples, oldest first.
    samples_ms: Vec<i64>,
    /// Hours of rolled-up samples: (from, to, time that samples stand for).
    hours: Vec<(i64, i64, i64)>,
    interval_ms: i64,
}

impl Presence {
    /// From the events of a tier, of which it is `tier` itself; it samples itself once an interval.
    pub(super) fn new<'a>(events: impl Iterator<Item = &'a Event>, tier: &str, interval_ms: i64) -> Self {
        let mut presence = Self { interval_ms, ..Self::default() };
        let mut starts = false;
        for event in events {
            let at_ms = event.at.as_millisecond();
            if event.daemon == tier {
                // Of a start that was told, being ready is the end and not the beginning.
                let began = event.kind == EventKind::Starting || (event.kind == EventKind::Running && !starts);
                if began {
                    presence.began_ms.push((at_ms, presence.told_ms.last().copied()));
                }
                starts = event.kind == EventKind::Starting;
            }
            presence.told_ms.push(at_ms);
        }
        presence
    }

    /// It took samples of itself.
    pub(super) fn saw(&mut self, point: &Point) {
        match point.covers_ms {
            0 => self.samples_ms.push(point.at_ms),
            covers_ms => {
                let sampled_ms = (i64::from(point.count) * self.interval_ms).min(covers_ms);
                self.hours.push((point.at_ms, point.at_ms + covers_ms, sampled_ms));
            }
        }
    }

    /// All absences, oldest first, none touching another.
    pub(super) fn absences(mut self) -> Vec<Away> {
        self.samples_ms.sort_unstable();
        self.hours.sort_unstable();
        let mut found: Vec<Away> = Vec::new();
        // Where the clock was set back before it began, nobody knows how long it was away.
        for (at_ms, before_ms) in self.began_ms.iter().filter(|(at_ms, before_ms)| *before_ms <= Some(*at_ms)) {
            found.extend(self.last_sign_before(*at_ms, *before_ms).map(|from_ms| Away { from_ms, to_ms: *at_ms }));
        }
        found.extend(self.silences());
        found.retain(|away| away.from_ms < away.to_ms);
        found.sort_unstable_by_key(|away| (away.from_ms, away.to_ms));
        // The same absence told twice: the earlier return counts.
        found.dedup_by(|later, earlier| later.from_ms < earlier.to_ms);
        found
    }

    /// Where samples are taken, silence that is longer than it may be.
    fn silences(&self) -> impl Iterator<Item = Away> {
        let sampled = self.samples_ms.first().zip(self.samples_ms.last()).map(|(first, last)| *first..=*last);
        let told = self.told_ms.iter().filter(|at_ms| sampled.as_ref().is_some_and(|sampled| sampled.contains(at_ms)));
        let mut signs_ms: Vec<i64> = self.samples_ms.iter().chain(told).copied().collect();
        signs_ms.sort_unstable();
        let longest_ms = Some(self.interval_ms * SILENT_INTERVALS).filter(|ms| *ms > 0).unwrap_or(i64::MAX);
        let silences: Vec<Away> = signs_ms
            .windows(2)
            .filter(|pair| pair[1] - pair[0] > longest_ms)
            .map(|pair| Away { from_ms: pair[0], to_ms: pair[1] })
            .collect();
        silences.into_iter()
    }

    fn last_sign_before(&self, at_ms: i64, told_ms: Option<i64>) -> Option<i64> {
        let hour =
            self.hours.iter().rev().find(|(from_ms, ..)| *from_ms < at_ms).map(|(from_ms, to_ms, sampled_ms)| {
                match at_ms <= *to_ms {
                    true => at_ms - (to_ms - from_ms - sampled_ms),
                    false => from_ms + sampled_ms,
                }
            });
        told_ms.max(last_before(&self.samples_ms, at_ms)).max(hour)
    }
}

fn last_before(times_ms: &[i64], at_ms: i64) -> Option<i64> {
    let after = times_ms.partition_point(|time_ms| *time_ms < at_ms);
    after.checked_sub(1).map(|index| times_ms[index])
}

#[cfg(test)]
mod tests;
