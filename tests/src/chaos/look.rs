//! Looking from outside, by `/proc` and the files, at what the hive and its work are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::home::Home;
use crate::processes;

use super::{marked, work};

const SETTLES_WITHIN: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The processes of steady workers: the same from the first to the last moment.
pub type Steady = BTreeMap<&'static str, u32>;

pub struct Look<'h> {
    home: &'h Home,
}

impl<'h> Look<'h> {
    pub const fn new(home: &'h Home) -> Self {
        Self { home }
    }

    /// Waits until every steady worker has begun, and its files say so.
    pub fn steady(&self) -> Result<Steady> {
        let begun = Instant::now();
        loop {
            let found: Steady =
                work::STEADY.iter().filter_map(|name| Some((*name, *self.begun(name).first()?))).collect();
            let is_whole =
                found.len() == work::STEADY.len() && found.iter().all(|(name, pid)| self.recorded(name) == Ok(*pid));
            if is_whole && self.is_ready("depends") {
                return Ok(found);
            }
            ensure!(begun.elapsed() < SETTLES_WITHIN, "the steady workers have not begun: {found:?}");
            thread::park_timeout(LOOK_EVERY);
        }
    }

    /// What must hold at the very moment a hive says that it is ready.
    pub fn right_after_ready(&self, steady: &Steady) -> Result<()> {
        self.nobody_twice()?;
        for (name, pid) in steady {
            ensure!(processes::is_alive(*pid), "{name} is lost: process {pid} is gone");
            match self.recorded(name) {
                Ok(recorded) => ensure!(recorded == *pid, "{name} is process {pid}, its files say {recorded}"),
                Err(problem) => anyhow::bail!("{name}: {problem}"),
            }
            let begun = self.begun(name);
            ensure!(begun == [*pid], "{name} was started again: {begun:?}");
        }
        Ok(())
    }

    /// What must come true soon: no process is nobody's, and the restless ones have files that tell the truth.
    pub fn settles(&self, steady: &Steady) -> Result<()> {
        let begun = Instant::now();
        let mut strangers = self.strangers();
        let mut wrong: BTreeSet<&str> = work::RESTLESS.into_iter().collect();
        loop {
            self.nobody_twice()?;
            strangers = strangers.intersection(&self.strangers()).copied().collect();
            wrong.retain(|name| !self.is_true(name));
            if strangers.is_empty() && wrong.is_empty() {
                break;
            }
            let late = begun.elapsed() > SETTLES_WITHIN;
            ensure!(!late, "orphans: {:?}; files that are wrong: {:?}", self.tell(&strangers), self.tell_files(&wrong));
            thread::park_timeout(LOOK_EVERY);
        }
        self.right_after_ready(steady)
    }

    /// No worker ever has two main processes.
    pub fn nobody_twice(&self) -> Result<()> {
        for name in work::all() {
            let alive = self.alive(name);
            ensure!(alive.len() <= 1, "{name} runs more than once: {alive:?}");
        }
        Ok(())
    }

    /// How many processes there have been in all.
    pub fn runs(&self) -> usize {
        work::all().map(|name| self.begun(name).len()).sum()
    }

    /// Every process that ever began as this worker.
    fn begun(&self, name: &str) -> Vec<u32> {
        let text = fs::read_to_string(self.home.path().join("counts").join(name)).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    fn alive(&self, name: &str) -> Vec<u32> {
        let is_its = |pid: u32| {
            // A number may have become another's since.
            let mark = super::variable(pid, "RBEE_RUN_ID").unwrap_or_default();
            mark.starts_with(&format!("{name}.0:")) && processes::is_alive(pid)
        };
        let begun: BTreeSet<u32> = self.begun(name).into_iter().collect();
        begun.into_iter().filter(|pid| processes::is_alive(*pid) && is_its(*pid)).collect()
    }

    fn file(&self, name: &str, extension: &str) -> PathBuf {
        self.home.path().join(format!("run/workers/{name}.0.{extension}"))
    }

    fn state(&self, name: &str) -> Result<Value> {
        let path = self.file(name, "state");
        let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} is no state", path.display()))
    }

    /// The process that PID file and state file name, both the same.
    fn recorded(&self, name: &str) -> Result<u32, String> {
        let text = fs::read_to_string(self.file(name, "pid")).map_err(|error| format!("no PID file: {error}"))?;
        let pid = text.trim().parse::<u32>().map_err(|_| format!("its PID file says {text:?}"))?;
        let state = self.state(name).map_err(|error| format!("{error:#}"))?;
        match state["process"]["pid"].as_u64() {
            Some(recorded) if recorded == u64::from(pid) => Ok(pid),
            other => Err(format!("its PID file says {pid}, its state file {other:?}")),
        }
    }

    fn is_ready(&self, name: &str) -> bool {
        self.state(name).is_ok_and(|state| state["stage"].to_string().to_lowercase().contains("ready"))
    }

    /// Whether a worker's files and its processes agree, at this moment.
    fn is_true(&self, name: &str) -> bool {
        let alive = self.alive(name);
        match self.recorded(name) {
            Ok(pid) => alive == [pid],
            Err(_) => alive.is_empty() && !self.file(name, "pid").exists() && !self.file(name, "state").exists(),
        }
    }

    /// Processes of runs that no state file knows.
    fn strangers(&self) -> BTreeSet<u32> {
        let known: BTreeSet<String> =
            work::all().filter_map(|name| Some(self.state(name).ok()?["run_id"].as_str()?.to_owned())).collect();
        marked(self.home).into_iter().filter(|(_, mark)| !known.contains(mark)).map(|(pid, _)| pid).collect()
    }

    fn tell(&self, pids: &BTreeSet<u32>) -> Vec<String> {
        let all = self.home.processes();
        let told = all.iter().filter(|process| pids.contains(&process.pid));
        told.map(|process| format!("{} {}", process.pid, process.command)).collect()
    }

    fn tell_files(&self, names: &BTreeSet<&str>) -> Vec<String> {
        names
            .iter()
            .map(|name| format!("{name}: alive {:?}, recorded {:?}", self.alive(name), self.recorded(name)))
            .collect()
    }
}
