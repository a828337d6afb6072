//! The processes it starts behind its supervisor's back.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::options::Options;

/// Starts what the options ask for, and says `child PID` of each; the last one's pid.
pub fn begin(options: &Options) -> io::Result<Option<u32>> {
    let mut last = None;
    let mut child = |args: &[&str]| -> io::Result<()> {
        let pid = start(args, options.clear_env)?;
        crate::say(&format!("child {pid}"));
        last = Some(pid);
        Ok(())
    };
    if options.fork_child {
        child(&["--ignore-term"])?;
    }
    if options.setsid_child {
        child(&["--ignore-term", "--new-session"])?;
    }
    if options.run_away {
        child(&["--flee", "--new-session"])?;
    }
    if let Some(port) = options.hold_port {
        child(&["--ignore-term", "--new-session", "--port", &port.to_string()])?;
    }
    if options.double_fork_child {
        let pid = start_orphan(options.clear_env)?;
        crate::say(&format!("child {pid}"));
        last = Some(pid);
    }
    Ok(last)
}

/// Starts its successor and is gone.
pub fn flee() -> io::Result<()> {
    start(&["--flee", "--new-session"], false).map(drop)
}

/// Starts the daemon, writes its PID file (or lies in it).
pub fn daemonize(pid_file: &Path, options: &Options) -> io::Result<()> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    while let Some(at) = args.iter().position(|arg| ["--daemonize", "--lie-pid"].contains(&arg.as_str())) {
        args.drain(at..=at + 1);
    }
    args.retain(|arg| arg != "--lie-nothing");
    args.push("--new-session".to_owned());
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let pid = start(&args, options.clear_env)?;
    if options.lie_nothing { Ok(()) } else { std::fs::write(pid_file, format!("{}\n", options.lie_pid.unwrap_or(pid))) }
}

#[expect(clippy::disallowed_methods, reason = "a child behind its supervisor's back is what it is asked for")]
fn start(args: &[&str], clear_env: bool) -> io::Result<u32> {
    let mut command = Command::new(std::env::current_exe()?);
    if clear_env {
        command.env_clear();
    }
    Ok(command.args(args).spawn()?.id())
}

/// By a process between us that ends at once: a forked daemon's way.
#[expect(clippy::disallowed_methods, reason = "a child behind its supervisor's back is what it is asked for")]
fn start_orphan(clear_env: bool) -> io::Result<u32> {
    let own = std::env::current_exe()?;
    let between = format!("setsid '{}' --ignore-term >/dev/null 2>&1 & echo $!", own.display());
    let mut command = Command::new("/bin/sh");
    if clear_env {
        command.env_clear();
    }
    let output = command.args(["-c", &between]).process_group(0).output()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().map_err(io::Error::other)
}
