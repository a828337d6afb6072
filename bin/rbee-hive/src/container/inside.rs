//! Questions to what runs inside of a container: a command there, and whether anybody listens.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

use bollard::exec::{CreateExecOptions, StartExecResults};
use bollard::query_parameters::InspectContainerOptions;
use futures_util::StreamExt as _;
use rustix::process::{Pid, Signal, kill_process};

use super::engine::{Engine, Trouble};
use super::{Which, tell};

/// As `timeout` has it.
const TOO_LATE: u8 = 124;
/// State of a listening socket in `/proc/PID/net/tcp`.
const LISTEN: &str = "0A";

/// Runs a command inside; its exit code, or 124 when it was killed for taking too long.
pub(super) async fn exec(which: &Which, command: Vec<String>, timeout: Duration) -> ExitCode {
    let engine = match which.engine().await {
        Ok(engine) => engine,
        Err(trouble) => return tell::failed(&trouble.to_string()),
    };
    let options = CreateExecOptions {
        cmd: Some(command),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        ..CreateExecOptions::default()
    };
    let id = match engine.docker.create_exec(&which.name, options).await {
        Ok(made) => made.id,
        Err(error) => return tell::failed(&Trouble::of("cannot look inside", &error).to_string()),
    };
    let run = async {
        if let StartExecResults::Attached { mut output, .. } = engine.docker.start_exec(&id, None).await? {
            // What it says is nobody's business; its end is that of its output.
            while output.next().await.is_some() {}
        }
        engine.docker.inspect_exec(&id).await
    };
    match tokio::time::timeout(timeout, run).await {
        Ok(Ok(seen)) => {
            let code = seen.exit_code.and_then(|code| u8::try_from(code).ok());
            code.map_or(ExitCode::FAILURE, ExitCode::from)
        }
        Ok(Err(error)) => tell::failed(&Trouble::of("cannot look inside", &error).to_string()),
        Err(_) => {
            end_exec(&engine, &id).await;
            ExitCode::from(TOO_LATE)
        }
    }
}

/// The engine has no verb for that; where we may signal its process, it does not stay behind.
async fn end_exec(engine: &Engine, id: &str) {
    let pid =
        engine.docker.inspect_exec(id).await.ok().and_then(|seen| seen.pid).and_then(|pid| i32::try_from(pid).ok());
    if let Some(pid) = pid.filter(|pid| *pid > 1).and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Whether anybody inside listens on this port.
pub(super) async fn listens(which: &Which, port: u16) -> ExitCode {
    let engine = match which.engine().await {
        Ok(engine) => engine,
        Err(trouble) => return tell::failed(&trouble.to_string()),
    };
    let seen = engine.docker.inspect_container(&which.name, None::<InspectContainerOptions>).await;
    let Ok(seen) = seen else { return ExitCode::FAILURE };
    let Some(pid) = seen.state.and_then(|state| state.pid).filter(|pid| *pid > 0) else { return ExitCode::FAILURE };
    let tables = ["tcp", "tcp6"].map(|table| std::fs::read_to_string(format!("/proc/{pid}/net/{table}")));
    let is_listening = if tables.iter().all(Result::is_err) {
        // An engine in a machine of its own: the way from outside is all there is.
        let addresses = seen.network_settings.and_then(|settings| settings.ports).unwrap_or_default();
        let outside = addresses.get(&format!("{port}/tcp")).into_iter().flatten().flatten();
        outside.filter_map(|binding| binding.host_port.as_ref()?.parse().ok()).any(is_open)
    } else {
        tables.iter().flatten().any(|table| has_listener(table, port))
    };
    if is_listening { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn is_open(port: u16) -> bool {
    TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).is_ok()
}

/// Lines of `/proc/PID/net/tcp`: a number, `LOCAL:PORT`, `REMOTE:PORT` and the state, in hexadecimal.
fn has_listener(table: &str, port: u16) -> bool {
    table.lines().skip(1).any(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = fields.next().and_then(|local| local.rsplit_once(':'));
        let found = local.and_then(|(_, port)| u16::from_str_radix(port, 16).ok());
        found == Some(port) && fields.nth(1) == Some(LISTEN)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// CONT-07
    #[test]
    fn only_a_socket_that_listens_on_that_port_counts() {
        let table = "  sl  local_address rem_address   st tx_queue\n\
            \x20  0: 00000000:1F90 00000000:0000 0A 00000000:00000000\n\
            \x20  1: 0100007F:1F91 0100007F:1234 01 00000000:00000000\n";
        assert!(has_listener(table, 0x1F90));
        assert!(!has_listener(table, 0x1F91), "connected, not listening");
        assert!(!has_listener(table, 0x1234) && !has_listener("", 1));
        let tcp6 = "  sl  local_address\n   0: 00000000000000000000000000000000:0050 0000:0000 0A 0\n";
        assert!(has_listener(tcp6, 80));
    }
}
