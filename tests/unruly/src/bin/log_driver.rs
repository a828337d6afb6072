//! A supervisor of one chattering unit that a test can kill: `log_driver DIR FILE_BYTES_MAX COMMAND…`.
//!
//! The unit is named `it`. It says `running PID` and stays until SIGTERM, on which everything is stopped.

use std::path::Path;
use std::process::ExitCode;

use daemon_lifecycle::{Launch, LogPolicy, Phase, StopMode, Supervisor, SupervisorConfig, UnitSpec};
use tokio::signal::unix::{SignalKind, signal};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.as_slice() {
        [dir, file_bytes_max, command @ ..] if !command.is_empty() => match file_bytes_max.parse() {
            Ok(file_bytes_max) => supervise(Path::new(dir), file_bytes_max, command),
            Err(_) => Err("FILE_BYTES_MAX is a number".into()),
        },
        _ => Err("log_driver DIR FILE_BYTES_MAX COMMAND…".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("error {error}"));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn supervise(dir: &Path, file_bytes_max: u64, command: &[String]) -> Outcome {
    let mut terminated = signal(SignalKind::terminate())?;
    let supervisor = Supervisor::open(SupervisorConfig::new(dir.join("run"), dir.join("logs"))).await?;
    let mut spec = UnitSpec::new("it", Launch::new(&command[0], &command[1..]));
    spec.log = LogPolicy { file_bytes_max, files_kept: u32::MAX, ..LogPolicy::default() };
    supervisor.apply(vec![spec]).await?;
    supervisor.start("it").await?;
    let status = supervisor.settled("it").await?;
    if status.phase != Phase::Running {
        return Err(format!("{:?}", status.reason).into());
    }
    tell(&format!("running {}", status.pid.unwrap_or_default()));
    terminated.recv().await;
    supervisor.shutdown(StopMode::Graceful).await?;
    Ok(())
}

fn tell(text: &str) {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    // A test that does not listen any more has seen enough.
    let _ = stdout.write_all(format!("{text}\n").as_bytes()).and_then(|()| stdout.flush());
}
