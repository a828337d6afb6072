//! One life of a shim.
//!
//! ```text
//!  engine ─▶ image ─▶ old one removed ─▶ made, attached, started ─▶ ┌─────────┐ ──▶ rest of its output ─▶ its exit code
//!    │         │                             │                      │ follows │
//!    │ not there, refused by the engine: unavailable (69)           └─┬───▲───┘
//!    │ anything that may pass: 75            │        engine is gone │   │ back, and the container still runs
//!    ▼                                       ▼                        ▼   │
//!  ended ◀── any signal: nothing runs yet    ended                   waits, for a bounded time ──▶ 69
//! ```
//!
//! While it follows, every signal that it gets is passed on. What it leaves is removed after its end, however that came.

use std::process::ExitCode;
use std::time::Duration;

use bollard::errors::Error;
use bollard::models::ContainerState;
use bollard::query_parameters::{
    AttachContainerOptions, CreateContainerOptions, InspectContainerOptions, KillContainerOptions,
    StartContainerOptions, WaitContainerOptions,
};
use container_order::ContainerOrder;
use futures_util::StreamExt as _;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::engine::{Engine, Trouble, words_of};
use super::output::Copying;
use super::{create, image, tell};

/// What `128 + 9` stands for.
const KILLED: i64 = 137;
/// A supervisor that was away is told again this often that the container runs.
const TELL_AGAIN: Duration = Duration::from_secs(1);

/// A container that was started.
struct Started {
    engine: Engine,
    id: String,
    copying: Copying,
}

/// Why waiting for a container ended.
enum Waited {
    /// It ended.
    Ended(i64),
    /// The engine is gone.
    Lost(String),
}

/// Makes the container, follows it, and ends as it does.
pub(super) async fn live(order: &ContainerOrder) -> ExitCode {
    let mut signals = match Signals::heard() {
        Ok(signals) => signals,
        Err(error) => return tell::failed(&format!("cannot listen for signals: {error}")),
    };
    let started = tokio::select! {
        started = start(order) => started,
        (number, _) = signals.next() => return ended_by(number),
    };
    match started {
        Ok(started) => follow(order, started, &mut signals).await,
        Err(Trouble::Missing(reason)) => tell::unavailable(&reason),
        Err(Trouble::Passing(reason)) => tell::failed(&reason),
    }
}

async fn start(order: &ContainerOrder) -> Result<Started, Trouble> {
    let patience = Duration::from_millis(order.engine_timeout_ms);
    tell::status(&format!("waits for the container engine at unix://{}", order.socket.display()));
    tell::more_time(patience + Duration::from_millis(order.start_timeout_ms));
    let engine = Engine::connect(&order.socket, patience).await?;
    image::ensure(&engine, &order.image, order.pull).await?;
    tell::status(&format!("starting a container of {}", order.image));
    tell::more_time(Duration::from_millis(order.start_timeout_ms));
    engine.remove_known(&order.name, &order.owner).await?;
    let (name, docker) = (&order.name, &engine.docker);
    let options = CreateContainerOptions { name: Some(name.clone()), ..CreateContainerOptions::default() };
    let run_id = std::env::var("RBEE_RUN_ID").unwrap_or_default();
    let made = docker.create_container(Some(options), create::body(order, &run_id)).await;
    let made =
        made.map_err(|error| Trouble::of(&format!("the engine makes no container of {}", order.image), &error))?;
    for warning in made.warnings {
        tell::people(&format!("the engine warns: {warning}"));
    }
    // Before the start, so that not a line is missed.
    let copying = attach(&engine, &made.id).await?;
    let started = docker.start_container(&made.id, None::<StartContainerOptions>).await;
    started
        .map_err(|error| Trouble::of(&format!("the engine does not start a container of {}", order.image), &error))?;
    Ok(Started { engine, id: made.id, copying })
}

async fn attach(engine: &Engine, id: &str) -> Result<Copying, Trouble> {
    let options =
        AttachContainerOptions { stdout: true, stderr: true, stream: true, ..AttachContainerOptions::default() };
    let attached = engine.docker.attach_container(id, Some(options)).await;
    attached
        .map(|attached| Copying::begin(attached.output))
        .map_err(|error| Trouble::of("its output cannot be had", &error))
}

async fn follow(order: &ContainerOrder, started: Started, signals: &mut Signals) -> ExitCode {
    let Started { mut engine, id, mut copying } = started;
    let mut untold = !tell_running(order, &engine, &id).await;
    daemon_lifecycle::give_back_memory();
    loop {
        let waited = {
            let waiting = wait(&engine, &id);
            tokio::pin!(waiting);
            loop {
                tokio::select! {
                    waited = &mut waiting => break waited,
                    (_, name) = signals.next() => pass_on(&engine, &id, name),
                    () = tokio::time::sleep(TELL_AGAIN), if untold => untold = !tell_running(order, &engine, &id).await,
                }
            }
        };
        match waited {
            Waited::Ended(code) => return end(&engine, &id, code, copying).await,
            Waited::Lost(reason) => {
                tell::people(&format!("the container engine is gone ({reason}); waiting for it"));
                let patience = Duration::from_millis(order.engine_timeout_ms);
                engine = tokio::select! {
                    again = engine.again(patience) => match again {
                        Ok(again) => again,
                        Err(trouble) => return tell::unavailable(&trouble.to_string()),
                    },
                    // It cannot be passed on; what is left is removed once the engine is back.
                    (number, _) = signals.next() => return ended_by(number),
                };
                match state(&engine, &id).await {
                    Some(state) if state.running == Some(true) => {}
                    Some(state) => return end(&engine, &id, state.exit_code.unwrap_or(1), copying).await,
                    None => return tell::failed("its container is gone with the engine"),
                }
                copying.finish().await;
                copying = match attach(&engine, &id).await {
                    Ok(copying) => copying,
                    Err(trouble) => return tell::failed(&trouble.to_string()),
                };
                tell::people("the engine is back and the container still runs; what it wrote meanwhile may be missing");
            }
        }
    }
}

/// Waits for the container's end.
async fn wait(engine: &Engine, id: &str) -> Waited {
    let mut waiting = std::pin::pin!(engine.docker.wait_container(id, None::<WaitContainerOptions>));
    match waiting.next().await {
        Some(Ok(ended)) => Waited::Ended(ended.status_code),
        Some(Err(Error::DockerContainerWaitError { code, .. })) => Waited::Ended(code),
        Some(Err(error @ Error::DockerResponseServerError { .. })) => {
            // Removed by somebody, as far as can be told.
            tell::people(&words_of(&error));
            Waited::Ended(KILLED)
        }
        Some(Err(error)) => Waited::Lost(words_of(&error)),
        None => Waited::Lost("it closed the connection".to_owned()),
    }
}

/// Its last lines, then its exit code.
async fn end(engine: &Engine, id: &str, code: i64, copying: Copying) -> ExitCode {
    copying.finish().await;
    if let Some(state) = state(engine, id).await {
        if state.oom_killed == Some(true) && code == KILLED {
            tell::out_of_memory();
        }
        if let Some(error) = state.error.filter(|error| !error.is_empty()) {
            tell::people(&error);
        }
    }
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}

async fn state(engine: &Engine, id: &str) -> Option<ContainerState> {
    engine.docker.inspect_container(id, None::<InspectContainerOptions>).await.ok()?.state
}

/// Says that it runs, and which process that is; false where nobody heard it.
async fn tell_running(order: &ContainerOrder, engine: &Engine, id: &str) -> bool {
    let pid = state(engine, id).await.and_then(|state| state.pid).and_then(|pid| u32::try_from(pid).ok());
    tell::running(pid.filter(|pid| *pid > 0), order.is_ready_when_started)
}

/// Not waited for: the container's end is.
fn pass_on(engine: &Engine, id: &str, signal: &'static str) {
    let (docker, id) = (engine.docker.clone(), id.to_owned());
    tokio::spawn(async move {
        let options = KillContainerOptions { signal: signal.to_owned() };
        // One that has ended meanwhile is what was wished for.
        if let Err(error) = docker.kill_container(&id, Some(options)).await
            && !matches!(error, Error::DockerResponseServerError { status_code: 404 | 409, .. })
        {
            tell::people(&format!("the engine does not pass on {signal}: {}", words_of(&error)));
        }
    });
}

/// As a shell says it.
fn ended_by(signal: i32) -> ExitCode {
    ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX))
}

/// What a unit may be told by a signal.
struct Signals(Vec<(SignalKind, &'static str, Signal)>);

impl Signals {
    fn heard() -> std::io::Result<Self> {
        let kinds = [
            (SignalKind::terminate(), "SIGTERM"),
            (SignalKind::interrupt(), "SIGINT"),
            (SignalKind::quit(), "SIGQUIT"),
            (SignalKind::hangup(), "SIGHUP"),
            (SignalKind::user_defined1(), "SIGUSR1"),
            (SignalKind::user_defined2(), "SIGUSR2"),
        ];
        kinds.into_iter().map(|(kind, name)| Ok((kind, name, signal(kind)?))).collect::<std::io::Result<_>>().map(Self)
    }

    async fn next(&mut self) -> (i32, &'static str) {
        std::future::poll_fn(|context| {
            for (kind, name, signal) in &mut self.0 {
                if signal.poll_recv(context).is_ready() {
                    return std::task::Poll::Ready((kind.as_raw_value(), *name));
                }
            }
            std::task::Poll::Pending
        })
        .await
    }
}
