//! One daemon by hand: `cargo run -p daemon-lifecycle --example manager -- start|stop|kill|restart|status PID_FILE COMMAND [ARG…]`

use std::collections::HashMap;
use std::io::Write as _;
use std::process::ExitCode;

use daemon_lifecycle::{DaemonConfig, DaemonError, DaemonManager, DaemonStatus};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [verb, pid_file, command, command_args @ ..] = args.as_slice() else {
        return say("usage: manager start|stop|kill|restart|status PID_FILE COMMAND [ARG…]", 64);
    };
    let manager = DaemonManager::new(DaemonConfig {
        binary_path: command.into(),
        args: command_args.to_vec(),
        pid_file: pid_file.into(),
        working_dir: None,
        env: HashMap::new(),
        startup_timeout_secs: 30,
        shutdown_timeout_secs: 10,
    });
    match run(&manager, verb) {
        Ok(said) => say(&said, 0),
        Err(DaemonError::StartFailed { reason, log_tail, .. }) => say(&format!("{reason}\n{}", log_tail.join("\n")), 1),
        Err(error) => say(&error.to_string(), 1),
    }
}

fn run(manager: &DaemonManager, verb: &str) -> Result<String, DaemonError> {
    Ok(match verb {
        "start" => format!("running with pid {}", manager.start()?),
        "restart" => format!("running with pid {}", manager.restart()?),
        "stop" => manager.stop().map(|()| "stopped".to_owned())?,
        "kill" => manager.kill().map(|()| "killed".to_owned())?,
        _ => match manager.status()? {
            DaemonStatus::Running(pid) => format!("running with pid {pid}"),
            DaemonStatus::Stopped => "stopped".to_owned(),
            DaemonStatus::Failed(reason) => format!("failed: {reason}"),
            DaemonStatus::Stale(pid) => {
                manager.cleanup_stale()?;
                format!("process {pid} is gone; its files were removed")
            }
        },
    })
}

fn say(text: &str, code: u8) -> ExitCode {
    // Nobody listens: the exit code says it all the same.
    let _ = writeln!(std::io::stdout(), "{text}");
    ExitCode::from(code)
}
