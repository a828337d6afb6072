//! A command that ends what a run had outside of its own processes, such as a container.
//!
//! ```text
//! main process ended ─▶ rest of its tree killed ─▶ this command, for a bounded time ─▶ files removed ─▶ the end is reported
//! ```
//!
//! Until its files are removed a run is not buried: a supervisor that dies in between leaves this to the next one.

use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use supervision::ExitHow;

use crate::launch::Launch;
use crate::process::{ExitWatch, Output, readable_until};
use crate::question::Question;

/// A command for the end of every run, however that ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AfterExit {
    /// The program and its arguments, without a shell. It may find nothing to do, and then succeeds.
    pub command: Vec<String>,
    /// It is killed when it takes longer.
    pub timeout_ms: u64,
}

/// Such a command at work; dropped, it is killed.
#[derive(Debug)]
pub(crate) struct Ending {
    question: Question,
    program: String,
    timeout_ms: u64,
    until: Instant,
}

impl AfterExit {
    /// What keeps it from being run, if anything.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        if self.command.first().is_none_or(String::is_empty) {
            Some("what is run after its end has no program")
        } else if self.timeout_ms == 0 {
            Some("what is run after its end has no time for it")
        } else {
            None
        }
    }

    /// Starts it. Blocks until it executes its program.
    ///
    /// # Errors
    /// Why it could not be started, in one line.
    pub(crate) fn begin(&self, unit: &str, stdout: Output<'_>, stderr: Output<'_>) -> Result<Ending, String> {
        let (program, args) = self.command.split_first().ok_or("it has no program")?;
        let question = Question::ask(&Launch::new(program, args), &format!("after {unit}"), stdout, stderr)?;
        let until = Instant::now() + Duration::from_millis(self.timeout_ms);
        Ok(Ending { question, program: program.clone(), timeout_ms: self.timeout_ms, until })
    }
}

impl Ending {
    /// Waits for its end, in a task.
    ///
    /// # Errors
    /// Why it did not do what it was to do, in one line.
    pub(crate) async fn ended(self) -> Result<(), String> {
        let watch = ExitWatch::new(&self.question.0).map_err(|error| error.to_string())?;
        match tokio::time::timeout_at(self.until.into(), watch.ended()).await {
            Ok(ended) => ended.map_err(|error| error.to_string())?,
            Err(_) => return Err(self.too_late()),
        }
        self.verdict()
    }

    /// The same, in a thread.
    pub(crate) fn wait(self) -> Result<(), String> {
        let ended = readable_until(&[self.question.0.as_fd()], Some(self.until)).map_err(|error| error.to_string())?;
        if ended == [true] { self.verdict() } else { Err(self.too_late()) }
    }

    fn verdict(&self) -> Result<(), String> {
        match self.question.0.exit_how() {
            ExitHow::Code(0) => Ok(()),
            how => Err(format!("{} ended with {how}", self.program)),
        }
    }

    fn too_late(&self) -> String {
        format!("{} was not done within {} ms", self.program, self.timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(command: &[&str], timeout_ms: u64) -> Result<(), String> {
        let command = command.iter().map(|word| (*word).to_owned()).collect();
        let null = std::fs::File::options().write(true).open("/dev/null").unwrap();
        let output = Output::Fd(null.as_fd());
        AfterExit { command, timeout_ms }.begin("a.0", output, output)?.wait()
    }

    /// CONT-10
    #[test]
    fn it_succeeds_fails_or_runs_out_of_time_in_words() {
        assert_eq!(run(&["/bin/true"], 20_000), Ok(()));
        assert_eq!(run(&["/bin/false"], 20_000), Err("/bin/false ended with exit code 1".to_owned()));
        assert_eq!(run(&["/bin/sleep", "1000"], 1), Err("/bin/sleep was not done within 1 ms".to_owned()));
        assert!(run(&["/bin/none"], 20_000).unwrap_err().contains("does not exist"));
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        let of = |program: &str, timeout_ms| AfterExit { command: vec![program.to_owned()], timeout_ms }.problem();
        assert!(of("", 1).is_some() && of("x", 0).is_some() && of("x", 1).is_none());
        assert!(AfterExit { command: Vec::new(), timeout_ms: 1 }.problem().is_some());
    }
}
