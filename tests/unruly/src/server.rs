//! Its HTTP face: every request is answered with its pid and its health.

use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::thread;

use crate::options::Options;

/// Serves on the port or the inherited socket, if either is asked for.
pub fn begin(options: &Options) -> io::Result<()> {
    let listener = if options.inherited {
        inherited_socket()?
    } else if let Some(port) = options.port {
        TcpListener::bind(("127.0.0.1", port))?
    } else {
        return Ok(());
    };
    let (unhealthy_file, deaf_file) = (options.unhealthy_file.clone(), options.deaf_file.clone());
    let mut unanswered = Vec::new();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if deaf_file.as_ref().is_some_and(|path| path.exists()) {
                // Not closed either: that would be an answer.
                unanswered.push(stream);
                continue;
            }
            // A client that goes away early is its own business.
            let _ = answer(stream, unhealthy_file.as_ref());
        }
    });
    Ok(())
}

/// Fd 3, taken by its name in `/proc`: there is no safe way to take it by its number.
fn inherited_socket() -> io::Result<TcpListener> {
    let own_pid = std::process::id().to_string();
    let meant = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
    if !meant("LISTEN_FDS", "1") || !meant("LISTEN_PID", &own_pid) {
        return Err(io::Error::other("no socket was passed to this process"));
    }
    let own = nix::unistd::Pid::this();
    let pidfd = rustix::process::pidfd_open(
        rustix::process::Pid::from_raw(own.as_raw()).ok_or_else(|| io::Error::other("no pid"))?,
        rustix::process::PidfdFlags::empty(),
    )?;
    let socket = rustix::process::pidfd_getfd(&pidfd, 3, rustix::process::PidfdGetfdFlags::empty())?;
    Ok(TcpListener::from(socket))
}

fn answer(mut stream: TcpStream, unhealthy_file: Option<&PathBuf>) -> io::Result<()> {
    let mut request = [0_u8; 2048];
    // A probe that only connects sends nothing.
    if stream.read(&mut request)? == 0 {
        return Ok(());
    }
    let healthy = unhealthy_file.is_none_or(|path| !path.exists());
    let status = if healthy { "200 OK" } else { "503 Service Unavailable" };
    let body = format!(r#"{{"healthy":{healthy},"pid":{}}}"#, std::process::id());
    stream.write_all(format!("HTTP/1.0 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes())
}
