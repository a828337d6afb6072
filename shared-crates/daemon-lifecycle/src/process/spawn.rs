//! Starts a process. Whoever finds it running finds its record too.
//!
//! The child itself writes its record (state file, PID file), before it executes anything, while it still shares its parent's file
//! table and so holds its parent's lock. A supervisor that is killed in between leaves one of two things: a child that never executes
//! anything, or one whose record stands there. The next supervisor can take the lock only after that is decided.

use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::cgroup::Cgroup;
use super::child::{self, Plan, Source};
use super::child_limits::ChildLimits;
use super::clone::{self, Born, Into};
use super::identity::Process;
use super::run_mark::RunMark;
use super::spawn_error::{Problem, SpawnError};
use super::{orphans, reap, resolve};

/// Everything a process is started with. Nothing else is inherited.
pub(crate) struct Command<'a> {
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
    /// Its standard input; `/dev/null` when absent.
    pub(crate) stdin: Option<BorrowedFd<'a>>,
    /// Its standard output.
    pub(crate) stdout: Output<'a>,
    /// Its standard error.
    pub(crate) stderr: Output<'a>,
    /// Listening sockets, passed as fd 3 and on (`LISTEN_FDS`, `LISTEN_PID`).
    pub(crate) sockets: Vec<BorrowedFd<'a>>,
    /// Which run it begins.
    pub(crate) run_id: String,
}

/// Where a process writes to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Output<'a> {
    /// An open file of ours.
    Fd(BorrowedFd<'a>),
    /// A FIFO, opened by the process itself for reading and writing.
    Fifo(&'a Path),
}

/// A file the child writes about itself.
pub(crate) struct Record<'a> {
    pub(crate) path: &'a Path,
    pub(crate) mode: u32,
    pub(crate) pieces: Vec<child::Piece>,
}

impl Command<'_> {
    /// Starts it, as the leader of its own session and process group, with default signal handling. Returns once it executes its
    /// program, or says why it could not; then nothing of it is left but the records.
    pub(crate) fn spawn(
        &self,
        records: &[Record<'_>],
        cgroup: Option<&Cgroup>,
        limits: &ChildLimits,
    ) -> Result<Process, SpawnError> {
        let path_variable = self.env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.as_os_str());
        let file = resolve::resolve(&self.program, self.working_dir.as_deref(), path_variable)?;
        let mark = RunMark::of_run(&self.run_id).limit().map(|limit| (libc::RLIMIT_RTTIME, limit));
        let mut plan = Plan {
            file: c_string(file.as_os_str())?,
            argv: child::StringArray::new(self.argv()?),
            env: self.environment()?,
            working_dir: self.working_dir.as_ref().map(|dir| c_string(dir.as_os_str())).transpose()?,
            umask: self.umask,
            files: self.files()?,
            records: records.iter().map(Record::file).collect::<Result<_, _>>()?,
            cgroup_procs: None,
            limits: mark.into_iter().chain(limits.rlimits()).collect(),
            nice: limits.nice(),
            io_priority: limits.io_priority(),
            start_time_ticks: 0,
            failure: None,
        };
        let born = orphans::awaited(|| bear(&mut plan, cgroup)).map_err(|e| SpawnError::step("start a process", e))?;
        let process = Process::of_child(born.pidfd, born.pid, plan.start_time_ticks)
            .map_err(|e| SpawnError::step("read this machine's boot id", e))?;
        let Some(failure) = plan.failure else { return Ok(process) };
        reap::child(&process);
        Err(self.explain(&plan, failure, &file, records, limits, usize::from(mark.is_some())))
    }

    fn explain(
        &self,
        plan: &Plan,
        failure: child::Failure,
        file: &Path,
        records: &[Record<'_>],
        limits: &ChildLimits,
        marks: usize,
    ) -> SpawnError {
        let source = io::Error::from_raw_os_error(failure.errno);
        match failure.step {
            child::Step::NewSession => SpawnError::step("make a session for the new process", source),
            child::Step::ReadStat => SpawnError::step("read the new process's start time", source),
            child::Step::EnterCgroup => SpawnError::step("put the new process into its cgroup", source),
            child::Step::UnshareFiles => SpawnError::step("close inherited file descriptors", source),
            child::Step::Record(index) => {
                let path = records.get(index).map(|record| record.path.to_owned()).unwrap_or_default();
                SpawnError::Record { path, source }
            }
            child::Step::PlaceFile(index) => {
                let output = [None, Some(self.stdout), Some(self.stderr)].into_iter().nth(index).flatten();
                match output {
                    Some(Output::Fifo(path)) => SpawnError::step(format!("open {} for it", path.display()), source),
                    _ => SpawnError::step("place the new process's file descriptors", source),
                }
            }
            child::Step::Limit(index) if index < marks => SpawnError::step("mark the new process", source),
            child::Step::Limit(index) => limits.refused(index - marks, source),
            child::Step::Nice => limits.nice_refused(source),
            child::Step::IoPriority => SpawnError::step("set its place in the queue for disks (io)", source),
            child::Step::EnterDirectory => SpawnError::from_chdir(self.working_dir.clone().unwrap_or_default(), source),
            child::Step::Execute if failure.errno == libc::E2BIG => {
                SpawnError::TooBig { bytes: plan.argv.bytes() + plan.env.bytes() }
            }
            child::Step::Execute => SpawnError::from_exec(file.to_owned(), source),
        }
    }

    fn files(&self) -> Result<Vec<Source>, SpawnError> {
        let source = |output: Output<'_>| -> Result<Source, SpawnError> {
            Ok(match output {
                Output::Fd(fd) => Source::Fd(fd.as_raw_fd()),
                Output::Fifo(path) => Source::Path(c_string(path.as_os_str())?, libc::O_RDWR),
            })
        };
        let null = || Source::Path(c"/dev/null".to_owned(), libc::O_RDONLY);
        let stdin = self.stdin.map_or_else(null, |fd| Source::Fd(fd.as_raw_fd()));
        let mut files = vec![stdin, source(self.stdout)?, source(self.stderr)?];
        files.extend(self.sockets.iter().map(|socket| Source::Fd(socket.as_raw_fd())));
        if files.len() > child::FILES_MAX {
            return Err(SpawnError::step("pass so many sockets", io::Error::from_raw_os_error(libc::EMFILE)));
        }
        Ok(files)
    }

    fn argv(&self) -> Result<Vec<CString>, SpawnError> {
        let program = c_string(self.program.as_os_str());
        std::iter::once(program).chain(self.args.iter().map(|arg| c_string(OsStr::new(arg)))).collect()
    }

    fn environment(&self) -> Result<child::StringArray, SpawnError> {
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
        let has_sockets = !self.sockets.is_empty();
        if has_sockets {
            variables.push(c_string(OsStr::new(&format!("LISTEN_FDS={}", self.sockets.len())))?);
            // Each is named after its unit, as sd_listen_fds_with_names has it.
            let unit = self.run_id.rsplit_once(':').map_or("unknown", |(unit, _)| unit);
            let names = vec![unit; self.sockets.len()].join(":");
            variables.push(c_string(OsStr::new(&format!("LISTEN_FDNAMES={names}")))?);
        }
        Ok(child::StringArray::with_listen_pid(variables, has_sockets))
    }
}

impl Record<'_> {
    fn file(&self) -> Result<child::RecordFile, SpawnError> {
        let pieces = self.pieces.clone();
        let new = crate::files::beside(self.path);
        Ok(child::RecordFile {
            new: c_string(new.as_os_str())?,
            path: c_string(self.path.as_os_str())?,
            mode: self.mode,
            pieces,
        })
    }
}

/// The clone itself, in its cgroup from the start; where the kernel does not do that, the child enters it before it executes anything.
fn bear(plan: &mut Plan, cgroup: Option<&Cgroup>) -> io::Result<Born> {
    let Some(cgroup) = cgroup else { return clone::clone_and_wait(plan, &Into::Here) };
    let dir = cgroup.open()?;
    match clone::clone_and_wait(plan, &Into::Cgroup(dir.as_fd())) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::EPERM)) => {
            let procs = cgroup.open_procs()?;
            plan.cgroup_procs = Some(procs.as_raw_fd());
            clone::clone_and_wait(plan, &Into::Here)
        }
        result => result,
    }
}

fn c_string(text: &OsStr) -> Result<CString, SpawnError> {
    CString::new(text.as_bytes())
        .map_err(|_| SpawnError::Unusable { path: PathBuf::from(text), problem: Problem::HasNul })
}
