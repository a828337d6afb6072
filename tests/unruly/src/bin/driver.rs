//! Programs around daemon-lifecycle that tests can kill: `driver VERB DIR -- OPTIONS…`.
//!
//! The daemon is always `unruly` with these options, ready by notify. The verbs: `supervise`, `supervise-marked` (without
//! cgroups), `supervise-after` (with a command after its end), `supervise-probed` (with a socket and a health probe), `start`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use daemon_lifecycle::{
    AfterExit, DaemonConfig, DaemonManager, HealthProbe, Launch, Phase, Probe, Readiness, StopMode, Supervisor,
    SupervisorConfig, UnitSpec,
};
use tokio::signal::unix::{SignalKind, signal};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match args.split_first() {
        Some((verb, rest)) if rest.len() >= 2 && rest[1] == "--" => {
            let (dir, options) = (PathBuf::from(&rest[0]), rest[2..].to_vec());
            match verb.as_str() {
                "supervise" => supervise(&dir, options, false, true),
                "supervise-marked" => supervise(&dir, options, false, false),
                "supervise-after" => supervise_with(&dir, options, false, true, true),
                "supervise-probed" => supervise(&dir, options, true, true),
                "start" => start(&dir, options),
                _ => Err("no such verb".into()),
            }
        }
        _ => Err("driver VERB DIR -- OPTIONS…".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&format!("error {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Supervises one unit named `it` until SIGTERM.
fn supervise(dir: &Path, options: Vec<String>, is_probed: bool, cgroups: bool) -> Outcome {
    supervise_with(dir, options, is_probed, cgroups, false)
}

#[tokio::main(flavor = "current_thread")]
async fn supervise_with(dir: &Path, options: Vec<String>, is_probed: bool, cgroups: bool, runs_after: bool) -> Outcome {
    let config = SupervisorConfig { cgroups, ..SupervisorConfig::new(dir.join("run"), dir.join("logs")) };
    let supervisor = Supervisor::open(config).await?;
    let mut spec = UnitSpec::new("it", Launch::new(unruly()?, options));
    spec.readiness = Readiness::Notify;
    spec.policy.restart.backoff_min_ms = 1;
    if is_probed {
        spec.listen = Some(([127, 0, 0, 1], 0).into());
        spec.health = Some(HealthProbe::new(Probe::Http { address: None, path: "/health".to_owned() }));
    }
    if runs_after {
        let script = format!("echo it >>{}", dir.join("after").display());
        let command = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
        spec.after_exit = Some(AfterExit { command, timeout_ms: 20_000 });
    }
    supervisor.apply(vec![spec]).await?;
    supervisor.start("it").await?;
    tell("accepted");
    let status = supervisor.settled("it").await?;
    if status.phase != Phase::Running {
        return Err(format!("{:?}", status.reason).into());
    }
    // Heard from now on: whoever reads the next line may ask for the end at once.
    let mut asked_to_end = signal(SignalKind::terminate())?;
    tell(&format!("running {}", status.pid.unwrap_or_default()));
    asked_to_end.recv().await;
    supervisor.shutdown(StopMode::Graceful).await?;
    Ok(())
}

fn start(dir: &Path, options: Vec<String>) -> Outcome {
    let manager = DaemonManager::new(DaemonConfig {
        binary_path: unruly()?,
        args: options,
        pid_file: dir.join("run/it.pid"),
        working_dir: None,
        env: std::collections::HashMap::new(),
        startup_timeout_secs: 30,
        shutdown_timeout_secs: 30,
    });
    let pid = manager.with_log_file(dir.join("out.log")).with_readiness(Readiness::Notify).start()?;
    tell(&format!("running {pid}"));
    Ok(())
}

/// The daemon stands beside us.
fn unruly() -> std::io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("unruly"))
}

fn tell(text: &str) {
    use std::io::Write as _;
    let mut stdout = std::io::stdout().lock();
    // A test that does not listen any more has seen enough.
    let _ = stdout.write_all(format!("{text}\n").as_bytes()).and_then(|()| stdout.flush());
}
