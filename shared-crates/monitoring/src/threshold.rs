//! When a daemon has been above a threshold for long enough. Pure: it is told the time.
//!
//! ```text
//!   below ──sample above──▶ above since ──for so long──▶ told (once) ──sample below, or another run──▶ below
//! ```

use rbee_api::Figures;
use rbee_api::assignment::ThresholdsSpec;
use supervision::{Excess, Resource};

const RESOURCES: usize = 3;

/// What is remembered of one daemon's run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Crossings {
    incarnation: u64,
    above: [Option<Above>; RESOURCES],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Above {
    since_ms: u64,
    told: bool,
}

impl Crossings {
    /// What is above its threshold for long enough now and was not told since it got there. `now_ms` is of a clock that
    /// nobody puts right.
    pub fn judge(&mut self, now_ms: u64, incarnation: u64, thresholds: &ThresholdsSpec, used: &Figures) -> Vec<Excess> {
        if self.incarnation != incarnation {
            *self = Self { incarnation, ..Self::default() };
        }
        let cpu_percent = used.cpu_percent.round() as u64;
        let measured: [(Resource, Option<u64>, Option<u64>); RESOURCES] = [
            (Resource::Cpu, thresholds.cpu_percent, Some(cpu_percent)),
            (Resource::Memory, thresholds.memory_bytes, Some(used.rss_bytes)),
            (Resource::OpenFiles, thresholds.fds, used.fds),
        ];
        let mut excesses = Vec::new();
        for (above, (resource, limit, used)) in self.above.iter_mut().zip(measured) {
            let Some((limit, used)) = limit.zip(used).filter(|(limit, used)| used > limit) else {
                *above = None;
                continue;
            };
            let above = above.get_or_insert(Above { since_ms: now_ms, told: false });
            let for_ms = now_ms.saturating_sub(above.since_ms);
            if for_ms >= thresholds.for_ms && !above.told {
                above.told = true;
                excesses.push(Excess { resource, used, limit, for_ms });
            }
        }
        excesses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MONI-10
    #[test]
    fn what_lasts_is_told_once_and_again_only_after_it_was_below() {
        let thresholds = ThresholdsSpec { cpu_percent: Some(50), for_ms: 60_000, ..ThresholdsSpec::default() };
        let mut crossings = Crossings::default();
        // (seconds, run, percent, told)
        for (second, incarnation, cpu_percent, told) in [
            (0, 1, 90.0, false),
            (45, 1, 51.0, false),
            (60, 1, 50.6, true),
            (75, 1, 99.0, false),
            (90, 1, 50.4, false),
            (105, 1, 80.0, false),
            (150, 1, 80.0, false),
            (165, 1, 80.0, true),
            // Another run begins anew, however long the one before was above.
            (180, 2, 80.0, false),
            (239, 2, 80.0, false),
            (240, 2, 80.0, true),
            // A dip begins anew, too.
            (255, 3, 80.0, false),
            (300, 3, 10.0, false),
            (315, 3, 80.0, false),
            (374, 3, 80.0, false),
        ] {
            let usage = Figures { cpu_percent, ..Figures::default() };
            let found = crossings.judge(second * 1000, incarnation, &thresholds, &usage);
            assert_eq!(!found.is_empty(), told, "at {second} s: {found:?}");
        }
    }

    /// MONI-10
    #[test]
    fn each_resource_counts_for_itself_and_what_is_not_known_is_not_above() {
        let thresholds =
            ThresholdsSpec { memory_bytes: Some(100), fds: Some(10), for_ms: 0, ..ThresholdsSpec::default() };
        let judge = |rss_bytes, fds| {
            let usage = Figures { cpu_percent: 900.0, rss_bytes, fds, ..Figures::default() };
            let found = Crossings::default().judge(7, 1, &thresholds, &usage);
            found.into_iter().map(|excess| (excess.resource, excess.used, excess.limit)).collect::<Vec<_>>()
        };
        assert_eq!(judge(100, Some(10)), []);
        assert_eq!(judge(101, None), [(Resource::Memory, 101, 100)]);
        assert_eq!(judge(500, Some(11)), [(Resource::Memory, 500, 100), (Resource::OpenFiles, 11, 10)]);
    }
}
