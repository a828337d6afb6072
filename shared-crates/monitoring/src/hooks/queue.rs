//! Which hook runs next. Pure: in the order of events for each daemon, some at once for different ones, a bounded number waiting.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use rbee_api::Event;

/// One command to be run for one event.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Job {
    pub(super) event: Arc<Event>,
    pub(super) command: String,
}

/// How much runs and waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) at_once: usize,
    pub(super) waiting_max: usize,
}

/// Jobs that wait, and whose daemons have one running.
#[derive(Debug)]
pub(super) struct Queue {
    room: Room,
    waiting: VecDeque<Job>,
    /// Hive and name.
    running: BTreeSet<(Option<String>, String)>,
    dropped: Option<Dropped>,
}

/// Jobs that were dropped, since this was asked last.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Dropped {
    pub(super) count: u64,
    pub(super) newest: Job,
}

impl Job {
    fn daemon(&self) -> (Option<String>, String) {
        (self.event.hive.clone(), self.event.daemon.clone())
    }
}

impl Queue {
    pub(super) const fn new(room: Room) -> Self {
        Self { room, waiting: VecDeque::new(), running: BTreeSet::new(), dropped: None }
    }

    /// From now on; what waits beyond that is dropped.
    pub(super) fn use_room(&mut self, room: Room) {
        self.room = room;
        self.keep_bound();
    }

    pub(super) fn push(&mut self, job: Job) {
        self.waiting.push_back(job);
        self.keep_bound();
    }

    fn keep_bound(&mut self) {
        while self.waiting.len() > self.room.waiting_max
            && let Some(newest) = self.waiting.pop_front()
        {
            let count = self.dropped.as_ref().map_or(0, |dropped| dropped.count) + 1;
            self.dropped = Some(Dropped { count, newest });
        }
    }

    /// The oldest whose daemon has none running, if there is room for it; it counts as running until it is [`Queue::done`].
    pub(super) fn next(&mut self) -> Option<Job> {
        if self.running.len() >= self.room.at_once {
            return None;
        }
        let at = self.waiting.iter().position(|job| !self.running.contains(&job.daemon()))?;
        let job = self.waiting.remove(at)?;
        self.running.insert(job.daemon());
        Some(job)
    }

    pub(super) fn done(&mut self, job: &Job) {
        self.running.remove(&job.daemon());
    }

    pub(super) const fn take_dropped(&mut self) -> Option<Dropped> {
        self.dropped.take()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Forgets what waits; how many that were.
    pub(super) fn clear(&mut self) -> usize {
        std::mem::take(&mut self.waiting).len()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rbee_api::EventKind;

    use super::*;

    fn job(id: u64, daemon: &str) -> Job {
        let (hive, at) = (None, Timestamp::UNIX_EPOCH);
        let daemon = daemon.to_owned();
        let (kind, incarnation, phase, cause, detail) = (EventKind::Failed, None, None, None, None);
        let event = Event { id, at, hive, daemon, kind, incarnation, phase, cause, detail };
        Job { event: Arc::new(event), command: "x".to_owned() }
    }

    /// What happens, and which jobs run after it, by their ids.
    enum Step {
        Push(u64, &'static str),
        Done(u64, &'static str),
    }

    /// What it is about, how many at once, how many may wait, and the steps, each with what begins then.
    type Case = (&'static str, usize, usize, &'static [(Step, &'static [u64])]);

    /// HOOK-02
    #[test]
    fn table() {
        use Step::{Done, Push};
        let cases: [Case; 5] = [
            (
                "one after the other for a daemon",
                4,
                9,
                &[
                    (Push(1, "a"), &[1]),
                    (Push(2, "a"), &[]),
                    (Push(3, "a"), &[]),
                    (Done(1, "a"), &[2]),
                    (Done(2, "a"), &[3]),
                ],
            ),
            (
                "beside each other for different ones",
                4,
                9,
                &[
                    (Push(1, "a"), &[1]),
                    (Push(2, "a"), &[]),
                    (Push(3, "b"), &[3]),
                    (Done(3, "b"), &[]),
                    (Done(1, "a"), &[2]),
                ],
            ),
            (
                "at most so many at once, oldest first",
                2,
                9,
                &[
                    (Push(1, "a"), &[1]),
                    (Push(2, "b"), &[2]),
                    (Push(3, "c"), &[]),
                    (Push(4, "d"), &[]),
                    (Done(2, "b"), &[3]),
                    (Done(1, "a"), &[4]),
                ],
            ),
            (
                "a busy daemon holds nobody else up",
                2,
                9,
                &[
                    (Push(1, "a"), &[1]),
                    (Push(2, "a"), &[]),
                    (Push(3, "a"), &[]),
                    (Push(4, "b"), &[4]),
                    (Done(4, "b"), &[]),
                ],
            ),
            (
                "the oldest goes when too many wait",
                1,
                2,
                &[
                    (Push(1, "a"), &[1]),
                    (Push(2, "a"), &[]),
                    (Push(3, "b"), &[]),
                    (Push(4, "c"), &[]),
                    (Done(1, "a"), &[3]),
                    (Done(3, "b"), &[4]),
                ],
            ),
        ];
        for (what, at_once, waiting_max, steps) in cases {
            let mut queue = Queue::new(Room { at_once, waiting_max });
            for (index, (step, expected)) in steps.iter().enumerate() {
                match step {
                    Push(id, daemon) => queue.push(job(*id, daemon)),
                    Done(id, daemon) => queue.done(&job(*id, daemon)),
                }
                let begun: Vec<u64> = std::iter::from_fn(|| queue.next()).map(|job| job.event.id).collect();
                assert_eq!(begun, *expected, "{what}, step {index}");
            }
        }
    }

    /// HOOK-02
    #[test]
    fn a_thousand_at_once_are_bounded_and_those_that_go_are_counted() {
        let mut queue = Queue::new(Room { at_once: 4, waiting_max: 64 });
        (1..=1000).for_each(|id| queue.push(job(id, "a")));
        let dropped = queue.take_dropped().unwrap();
        assert_eq!((dropped.count, dropped.newest.event.id), (936, 936));
        assert_eq!(queue.take_dropped(), None, "told once");
        let first = queue.next().unwrap();
        assert_eq!((first.event.id, queue.next()), (937, None));
        queue.use_room(Room { at_once: 4, waiting_max: 3 });
        assert_eq!(queue.take_dropped().unwrap().count, 60);
        assert!(!queue.is_idle());
        queue.done(&first);
        assert_eq!(queue.clear(), 3);
        assert!(queue.is_idle());
    }

    #[test]
    fn one_name_on_two_hives_is_two_daemons() {
        let mut queue = Queue::new(Room { at_once: 4, waiting_max: 9 });
        let on = |id, hive: &str| {
            let event = Event { hive: Some(hive.to_owned()), ..(*job(id, "api/0").event).clone() };
            Job { event: Arc::new(event), command: "x".to_owned() }
        };
        queue.push(on(1, "one"));
        queue.push(on(2, "two"));
        assert_eq!(std::iter::from_fn(|| queue.next()).count(), 2);
    }
}
