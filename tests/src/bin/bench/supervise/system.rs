//! What is measured: a supervisor, how it is told what to run, and how it is asked things.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use rbee_tests::processes;
use rustix::process::Signal;

use super::scene::Scene;

/// What every system is told to supervise.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many children.
    pub count: usize,
    /// How long a child may take to end after SIGTERM.
    pub stop_timeout_ms: u64,
    /// What the children do.
    pub mode: Vec<String>,
    /// Whether the bare loop, too, captures what they write.
    pub capture: bool,
}

impl Plan {
    pub fn new(count: usize, mode: &[&str]) -> Self {
        let mode = mode.iter().map(|word| (*word).to_owned()).collect();
        Self { count, stop_timeout_ms: 10_000, mode, capture: false }
    }

    /// The command line of one child.
    pub fn words(&self, scene: &Scene, index: usize) -> Vec<String> {
        let mut words =
            vec![scene.child.display().to_string(), scene.ear.path.display().to_string(), index.to_string()];
        words.extend(self.mode.iter().cloned());
        words
    }
}

/// A supervisor under measurement.
pub trait System {
    fn name(&self) -> &'static str;

    /// What is missing on this machine, if anything.
    fn missing(&self) -> Option<String> {
        None
    }

    /// Writes its configuration.
    fn prepare(&self, scene: &Scene, plan: &Plan) -> Result<()>;

    /// Its command, which starts everything.
    fn command(&self, scene: &Scene, plan: &Plan) -> Command;

    /// Asks it to stop everything and itself. Returns without waiting.
    fn stop(&self, scene: &mut Scene, _plan: &Plan) -> Result<()> {
        processes::send(scene.first()?, Signal::TERM);
        Ok(())
    }

    /// Asks how all children are; how many of them run. `None`: it cannot be asked.
    fn status(&self, _scene: &Scene, _plan: &Plan) -> Option<Result<usize>> {
        None
    }

    /// Where one child's output is.
    fn log_folder(&self, scene: &Scene, index: usize) -> PathBuf;

    /// Whether a file there is part of that child's log.
    fn is_log(&self, name: &str, index: usize) -> bool;
}

/// The first of that name on PATH.
pub fn on_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Says which of these programs is not on PATH.
pub fn missing(programs: &[&str]) -> Option<String> {
    let missing: Vec<&str> = programs.iter().copied().filter(|program| on_path(program).is_none()).collect();
    (!missing.is_empty()).then(|| format!("{} is not installed", missing.join(", ")))
}
