//! `hive upgrade`: this process becomes the new binary, with the same pid and the same children.
//!
//! ```text
//!   asked ─▶ self-check of the new binary ─┬─ fails ─▶ told, and nothing has changed
//!                                          └─ passes ─▶ workers left ─▶ API drained ─▶ exec ─▶ workers adopted
//!                                                                                       └─ fails ─▶ exec of the old binary
//! ```
//!
//! Level-triggered, as everything between queen and hive is: an upgrade has a number, and a hive that has come to it, or was
//! started since, does not do it again.

use std::ffi::OsString;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use daemon_lifecycle::{ExitHow, HANDOVER_VARIABLE, Launch, replace_self, try_out};
use rbee_api::HiveUpgrade;
use rbee_runtime::error_chain;
use rbee_runtime::self_check::{self, CHECK_TIMEOUT, OWN_BINARY, Refusal, SAID_BYTES_MAX, SelfCheck, judge_file};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

/// Name of the hive's program.
const PROGRAM: &str = "rbee-hive";

/// How this process was started.
#[derive(Debug, Clone)]
pub struct Relaunch {
    /// Where the running binary stood at the start.
    pub program: PathBuf,
    /// What it was started with.
    pub args: Vec<OsString>,
}

/// Wishes for upgrades, and what came of the last; clones share it.
#[derive(Debug, Clone)]
pub struct Upgrades {
    done: watch::Sender<Option<HiveUpgrade>>,
    asks: mpsc::Sender<u64>,
}

/// What the process before the exec tells the one after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Handover {
    generation: u64,
    error: Option<String>,
}

impl Upgrades {
    /// And where the wishes arrive. `word`: what the environment says of an upgrade that made us.
    #[must_use]
    pub fn new(word: Option<&str>) -> (Self, mpsc::Receiver<u64>) {
        let handover: Option<Handover> = word.and_then(|word| serde_json::from_str(word).ok());
        let done = handover.map(|Handover { generation, error }| upgrade(generation, error));
        let (asks, wishes) = mpsc::channel(1);
        (Self { done: watch::Sender::new(done), asks }, wishes)
    }

    /// What came of the last upgrade this process has come to.
    #[must_use]
    pub fn last(&self) -> Option<HiveUpgrade> {
        self.done.borrow().clone()
    }

    /// And every change of it.
    #[must_use]
    pub fn outcomes(&self) -> watch::Receiver<Option<HiveUpgrade>> {
        self.done.subscribe()
    }

    /// Queen wants the upgrade of this number. The first number that a process hears of is its own: it runs what is there.
    pub fn wanted(&self, generation: u64) {
        match self.last().map(|last| last.generation) {
            None => drop(self.done.send_replace(Some(upgrade(generation, None)))),
            Some(done) if generation > done => self.ask(generation),
            Some(_) => {}
        }
    }

    /// Wants one more upgrade, whatever was before; its number.
    #[must_use]
    pub fn one_more(&self) -> u64 {
        let next = self.last().map_or(0, |last| last.generation) + 1;
        self.ask(next);
        next
    }

    fn ask(&self, generation: u64) {
        // A full queue means that one is under way; it is the same binary.
        let _ = self.asks.try_send(generation);
    }

    /// This one has failed; all is as before.
    pub fn failed(&self, generation: u64, error: String) {
        tracing::error!(generation, error, "upgrade: failed; this hive goes on");
        self.done.send_replace(Some(upgrade(generation, Some(error))));
    }
}

fn upgrade(generation: u64, error: Option<String>) -> HiveUpgrade {
    HiveUpgrade { generation, version: env!("CARGO_PKG_VERSION").to_owned(), error }
}

/// Lets the binary that stands now where ours stood show what it is.
///
/// # Errors
/// Why it is not executed.
pub async fn check(relaunch: &Relaunch) -> Result<SelfCheck, String> {
    let program = &relaunch.program;
    judge_file(program, Path::new(OWN_BINARY)).map_err(|refusal| refusal.to_string())?;
    let launch = Launch::new(program, self_check::arguments(&relaunch.args));
    let said = try_out(&launch, CHECK_TIMEOUT, SAID_BYTES_MAX).await;
    let failed = |error| format!("does not pass its self-check: {}", error_chain(&error));
    let said = said.map_err(|error| Refusal::new(program, failed(error)).to_string())?;
    let (ended_well, how) = (said.how == ExitHow::Code(0), said.how.to_string());
    let judged = SelfCheck::judge(program, PROGRAM, ended_well, &how, &said.stdout, &said.stderr);
    judged.map_err(|refusal| refusal.to_string())
}

/// All that is needed to become the new binary, when nothing else of this process is needed any more.
#[derive(Debug)]
pub struct Replacement {
    /// How we were started.
    pub relaunch: Relaunch,
    /// Which upgrade it is.
    pub generation: u64,
    /// Our listening socket.
    pub socket: OwnedFd,
}

impl Replacement {
    /// Becomes it; returns only where neither the new nor the old binary can be executed.
    #[must_use]
    pub fn carry_out(&self) -> std::io::Error {
        let word = |error: Option<&str>| {
            let handover = Handover { generation: self.generation, error: error.map(str::to_owned) };
            serde_json::to_string(&handover).unwrap_or_default()
        };
        let new = (self.relaunch.program.as_path(), word(None));
        let old = (Path::new(OWN_BINARY), word(Some("the new binary could not be executed")));
        replace_self(&[new, old], HANDOVER_VARIABLE, &self.relaunch.args, &[self.socket.as_fd()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generations(upgrades: &Upgrades, wishes: &mut mpsc::Receiver<u64>) -> (Option<u64>, Option<u64>) {
        (upgrades.last().map(|last| last.generation), wishes.try_recv().ok())
    }

    /// UPGR-08
    #[test]
    fn each_number_is_come_to_once() {
        let (upgrades, mut wishes) = Upgrades::new(None);
        upgrades.wanted(5);
        assert_eq!(generations(&upgrades, &mut wishes), (Some(5), None), "it was started since");
        upgrades.wanted(5);
        upgrades.wanted(4);
        assert_eq!(generations(&upgrades, &mut wishes), (Some(5), None));
        upgrades.wanted(6);
        assert_eq!(generations(&upgrades, &mut wishes), (Some(5), Some(6)));
        upgrades.failed(6, "no".into());
        upgrades.wanted(6);
        assert_eq!(generations(&upgrades, &mut wishes), (Some(6), None), "not tried again by itself");
        assert_eq!(upgrades.one_more(), 7);
        assert_eq!(generations(&upgrades, &mut wishes), (Some(6), Some(7)));

        let word = serde_json::to_string(&Handover { generation: 9, error: None }).unwrap();
        let (upgrades, mut wishes) = Upgrades::new(Some(&word));
        upgrades.wanted(9);
        assert_eq!(generations(&upgrades, &mut wishes), (Some(9), None), "this process is what came of it");
        upgrades.wanted(10);
        assert_eq!(generations(&upgrades, &mut wishes), (Some(9), Some(10)));
        assert_eq!(Upgrades::new(Some("nonsense")).0.last(), None);
    }
}
