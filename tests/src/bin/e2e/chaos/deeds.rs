//! What is done to the chain beside the killing: one deed after the other is begun, in turn, with pauses from the seed. Those
//! that take long go on beside the next ones; none is begun twice at a time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rbee_tests::home::Home;
use rbee_tests::processes;
use rbee_tests::random::Random;
use rbee_tests::{home, model};
use rustix::process::Signal;
use serde_json::Value;

/// Why a verb failed, as far as a table has room for it.
const REASON_CHARS_MAX: usize = 140;

/// One kind of deed.
struct Deed {
    name: &'static str,
    act: Act,
}

enum Act {
    Freeze,
    KillHive,
    /// Words for keeper, one command after the other.
    Keeper(&'static [&'static [&'static str]]),
}

const DEEDS: [Deed; 8] = [
    Deed { name: "SIGSTOP to a worker", act: Act::Freeze },
    Deed { name: "SIGKILL to the hive", act: Act::KillHive },
    Deed { name: "queen reload", act: Act::Keeper(&[&["queen", "reload"]]) },
    Deed { name: "worker restart --rolling", act: Act::Keeper(&[&["worker", "restart", model::NAME, "--rolling"]]) },
    Deed { name: "queen upgrade", act: Act::Keeper(&[&["queen", "upgrade"]]) },
    Deed {
        name: "hive drain, undrain",
        act: Act::Keeper(&[&["hive", "drain", "local"], &["hive", "undrain", "local"]]),
    },
    Deed { name: "hive upgrade", act: Act::Keeper(&[&["hive", "upgrade", "local"]]) },
    Deed { name: "worker restart NAME/1", act: Act::Keeper(&[&["worker", "restart", "smollm2/1"]]) },
];

/// How often a deed was done, and how it failed.
#[derive(Default)]
pub struct Done {
    pub name: &'static str,
    pub times: u32,
    pub failed: Vec<String>,
    /// This keeper cannot do it.
    pub missing: Option<String>,
}

impl Done {
    fn of(deed: &Deed) -> Self {
        Self { name: deed.name, ..Self::default() }
    }
}

pub struct Deeds<'h> {
    home: &'h Home,
    random: Random,
    /// Between two deeds, at least.
    pause: Duration,
}

impl<'h> Deeds<'h> {
    /// Each has its turn about twice in so long.
    pub fn new(home: &'h Home, random: Random, time: Duration) -> Self {
        Self { home, random, pause: time / 20 }
    }

    /// One after the other until it is over, and the last of them is done.
    pub fn until(mut self, over: &AtomicBool) -> Vec<Done> {
        let done: Vec<Mutex<Done>> =
            DEEDS.iter().map(|deed| Mutex::new(Done { missing: self.missing(deed), ..Done::of(deed) })).collect();
        thread::scope(|scope| {
            for at in (0..DEEDS.len()).cycle() {
                let more_us = u64::try_from(self.pause.as_micros() / 2).unwrap_or(0);
                let until = Instant::now() + self.pause + self.random.up_to(more_us);
                // Each deed that is done wakes us.
                while Instant::now() < until {
                    thread::park_timeout(until.saturating_duration_since(Instant::now()));
                }
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let (home, done, draw) = (self.home, &done[at], self.random.draw());
                scope.spawn(move || {
                    // Held by the one before as long as it lasts.
                    let Ok(mut done) = done.try_lock() else { return };
                    if done.missing.is_none() {
                        let result = act(home, &DEEDS[at].act, draw);
                        done.times += 1;
                        done.failed.extend(result.err());
                    }
                });
            }
        });
        done.into_iter().filter_map(|done| done.into_inner().ok()).collect()
    }

    /// What a keeper without the verb says of it.
    fn missing(&self, deed: &Deed) -> Option<String> {
        let Act::Keeper(commands) = &deed.act else { return None };
        let words = commands.first()?;
        let output = self.home.keeper(words).arg("--help").output().ok()?;
        (!output.status.success()).then(|| format!("rbee-keeper has no `{}`", words.join(" ")))
    }
}

/// `draw`: chooses among several.
fn act(home: &Home, act: &Act, draw: u64) -> Result<(), String> {
    match act {
        Act::Freeze => send_to_one(home, draw, Signal::STOP).then_some(()).ok_or_else(nobody),
        Act::KillHive => {
            let hives = pids_of(home, "rbee-hive");
            let killed = hives.first().is_some_and(|pid| processes::send(*pid, Signal::KILL));
            killed.then_some(()).ok_or_else(nobody)
        }
        Act::Keeper(commands) => commands.iter().try_for_each(|words| keeper(home, words)),
    }
}

fn keeper(home: &Home, words: &[&str]) -> Result<(), String> {
    let output = home.keeper(words).arg("--json").output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(());
    }
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let message = said["error"]["message"].as_str().unwrap_or("no document");
    let reason: String = message.chars().take(REASON_CHARS_MAX).collect();
    Err(format!("{} ({reason})", output.status))
}

fn nobody() -> String {
    "nobody was there".to_owned()
}

/// SIGKILL to one worker; false when none ran.
pub fn kill_a_worker(home: &Home, random: &mut Random) -> bool {
    send_to_one(home, random.draw(), Signal::KILL)
}

fn send_to_one(home: &Home, draw: u64, signal: Signal) -> bool {
    let workers = pids_of(home, "llm-worker-rbee");
    let count = u64::try_from(workers.len()).unwrap_or(0);
    let victim = usize::try_from(draw % count.max(1)).unwrap_or(0);
    workers.get(victim).is_some_and(|pid| processes::send(*pid, signal))
}

/// Processes of a program of ours. Found in the process table: the status knows only those that queen knows.
fn pids_of(home: &Home, program: &str) -> Vec<u32> {
    let path = home::binary(program).display().to_string();
    let all = home.processes().into_iter();
    all.filter(|process| process.command.split(' ').next() == Some(&path)).map(|process| process.pid).collect()
}
