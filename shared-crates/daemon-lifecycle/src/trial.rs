//! A program run to its end for what it says, within a time: what a new binary tells of itself before it is trusted.

use std::io;
use std::os::fd::AsFd as _;
use std::time::Duration;

use supervision::ExitHow;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use crate::launch::Launch;
use crate::process::{ExitWatch, Output};
use crate::question::Question;

/// What a program said, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// How it ended.
    pub how: ExitHow,
    /// Its standard output, at most as much as was asked for.
    pub stdout: Vec<u8>,
    /// The same of its standard error.
    pub stderr: Vec<u8>,
}

/// A program could not be asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrialError {
    /// It cannot be started.
    #[error("{reason}")]
    Start {
        /// Why, in one line.
        reason: String,
    },
    /// It took too long, and was ended.
    #[error("it did not end within {} s", timeout.as_secs_f64())]
    Timeout {
        /// The time it had.
        timeout: Duration,
    },
    /// It cannot be listened to.
    #[error("cannot hear what it says")]
    Hear {
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Runs the program and waits for its end; whatever it left running in its process group is killed then.
///
/// # Errors
/// See [`TrialError`].
pub async fn try_out(launch: &Launch, timeout: Duration, output_bytes_max: u64) -> Result<Said, TrialError> {
    let heard = |source| TrialError::Hear { source };
    let (out_end, stdout) = pipe::pipe().map_err(heard)?;
    let (err_end, stderr) = pipe::pipe().map_err(heard)?;
    let (out_end, err_end) = (out_end.into_blocking_fd().map_err(heard)?, err_end.into_blocking_fd().map_err(heard)?);
    let launch = launch.clone();
    let started = tokio::task::spawn_blocking(move || {
        let asked = Question::ask(&launch, "trial", Output::Fd(out_end.as_fd()), Output::Fd(err_end.as_fd()));
        asked.map_err(|reason| TrialError::Start { reason })
    });
    let process = started.await.map_err(|error| TrialError::Start { reason: error.to_string() })??;
    let watch = ExitWatch::new(&process.0).map_err(heard)?;
    let listen = async {
        let (out, err) = tokio::join!(read(stdout, output_bytes_max), read(stderr, output_bytes_max));
        let (out, err) = (out?, err?);
        watch.ended().await?;
        Ok((out, err))
    };
    let (stdout, stderr) =
        tokio::time::timeout(timeout, listen).await.map_err(|_| TrialError::Timeout { timeout })?.map_err(heard)?;
    Ok(Said { how: process.0.exit_how(), stdout, stderr })
}

/// What comes, up to so much; more has no reader.
async fn read(from: pipe::Receiver, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    from.take(bytes_max).read_to_end(&mut read).await.map(|_| read)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    fn sh(script: &str) -> Launch {
        Launch::new("/bin/sh", ["-c", script])
    }

    #[tokio::test]
    async fn what_it_says_is_heard_whole_and_apart() {
        let said = try_out(&sh("echo one; echo two >&2; exit 3"), SOON, 64).await.unwrap();
        assert_eq!(said, Said { how: ExitHow::Code(3), stdout: b"one\n".to_vec(), stderr: b"two\n".to_vec() });
    }

    #[tokio::test]
    async fn one_that_talks_without_end_is_cut_off_and_ends() {
        let said = try_out(&sh("exec yes"), SOON, 8).await.unwrap();
        assert_eq!((said.stdout.as_slice(), said.how), (b"y\ny\ny\ny\n".as_slice(), ExitHow::Signal(13)));
    }

    #[tokio::test]
    async fn one_that_takes_too_long_is_ended() {
        let error = try_out(&sh("exec sleep 1000"), Duration::from_millis(20), 8).await.unwrap_err();
        assert_eq!(error.to_string(), "it did not end within 0.02 s");
    }

    #[tokio::test]
    async fn one_that_cannot_be_started_says_why() {
        let error = try_out(&Launch::new("/no/such/program", [""; 0]), SOON, 8).await.unwrap_err();
        assert!(error.to_string().contains("does not exist"), "{error}");
    }
}
