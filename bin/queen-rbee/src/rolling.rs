//! A rolling restart, step by step. Pure: what is seen comes in, the next step comes out; the store keeps the step.
//!
//! ```text
//!   Surge ──ready──▶ Drain 0 ──idle, or time is over──▶ Restart 0 ──ready──▶ Drain 1 ─▶ … ─▶ Retire ──idle──▶ Ended
//!     │ cannot start                                       │ cannot start: it stays there, the surge replica serves,
//!     └──────────▶ Ended (why): nothing was touched        └ and it goes on as soon as the replica is up
//! ```
//!
//! The surge replica is one beyond those there are: with it up, each of the others can go down without being missed.
//! Names end as they began. A queen that dies in the middle leaves the step in the store, and the next one goes on.

use serde::{Deserialize, Serialize};

/// A rolling restart of one worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rolling {
    /// The order that asked for it.
    pub number: u64,
    /// Replicas when it began; the surge replica has this number.
    pub replicas: u32,
    /// What the replicas kept is dropped.
    pub clean: bool,
    /// How far it is.
    pub step: Step,
}

/// How far a rolling restart is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// The surge replica is being started.
    Surge,
    /// This replica gets nothing new and finishes what it has.
    Drain(u32),
    /// This replica is being restarted.
    Restart(u32),
    /// The surge replica finishes what it has.
    Retire,
    /// It is over.
    Ended {
        /// Why, where that was not in order.
        why: Option<String>,
    },
}

/// What is seen of one replica.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// It shall run.
    pub wanted: bool,
    /// It runs, is ready, and has carried out the newest restart ordered.
    pub ready: bool,
    /// It does not run, and nothing happens by itself: why.
    pub down: Option<String>,
    /// Nothing is in flight there, or it has had the time it gets.
    pub drained: bool,
}

impl Rolling {
    /// One that begins.
    #[must_use]
    pub const fn new(number: u64, replicas: u32, clean: bool) -> Self {
        Self { number, replicas, clean, step: Step::Surge }
    }

    /// Whether it goes on.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        !matches!(self.step, Step::Ended { .. })
    }

    /// Whether this replica gets no new work because of it.
    #[must_use]
    pub fn drains(&self, replica: u32) -> bool {
        match self.step {
            Step::Drain(at) | Step::Restart(at) => at == replica,
            Step::Retire => replica == self.replicas,
            Step::Surge | Step::Ended { .. } => false,
        }
    }

    /// The step that comes now, if one does.
    #[must_use]
    pub fn next(&self, seen: impl Fn(u32) -> Seen) -> Option<Step> {
        match &self.step {
            Step::Surge => {
                let surge = seen(self.replicas);
                match surge.down {
                    Some(why) => Some(Step::Ended { why: Some(why) }),
                    None => surge.ready.then(|| self.drain_from(0, seen)),
                }
            }
            Step::Drain(at) => {
                let replica = seen(*at);
                match replica.wanted {
                    false => Some(self.drain_from(at + 1, seen)),
                    true => replica.drained.then_some(Step::Restart(*at)),
                }
            }
            Step::Restart(at) => {
                let replica = seen(*at);
                (replica.ready || !replica.wanted).then(|| self.drain_from(at + 1, seen))
            }
            Step::Retire => seen(self.replicas).drained.then_some(Step::Ended { why: None }),
            Step::Ended { .. } => None,
        }
    }

    /// The next replica that runs, from `first` on; after the last one the surge replica goes.
    fn drain_from(&self, first: u32, seen: impl Fn(u32) -> Seen) -> Step {
        (first..self.replicas).find(|at| seen(*at).wanted).map_or(Step::Retire, Step::Drain)
    }

    /// What it waits for, for people.
    #[must_use]
    pub fn waits_for(&self, name: &str) -> String {
        let surge = self.replicas;
        match &self.step {
            Step::Surge => format!("{name}/{surge}, which stands in for the others, is being started"),
            Step::Drain(at) => format!("{name}/{at} finishes what it has in flight"),
            Step::Restart(at) => format!("{name}/{at} is being restarted"),
            Step::Retire => format!("{name}/{surge}, which stood in for the others, finishes what it has in flight"),
            Step::Ended { .. } => "it is over".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn up() -> Seen {
        Seen { wanted: true, ready: true, down: None, drained: true }
    }

    /// QUEEN-20
    #[test]
    fn table() {
        use Step::{Drain, Ended, Restart, Retire, Surge};
        let busy = || Seen { drained: false, ..up() };
        let coming = || Seen { ready: false, ..up() };
        let fallen = || Seen { ready: false, down: Some("no memory".into()), ..up() };
        let stopped = || Seen { wanted: false, ready: false, ..up() };
        let over = |why: Option<&str>| Ended { why: why.map(str::to_owned) };
        // Two replicas, 0 and 1; 2 stands in.
        let cases: [(&str, Step, [Seen; 3], Option<Step>); 17] = [
            ("the stand-in is not up yet", Surge, [up(), up(), coming()], None),
            ("it is", Surge, [up(), up(), up()], Some(Drain(0))),
            ("it cannot", Surge, [up(), up(), fallen()], Some(over(Some("no memory")))),
            ("replica 0 is stopped and stays so", Surge, [stopped(), up(), up()], Some(Drain(1))),
            ("nothing runs any more", Surge, [stopped(), stopped(), up()], Some(Retire)),
            ("0 has work", Drain(0), [busy(), up(), up()], None),
            ("0 has none", Drain(0), [up(), busy(), up()], Some(Restart(0))),
            ("0 was stopped meanwhile", Drain(0), [stopped(), up(), up()], Some(Drain(1))),
            ("0 fell while it was drained", Drain(0), [fallen(), up(), up()], Some(Restart(0))),
            ("0 is on its way", Restart(0), [coming(), up(), up()], None),
            ("0 does not come up: nothing else is touched", Restart(0), [fallen(), up(), up()], None),
            ("0 is up", Restart(0), [up(), up(), up()], Some(Drain(1))),
            ("0 was stopped instead", Restart(0), [stopped(), up(), up()], Some(Drain(1))),
            ("1 is the last", Restart(1), [up(), up(), up()], Some(Retire)),
            ("the stand-in has work", Retire, [up(), up(), busy()], None),
            ("it has none", Retire, [up(), up(), up()], Some(over(None))),
            ("what is over stays over", over(None), [up(), up(), up()], None),
        ];
        for (what, step, seen, expected) in cases {
            let rolling = Rolling { step, ..Rolling::new(7, 2, false) };
            assert_eq!(rolling.next(|replica| seen[replica as usize].clone()), expected, "{what}");
        }
    }

    #[test]
    fn what_is_drained_is_what_the_step_says() {
        let drained = |step| {
            let rolling = Rolling { step, ..Rolling::new(7, 2, false) };
            (0..3).map(|replica| rolling.drains(replica)).collect::<Vec<_>>()
        };
        assert_eq!(drained(Step::Surge), [false; 3]);
        assert_eq!(drained(Step::Drain(1)), [false, true, false]);
        assert_eq!(drained(Step::Restart(0)), [true, false, false]);
        assert_eq!(drained(Step::Retire), [false, false, true]);
    }

    /// A little world: replicas come up, get work, finish it, fall; the rolling restart takes its steps.
    #[derive(Debug, Clone)]
    struct World {
        rolling: Rolling,
        up: Vec<bool>,
        busy: Vec<bool>,
        restarted: Vec<u32>,
    }

    impl World {
        fn new(replicas: u32) -> Self {
            let count = replicas as usize;
            let mut up = vec![true; count];
            up.push(false);
            let rolling = Rolling::new(1, replicas, false);
            Self { rolling, up, busy: vec![false; count + 1], restarted: vec![0; count] }
        }

        fn step(&mut self) -> bool {
            let seen = |replica: u32| {
                let (up, busy) = (self.up[replica as usize], self.busy[replica as usize]);
                Seen { wanted: true, ready: up, down: None, drained: !busy }
            };
            let Some(next) = self.rolling.next(seen) else { return false };
            if let Step::Restart(at) = next {
                // Carried out by its hive: down now, up by an event of its own.
                self.up[at as usize] = false;
                self.restarted[at as usize] += 1;
            }
            self.rolling.step = next;
            true
        }

        fn serving(&self) -> usize {
            let there = 0..=self.rolling.replicas;
            let surge_gone = !self.rolling.is_active();
            let there = there.filter(|replica| !(surge_gone && *replica == self.rolling.replicas));
            there.filter(|replica| self.up[*replica as usize] && !self.rolling.drains(*replica)).count()
        }
    }

    proptest! {
        /// QUEEN-20 QUEEN-21
        #[test]
        fn as_many_serve_as_before_and_each_is_restarted_once(
            replicas in 1u32..6, events in prop::collection::vec((0u8..3, 0u32..6), 0..60),
        ) {
            let mut world = World::new(replicas);
            let mut last = world.clone();
            for (what, which) in events.into_iter().chain((0..200).map(|n| (0, n % (replicas + 1))))  {
                let which = (which % (replicas + 1)) as usize;
                match what {
                    0 => {
                        world.up[which] = true;
                        world.busy[which] = false;
                    }
                    // Work goes only to who serves.
                    1 if world.up[which] && !world.rolling.drains(u32::try_from(which).unwrap()) => world.busy[which] = true,
                    // A queen that died: what she knew is what the store has.
                    _ => world.rolling = serde_json::from_str(&serde_json::to_string(&world.rolling).unwrap()).unwrap(),
                }
                while world.step() {
                    prop_assert!(world.serving() >= replicas as usize, "{:?} after {:?}", world, last);
                    prop_assert!(world.restarted.iter().all(|times| *times <= 1), "{:?}", world);
                }
                last = world.clone();
            }
            prop_assert_eq!(&world.rolling.step, &Step::Ended { why: None });
            prop_assert!(world.restarted.iter().all(|times| *times == 1), "{:?}", world);
        }
    }
}
