//! Starts a process in three steps: fork, record, release.
//!
//! The child stops at a gate before it executes anything: a pipe read that ends with a byte (go) or with the pipe's end (its parent
//! is dead or changed its mind; it exits). Between fork and release the caller writes down who the child is. So there is no moment
//! at which a supervisor's death leaves a process that no state file knows.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use rustix::pipe::{PipeFlags, pipe_with};

use super::identity::{Process, ProcessIdentity};
use super::spawn_error::{Problem, SpawnError};
use super::{child, reap, resolve};

/// Everything a process is started with. Nothing else is inherited.
pub(crate) struct Command<'fd> {
    /// A path, or a name to look up on the `PATH` of `env`.
    pub(crate) program: PathBuf,
    /// Its arguments, without its name.
    pub(crate) args: Vec<String>,
    /// Its whole environment.
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Its working directory; ours when absent.
    pub(crate) working_dir: Option<PathBuf>,
    /// File mode creation mask.
    pub(crate) umask: u32,
    /// Its standard output; standard input is `/dev/null`.
    pub(crate) stdout: BorrowedFd<'fd>,
    /// Its standard error.
    pub(crate) stderr: BorrowedFd<'fd>,
    /// Listening sockets, passed as fd 3 and on (`LISTEN_FDS`, `LISTEN_PID`).
    pub(crate) sockets: Vec<BorrowedFd<'fd>>,
}

/// A forked child that waits to be released. Dropped unreleased, it exits and has never run.
#[derive(Debug)]
pub(crate) struct Gated {
    process: Option<Process>,
    gate: Option<OwnedFd>,
    errors: OwnedFd,
    file: PathBuf,
    working_dir: Option<PathBuf>,
}

impl Command<'_> {
    /// Forks. The child is the leader of its own session and process group, with default signal handling.
    pub(crate) fn spawn(&self) -> Result<Gated, SpawnError> {
        let path_variable = self.env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
        let file = resolve::resolve(&self.program, self.working_dir.as_deref(), path_variable)?;
        let null = std::fs::File::open("/dev/null").map_err(|e| SpawnError::step("open /dev/null", e))?;
        let (gate_read, gate_write) = pipe()?;
        let (errors_read, errors_write) = pipe()?;

        let mut inherited = vec![null.as_fd(), self.stdout, self.stderr];
        inherited.extend(&self.sockets);
        let mut plan = child::Plan {
            file: c_string(file.as_os_str())?,
            argv: child::StringArray::new(self.argv()?),
            env: child::StringArray::new(self.environment()?),
            has_listen_pid: !self.sockets.is_empty(),
            working_dir: self.working_dir.as_ref().map(|dir| c_string(dir.as_os_str())).transpose()?,
            umask: self.umask,
            inherited: inherited.iter().map(|fd| fd.as_raw_fd()).collect(),
            gate: gate_read.as_raw_fd(),
            errors: errors_write.as_raw_fd(),
        };
        let pid = child::fork(&mut plan).map_err(|e| SpawnError::step("fork", e))?;
        drop((gate_read, errors_write));

        // Our child, and nobody else reaps it: until then the pid cannot be another's.
        let process =
            Process::of_pid(pid).and_then(|found| found.ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH)));
        match process {
            Ok(process) => Ok(Gated {
                process: Some(process),
                gate: Some(gate_write),
                errors: errors_read,
                file,
                working_dir: self.working_dir.clone(),
            }),
            Err(error) => {
                drop(gate_write);
                reap::child_by_pid(pid);
                Err(SpawnError::step("open the new process", error))
            }
        }
    }

    fn argv(&self) -> Result<Vec<CString>, SpawnError> {
        let program = c_string(self.program.as_os_str());
        std::iter::once(program).chain(self.args.iter().map(|arg| c_string(OsStr::new(arg)))).collect()
    }

    fn environment(&self) -> Result<Vec<CString>, SpawnError> {
        let ours = |name: &OsStr| name == "LISTEN_FDS" || name == "LISTEN_PID" || name == "LISTEN_FDNAMES";
        let mut variables: Vec<CString> = self
            .env
            .iter()
            .filter(|(name, _)| !ours(name))
            .map(|(name, value)| {
                let mut text = name.clone();
                text.push("=");
                text.push(value);
                c_string(&text)
            })
            .collect::<Result<_, _>>()?;
        if !self.sockets.is_empty() {
            variables.push(c_string(OsStr::new(&format!("LISTEN_FDS={}", self.sockets.len())))?);
            // Last, and with room for any pid: the child alone knows its own.
            variables.push(c_string(OsStr::new(child::LISTEN_PID_TEMPLATE))?);
        }
        Ok(variables)
    }
}

impl Gated {
    /// Who it will be.
    pub(crate) fn identity(&self) -> &ProcessIdentity {
        static NOBODY: ProcessIdentity = ProcessIdentity { pid: 0, start_time_ticks: 0, boot_id: String::new() };
        self.process.as_ref().map_or(&NOBODY, Process::identity)
    }

    /// Lets it execute its program; returns once it does, or says why it could not.
    pub(crate) fn release(mut self) -> Result<Process, SpawnError> {
        let (Some(process), Some(gate)) = (self.process.take(), self.gate.take()) else {
            return Err(SpawnError::step("release", io::Error::from(io::ErrorKind::InvalidInput)));
        };
        // A child killed at the gate breaks the pipe; its exit is seen like any other.
        let _ = rustix::io::write(&gate, b"g");
        drop(gate);
        let Some((step, errno)) =
            child::read_error(&self.errors).map_err(|e| SpawnError::step("follow the exec", e))?
        else {
            return Ok(process);
        };
        reap::child(&process);
        let source = io::Error::from_raw_os_error(errno);
        Err(match (step, self.working_dir.take()) {
            (child::Step::Execute, _) => SpawnError::from_exec(self.file.clone(), source),
            (child::Step::EnterDirectory, Some(dir)) => SpawnError::from_chdir(dir, source),
            (step, _) => SpawnError::step(step.words(), source),
        })
    }
}

impl Drop for Gated {
    fn drop(&mut self) {
        drop(self.gate.take());
        if let Some(process) = self.process.take() {
            reap::child(&process);
        }
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), SpawnError> {
    pipe_with(PipeFlags::CLOEXEC).map_err(|e| SpawnError::step("make a pipe", e))
}

fn c_string(text: &OsStr) -> Result<CString, SpawnError> {
    CString::new(text.as_bytes())
        .map_err(|_| SpawnError::Unusable { path: PathBuf::from(text), problem: Problem::HasNul })
}
