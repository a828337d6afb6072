//! The one module that prints: results on stdout, everything else on stderr.

use std::fmt;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rbee_runtime::env::Env;
use serde::Serialize;

use crate::cli::Global;
use crate::exit::Exit;
use crate::failure::Failure;

mod events;
mod figures;
mod findings;
mod harmless;
mod screen;
mod table;
mod tree;
mod why;

pub(crate) use events::event_line;
pub(crate) use figures::{bytes, duration, percent};
pub(crate) use findings::{findings, proposals};
pub(crate) use harmless::harmless;
pub(crate) use screen::Screen;
pub(crate) use table::{Align, Cell, Table};
#[cfg(test)]
pub(crate) use tree::tests::{hive as sample_hive, queen as sample_queen, worker as sample_worker};
pub(crate) use tree::{fleet_tree, reasons};
pub(crate) use why::history;

/// Progress is shown for what takes longer than this.
const PROGRESS_AFTER: Duration = Duration::from_secs(2);
/// Longer than any answer.
const ANSWER_BYTES_MAX: u64 = 4096;

/// How to print.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ui {
    json: bool,
    quiet: bool,
    muted: bool,
    term: Option<String>,
    verbose: bool,
    color_out: bool,
    color_err: bool,
}

/// The meaning of a piece of text, shown by colour where there is colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Good,
    Warn,
    Bad,
    Dim,
    Bold,
}

impl Tone {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Good => "\x1b[32m",
            Self::Warn => "\x1b[33m",
            Self::Bad => "\x1b[31m",
            Self::Dim => "\x1b[2m",
            Self::Bold => "\x1b[1m",
        }
    }

    /// The text in this tone; unchanged without colour.
    pub(crate) fn paint(self, text: &str, color: bool) -> String {
        if color && self != Self::Plain { format!("{}{text}\x1b[0m", self.code()) } else { text.to_owned() }
    }
}

/// A line on stderr. A reader that went away is no reason to end, and none to panic.
fn tell(line: fmt::Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

impl Ui {
    pub(crate) fn new(global: &Global, env: &Env) -> Self {
        let color = !global.no_color && !env.no_color;
        Self {
            json: global.json,
            quiet: global.quiet,
            muted: false,
            term: env.term.clone(),
            verbose: global.verbose > 0,
            color_out: color && io::stdout().is_terminal(),
            color_err: color && io::stderr().is_terminal(),
        }
    }

    /// Before the command line is understood.
    pub(crate) fn bare(json: bool) -> Self {
        Self { json, ..Self::default() }
    }

    /// Says nothing at all: somebody else has the terminal.
    pub(crate) fn muted(&self) -> Self {
        Self { muted: true, quiet: true, verbose: false, ..self.clone() }
    }

    /// Whether the answer shall be JSON.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a view can be shown: there is a terminal, and no JSON is wanted.
    pub(crate) fn has_screen(&self) -> bool {
        !self.json && Screen::is_there(self.term.as_deref())
    }

    /// Whether stdout shows colours.
    pub(crate) fn color(&self) -> bool {
        self.color_out
    }

    /// How wide the terminal is; none where stdout is no terminal.
    pub(crate) fn columns(&self) -> Option<usize> {
        let size = io::stdout().is_terminal().then(|| crossterm::terminal::size().ok()).flatten()?;
        Some(usize::from(size.0)).filter(|columns| *columns > 0)
    }

    /// The answer of a command: the JSON document, or the text for people.
    pub(crate) fn answer<T: Serialize>(&self, value: &T, text: impl FnOnce(&Self) -> String) {
        if self.json {
            self.json(value);
        } else {
            let text = text(self);
            if !text.is_empty() {
                self.line(text.trim_end_matches('\n'));
            }
        }
    }

    /// One JSON document.
    pub(crate) fn json<T: Serialize>(&self, value: &T) {
        match serde_json::to_string_pretty(value) {
            Ok(text) => self.line(&text),
            Err(error) => self.warn(&format!("cannot print the answer as JSON: {error}")),
        }
    }

    /// One JSON document in one line, out at once.
    ///
    /// # Errors
    /// When nobody reads any more.
    pub(crate) fn json_line<T: Serialize>(&self, value: &T) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.stream(&line)
    }

    /// A line of the answer. A reader that went away ends the output, not with an error.
    fn line(&self, text: &str) {
        let _ = writeln!(io::stdout(), "{text}");
    }

    /// A piece of a streamed answer, out at once.
    ///
    /// # Errors
    /// When nobody reads any more: the stream should end.
    pub(crate) fn stream(&self, piece: &[u8]) -> io::Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(piece)?;
        out.flush()
    }

    /// What was done, for people, on stderr.
    pub(crate) fn done(&self, text: &str) {
        if !self.quiet && !self.json {
            tell(format_args!("{} {text}", Tone::Good.paint("✓", self.color_err)));
        }
    }

    /// Something worth knowing that is no error.
    pub(crate) fn note(&self, text: &str) {
        if !self.quiet {
            tell(format_args!("{} {text}", Tone::Bold.paint("note:", self.color_err)));
        }
    }

    /// Advice.
    pub(crate) fn hint(&self, text: &str) {
        if !self.quiet {
            tell(format_args!("{} {text}", Tone::Bold.paint("hint:", self.color_err)));
        }
    }

    /// Whether somebody can be asked: at a terminal, and not in a hurry.
    pub(crate) fn can_ask(&self) -> bool {
        !self.json && !self.quiet && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// What stands above several questions or findings, on stderr.
    pub(crate) fn heading(&self, text: &str) {
        if !self.quiet && !self.json {
            tell(format_args!("{}", Tone::Dim.paint(text, self.color_err)));
        }
    }

    /// A line typed in answer; `None`: there will be no more.
    ///
    /// # Errors
    /// When the terminal cannot be read.
    pub(crate) fn ask(&self, text: &str, choices: &[(&str, &str)], default: &str) -> io::Result<Option<String>> {
        let width = choices.iter().map(|(word, _)| word.chars().count()).max().unwrap_or(0);
        let mark = Tone::Good.paint("?", self.color_err);
        tell(format_args!("\n{mark} {}", Tone::Bold.paint(text, self.color_err)));
        for (word, meaning) in choices {
            tell(format_args!("    {word:<width$}  {}", Tone::Dim.paint(meaning, self.color_err)));
        }
        write!(io::stderr(), "  [{default}] ")?;
        io::stderr().flush()?;
        let mut line = String::new();
        let read = io::stdin().lock().take(ANSWER_BYTES_MAX).read_line(&mut line)?;
        if read == 0 {
            tell(format_args!(""));
        }
        Ok((read > 0).then(|| line.trim().to_owned()))
    }

    /// Something that may go wrong.
    pub(crate) fn warn(&self, text: &str) {
        if !self.muted {
            tell(format_args!("{} {text}", Tone::Warn.paint("warning:", self.color_err)));
        }
    }

    /// A detail for those who asked with `-v`.
    pub(crate) fn detail(&self, text: &str) {
        if self.verbose {
            tell(format_args!("{}", Tone::Dim.paint(text, self.color_err)));
        }
    }

    /// Prints why a command failed, and says with which code to exit.
    pub(crate) fn failure(&self, failure: &Failure) -> Exit {
        if self.json {
            self.json(&serde_json::json!({ "error": failure }));
            return failure.exit;
        }
        let head = Tone::Bad.paint("error:", self.color_err);
        // Usage of a verb without arguments is the help itself.
        if failure.exit == Exit::USAGE && failure.hint.is_none() {
            tell(format_args!("{}", failure.message));
            return failure.exit;
        }
        let mut lines = failure.message.lines();
        tell(format_args!("{head} {}", lines.next().unwrap_or_default()));
        for line in lines {
            // Several problems are several errors; anything else only goes on.
            if failure.problems.is_empty() {
                tell(format_args!("{}", Tone::Dim.paint(line, self.color_err)));
            } else {
                tell(format_args!("{head} {line}"));
            }
        }
        if !failure.last_log_lines.is_empty() {
            tell(format_args!("its last log lines:"));
            for line in &failure.last_log_lines {
                tell(format_args!("  {}", Tone::Dim.paint(line, self.color_err)));
            }
        }
        if let Some(hint) = &failure.hint {
            tell(format_args!("{} {hint}", Tone::Bold.paint("hint:", self.color_err)));
        }
        failure.exit
    }

    /// clap's help or version text.
    pub(crate) fn help(&self, error: &clap::Error) {
        self.line(error.render().to_string().trim_end_matches('\n'));
    }

    /// A spinner on stderr that shows itself when the work takes longer than two seconds.
    pub(crate) fn spinner(&self, text: &str) -> Spinner {
        let bar = ProgressBar::with_draw_target(None, self.draw_target());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}") {
            bar.set_style(style);
        }
        bar.set_message(text.to_owned());
        let task = tokio::spawn({
            let bar = bar.clone();
            async move {
                tokio::time::sleep(PROGRESS_AFTER).await;
                bar.enable_steady_tick(Duration::from_millis(120));
            }
        });
        Spinner { bar, task }
    }

    /// A bar of bytes on stderr.
    pub(crate) fn byte_bar(&self, text: &str) -> ProgressBar {
        let bar = ProgressBar::with_draw_target(None, self.draw_target());
        if let Ok(style) =
            ProgressStyle::with_template("{msg} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta:.dim}")
        {
            bar.set_style(style);
        }
        bar.set_message(text.to_owned());
        bar
    }

    fn draw_target(&self) -> ProgressDrawTarget {
        // indicatif itself draws nothing where stderr is no terminal.
        if self.quiet || self.json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() }
    }
}

/// A running spinner; gone when dropped.
pub(crate) struct Spinner {
    bar: ProgressBar,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.task.abort();
        self.bar.finish_and_clear();
    }
}
