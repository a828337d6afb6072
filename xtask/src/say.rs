//! All that xtask itself prints. Progress goes to stderr: one line that is redrawn on a terminal, else a line now and then.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool speaks here and nowhere else")]

use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

/// Nothing is shown for steps that are quicker.
const QUIET_FOR: Duration = Duration::from_secs(2);
const REDRAW_EVERY: Duration = Duration::from_millis(200);
const LINE_EVERY: Duration = Duration::from_secs(15);
const LINE_WIDTH_MAX: usize = 100;

/// A line of result.
pub(crate) fn line(text: impl AsRef<str>) {
    println!("{}", text.as_ref());
}

/// A line about what is being done.
pub(crate) fn note(text: impl AsRef<str>) {
    eprintln!("{}", text.as_ref());
}

/// An error, with its causes.
pub(crate) fn error(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

/// The progress of one step.
pub(crate) struct Progress {
    title: String,
    started: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

impl Progress {
    pub(crate) fn start(title: &str) -> Self {
        Self { title: title.to_owned(), started: Instant::now(), shown: None, terminal: stderr().is_terminal() }
    }

    /// How long to wait at most for news before `update` should be called again.
    pub(crate) fn patience(&self) -> Duration {
        if self.terminal { REDRAW_EVERY } else { Duration::from_secs(1) }
    }

    /// Shows how far the step is, if it is time to.
    pub(crate) fn update(&mut self, detail: &str) {
        let every = if self.terminal { REDRAW_EVERY } else { LINE_EVERY };
        if self.started.elapsed() < QUIET_FOR || self.shown.is_some_and(|shown| shown.elapsed() < every) {
            return;
        }
        self.shown = Some(Instant::now());
        let text: String = format!("  {}: {} s  {detail}", self.title, self.started.elapsed().as_secs())
            .chars()
            .take(LINE_WIDTH_MAX)
            .collect();
        if self.terminal {
            eprint!("\r\x1b[K{text}");
            let _ = stderr().flush();
        } else {
            eprintln!("{text}");
        }
    }

    /// Ends the step's line.
    pub(crate) fn end(self, outcome: &str) {
        if self.terminal && self.shown.is_some() {
            eprint!("\r\x1b[K");
        }
        eprintln!("  {}: {outcome} ({:.1} s)", self.title, self.started.elapsed().as_secs_f64());
    }
}
