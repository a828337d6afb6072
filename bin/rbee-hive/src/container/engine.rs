//! The engine's end of a unix socket, and which of its refusals may pass.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bollard::errors::Error;
use bollard::query_parameters::{InspectContainerOptions, RemoveContainerOptions};
use bollard::{API_DEFAULT_VERSION, Docker};
use rbee_runtime::error_chain;

use super::create::OWNER_LABEL;

/// One answer of the engine; fetching an image and waiting for an end are streams without such a bound.
const ANSWER_S_MAX: u64 = 120;
/// First pause before it is asked again; it doubles.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A container whose making was on its way when its shim was killed comes to light within this time.
const LATE_BIRTH: Duration = Duration::from_millis(300);

/// A connection to an engine that has answered.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    pub(super) docker: Docker,
    socket: PathBuf,
}

/// Why a container cannot be run.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Something is missing or wrong: trying again is of no use.
    Missing(String),
    /// It may pass.
    Passing(String),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Missing(reason) | Self::Passing(reason)) = self;
        f.write_str(reason)
    }
}

impl Trouble {
    /// What the engine said when it was asked to do this.
    pub(super) fn of(doing: &str, error: &Error) -> Self {
        let reason = format!("{doing}: {}", words_of(error));
        match error {
            // 400: the request is wrong, 404: what it names is not there; both stay so.
            Error::DockerResponseServerError { status_code: 400 | 401 | 403 | 404, .. } => Self::Missing(reason),
            _ => Self::Passing(reason),
        }
    }
}

/// The engine's own words, or what kept it from saying any.
pub(super) fn words_of(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.trim().to_owned(),
        Error::DockerStreamError { error } => error.trim().to_owned(),
        error => error_chain(error),
    }
}

pub(super) fn is_missing(error: &Error) -> bool {
    matches!(error, Error::DockerResponseServerError { status_code: 404, .. })
}

impl Engine {
    /// Waits so long for an engine that answers.
    pub(super) async fn connect(socket: &Path, patience: Duration) -> Result<Self, Trouble> {
        let until = Instant::now() + patience;
        let mut pause = PAUSE_MIN;
        loop {
            let left = until.saturating_duration_since(Instant::now()).max(PAUSE_MIN);
            let problem = match tokio::time::timeout(left, try_connect(socket)).await {
                Ok(Ok(docker)) => return Ok(Self { docker, socket: socket.to_owned() }),
                Ok(Err(problem)) => problem,
                Err(_) => "it accepts connections, but does not answer".to_owned(),
            };
            if Instant::now() + pause > until {
                return Err(Trouble::Missing(not_there(socket, patience, &problem)));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// The same engine, once it answers again.
    pub(super) async fn again(&self, patience: Duration) -> Result<Self, Trouble> {
        Self::connect(&self.socket, patience).await
    }

    /// Ends and removes the container of that name, if there is one and it is this owner's.
    pub(super) async fn remove(&self, name: &str, owner: &str) -> Result<(), Trouble> {
        if !self.remove_known(name, owner).await? {
            tokio::time::sleep(LATE_BIRTH).await;
            self.remove_known(name, owner).await?;
        }
        Ok(())
    }

    /// False where there is none.
    pub(super) async fn remove_known(&self, name: &str, owner: &str) -> Result<bool, Trouble> {
        let found = match self.docker.inspect_container(name, None::<InspectContainerOptions>).await {
            Ok(found) => found,
            Err(error) if is_missing(&error) => return Ok(false),
            Err(error) => return Err(Trouble::of(&format!("cannot look for container {name}"), &error)),
        };
        let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
        if labels.get(OWNER_LABEL).map(String::as_str) != Some(owner) {
            return Err(Trouble::Missing(format!(
                "container {name} is none of ours (its label {OWNER_LABEL} is not {owner}); remove or rename it"
            )));
        }
        let options = RemoveContainerOptions { force: true, v: true, ..RemoveContainerOptions::default() };
        loop {
            match self.docker.remove_container(name, Some(options.clone())).await {
                Ok(()) => return Ok(true),
                Err(error) if is_missing(&error) => return Ok(true),
                // Somebody else is at it; whoever waits for us has a limit.
                Err(Error::DockerResponseServerError { status_code: 409, .. }) => tokio::time::sleep(PAUSE_MIN).await,
                Err(error) => return Err(Trouble::of(&format!("cannot remove container {name}"), &error)),
            }
        }
    }
}

async fn try_connect(socket: &Path) -> Result<Docker, String> {
    let docker = Docker::connect_with_unix(&socket.to_string_lossy(), ANSWER_S_MAX, API_DEFAULT_VERSION);
    let docker = docker.map_err(|error| error_chain(&error))?;
    docker.negotiate_version().await.map_err(|error| error_chain(&error))
}

fn not_there(socket: &Path, patience: Duration, problem: &str) -> String {
    let remedy = match std::os::unix::net::UnixStream::connect(socket) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            "this user may not use it: add it to the socket's group (docker), and start the hive anew"
        }
        _ => "start it (systemctl start docker), or say where it is with `[hive] docker` or DOCKER_HOST",
    };
    format!(
        "no container engine answered at unix://{} within {} s ({problem}); {remedy}",
        socket.display(),
        patience.as_secs_f64()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CONT-03
    #[tokio::test]
    async fn an_engine_that_is_not_there_or_does_not_speak_is_told_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let nobody = folder.path().join("none.sock");
        let reason = Engine::connect(&nobody, Duration::from_millis(1)).await.unwrap_err().to_string();
        for words in ["no container engine answered at unix://", "none.sock", "`[hive] docker`", "DOCKER_HOST"] {
            assert!(reason.contains(words), "{reason}");
        }
        let deaf = folder.path().join("deaf.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&deaf).unwrap();
        let reason = Engine::connect(&deaf, Duration::from_millis(50)).await.unwrap_err().to_string();
        assert!(reason.contains("does not answer"), "{reason}");
    }

    /// CONT-05
    #[test]
    fn what_is_wrong_stays_wrong_and_the_rest_may_pass() {
        let said =
            |status_code| Error::DockerResponseServerError { status_code, message: "no such image\n".to_owned() };
        for (status, stays) in [(400, true), (403, true), (404, true), (409, false), (500, false)] {
            let trouble = Trouble::of("cannot make it", &said(status));
            assert_eq!(matches!(trouble, Trouble::Missing(_)), stays, "{status}");
            assert_eq!(trouble.to_string(), "cannot make it: no such image");
        }
        assert!(matches!(Trouble::of("x", &Error::RequestTimeoutError), Trouble::Passing(_)));
    }
}
