//! Running other programs: shown as they are, or quietly with progress, a log file, and its tail on failure.
#![expect(clippy::disallowed_methods, reason = "a build tool runs short-lived tools; it supervises nothing")]

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;

use anyhow::{Context, Result, bail};

use crate::say::Progress;

/// Lines of a failed step's output that are shown.
const TAIL_LINES: usize = 30;

/// Runs with our own stdin, stdout and stderr.
pub(crate) fn shown(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", name(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", name(command));
    }
    Ok(())
}

/// Runs without output; whether it could be run and succeeded.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs and returns stdout; a failure carries stderr.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {}", name(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed ({}): {}", name(command), output.status, said.trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// Runs quietly: output to `log`, progress to stderr; a failure shows the output's tail and names the log.
pub(crate) fn step(title: &str, command: &mut Command, log: &Path) -> Result<()> {
    if let Some(folder) = log.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let mut log_file = File::create(log).with_context(|| format!("cannot create {}", log.display()))?;
    // One pipe for both: two would lose which line came last.
    let (output, stdout) = io::pipe().context("cannot make a pipe")?;
    let stderr = stdout.try_clone().context("cannot share a pipe")?;
    let spawned = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn();
    // The command keeps its ends open, and with them the pipe, until it is given others.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = spawned.with_context(|| format!("cannot run {}", name(command)))?;
    let (sender, lines) = channel();
    forward(output, sender);
    let mut progress = Progress::start(title);
    let mut tail = VecDeque::new();
    loop {
        match lines.recv_timeout(progress.patience()) {
            Ok(line) => {
                writeln!(log_file, "{line}").with_context(|| format!("cannot write {}", log.display()))?;
                if tail.len() == TAIL_LINES {
                    tail.pop_front();
                }
                tail.push_back(line);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        progress.update(tail.back().map_or("", |line| line.trim()));
    }
    let status = child.wait().with_context(|| format!("cannot wait for {}", name(command)))?;
    if status.success() {
        progress.end("done");
        return Ok(());
    }
    progress.end("failed");
    let tail: Vec<String> = tail.into();
    bail!("{title} failed ({status}); its last lines (all: {}):\n{}", log.display(), tail.join("\n"));
}

/// Sends every line, and every state of a progress bar, which ends in a carriage return.
fn forward(mut from: impl Read + Send + 'static, to: Sender<String>) {
    thread::spawn(move || {
        let mut pending = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let read = match from.read(&mut chunk) {
                Ok(0) | Err(_) => break,
                Ok(read) => read,
            };
            pending.extend_from_slice(&chunk[..read]);
            while let Some(end) = pending.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
                let line: Vec<u8> = pending.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if !line.is_empty() && to.send(line).is_err() {
                    return;
                }
            }
        }
        let rest = String::from_utf8_lossy(&pending).trim_end().to_owned();
        if !rest.is_empty() {
            // The reader may have given up: nothing is lost that anybody wants.
            let _ = to.send(rest);
        }
    });
}

fn name(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .take(5)
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_shows_its_tail_and_names_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("logs/step.log");
        let mut command = Command::new("sh");
        command.args(["-c", "for i in $(seq 100); do echo line $i; done; echo last words >&2; exit 3"]);
        let error = step("try", &mut command, &log).unwrap_err().to_string();
        assert!(error.contains("last words") && error.contains("line 100") && !error.contains("line 1\n"), "{error}");
        assert!(error.contains(&log.display().to_string()));
        assert_eq!(fs::read_to_string(&log).unwrap().lines().count(), 101);
    }

    #[test]
    fn the_output_of_a_failed_command_is_in_its_error() {
        let error = output(Command::new("sh").args(["-c", "echo why >&2; exit 1"])).unwrap_err().to_string();
        assert!(error.contains("why"), "{error}");
        assert!(shown(&mut Command::new("no-such-program")).unwrap_err().to_string().contains("no-such-program"));
    }
}
