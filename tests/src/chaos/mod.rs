//! Chaos: a hive alone with unruly work below it, killed with SIGKILL at random moments, again and again.
//!
//! ```text
//!   start hive ──▶ [ready] ──▶ look: pids, files, orphans ──▶ [a verb] ──▶ [a pause] ──▶ SIGKILL ──▶ look: nobody twice ─┐
//!        ▲            └── killed before that, now and then ──────────────────────────────▲                               │
//!        └───────────────────────────────────────────────────────────────────────────────────────────────────────────────┘
//!   at the end: a stop in order leaves nothing, and every line that was ever written stands in the logs once
//! ```
//!
//! All that is random comes from the seed; what the machine does beside it does not, so a seed repeats the moments, not the world.

mod hive;
mod lines;
mod look;
mod work;

use std::collections::BTreeMap;
use std::path::Path;
use std::thread;

use anyhow::{Context, Result, ensure};

use crate::home::Home;
use crate::processes;
use crate::random::Random;
use hive::Hive;
use look::{Look, Steady};

/// How long the hive is killed after its start at most where it shall not get ready.
const BEFORE_READY_US: u64 = 40_000;
/// How long it is left alone at most after it got ready.
const AFTER_READY_US: u64 = 150_000;
/// Lines are counted at the end, and after every so many kills, so that a fault is seen near its cause.
const COUNT_EVERY: u32 = 50;

/// How much chaos.
#[derive(Debug, Clone, Copy)]
pub struct Chaos {
    /// How often the hive is killed.
    pub kills: u32,
    /// Of all that is random.
    pub seed: u64,
}

/// What was gone through without a fault.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Survived {
    /// Kills after the hive was ready.
    pub kills_ready: u32,
    /// Kills while it was starting.
    pub kills_starting: u32,
    /// Runs of the work that ends by itself or is killed by the hive.
    pub runs: usize,
    /// Lines that were counted.
    pub lines: usize,
}

impl Chaos {
    /// Goes through it in a home of its own.
    ///
    /// # Errors
    /// The first thing that is not as it must be.
    pub fn run(self) -> Result<Survived> {
        let home = Home::empty();
        let done = self.in_home(&home);
        done.with_context(|| format!("the seed is {}; the hive's last words:\n{}", self.seed, hive::last_words(&home)))
    }

    fn in_home(self, home: &Home) -> Result<Survived> {
        work::configure(home)?;
        let look = Look::new(home);
        let mut random = Random::new(self.seed);
        let mut survived = Survived::default();
        let steady = first_life(home, &look)?;
        for kill in 1..=self.kills {
            let at = || format!("at kill {kill} of {}", self.kills);
            if random.one_in(4) {
                let hive = Hive::start(home)?;
                thread::park_timeout(random.up_to(BEFORE_READY_US));
                hive.kill()?;
                survived.kills_starting += 1;
            } else {
                let mut hive = Hive::start(home)?;
                hive.wait_ready().with_context(at)?;
                look.right_after_ready(&steady).with_context(at)?;
                if random.one_in(2) {
                    hive.tell(work::TOGGLED, random.pick(&["stop", "start", "restart"]));
                }
                if random.one_in(8) {
                    look.settles(&steady).with_context(at)?;
                }
                thread::park_timeout(random.up_to(AFTER_READY_US));
                hive.kill()?;
                survived.kills_ready += 1;
            }
            look.nobody_twice().with_context(at)?;
            if kill % COUNT_EVERY == 0 {
                lines::count(home, false).with_context(at)?;
            }
        }
        last_life(home, &look, &steady)?;
        survived.lines = lines::count(home, true)?;
        survived.runs = look.runs();
        Ok(survived)
    }
}

/// Starts everything; the processes that must be the same at the end.
fn first_life(home: &Home, look: &Look<'_>) -> Result<Steady> {
    let mut hive = Hive::start(home)?;
    hive.wait_ready()?;
    let steady = look.steady()?;
    hive.kill()?;
    Ok(steady)
}

/// Everything is as it was, and a stop in order leaves nothing.
fn last_life(home: &Home, look: &Look<'_>, steady: &Steady) -> Result<()> {
    let mut hive = Hive::start(home)?;
    hive.wait_ready()?;
    look.right_after_ready(steady)?;
    look.settles(steady)?;
    hive.stop()?;
    look.nobody_twice()?;
    let left = home.processes();
    ensure!(left.is_empty(), "left after a stop: {left:?}");
    let files = home.run_files();
    ensure!(files.is_empty(), "files left after a stop: {files:?}");
    Ok(())
}

/// The variable of a process's environment.
fn variable(pid: u32, name: &str) -> Option<String> {
    let environment = std::fs::read(Path::new("/proc").join(pid.to_string()).join("environ")).ok()?;
    let prefix = format!("{name}=");
    let mut variables = environment.split(|byte| *byte == 0);
    let found = variables.find_map(|variable| variable.strip_prefix(prefix.as_bytes()))?;
    Some(String::from_utf8_lossy(found).into_owned())
}

/// Live processes of a home by the mark of their run, without the hive itself.
fn marked(home: &Home) -> BTreeMap<u32, String> {
    let found = processes::of_home(home.path()).into_iter();
    found.filter_map(|process| Some((process.pid, variable(process.pid, "RBEE_RUN_ID")?))).collect()
}
