//! The first look at a run directory: whose is it, what lives there, what is stale.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

use supervision::Incarnation;

use super::config::Bounds;
use super::forking::daemon_of;
use super::paths::{Paths, STATE_EXTENSION};
use super::{Result, SupervisorError};
use crate::after_exit::Ending;
use crate::files;
use crate::lock::{Lock, LockError};
use crate::logs::LogThread;
use crate::notify::NotifySocket;
use crate::pid_file::PidFile;
use crate::process::{Output, Process, Tree, bears_mark_of, raise_open_files};
use crate::run::{clear_dead_run, sweep_unborn};
use crate::state_file::{RunState, StateFile};

/// What was found, and what is held from now on.
#[derive(Debug)]
pub(super) struct Takeover {
    pub(super) lock: Lock,
    pub(super) notify: NotifySocket,
    pub(super) logs: LogThread,
    /// Live processes of an earlier supervisor, by unit.
    pub(super) orphans: BTreeMap<String, Orphan>,
    /// The last runs of units that are not there any more.
    pub(super) last_runs: BTreeMap<String, LastRun>,
}

/// What goes on from a run that is over.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct LastRun {
    pub(super) incarnation: Incarnation,
    /// Where its socket listened: its clients know that place.
    pub(super) listened: Option<SocketAddr>,
}

/// A live process without a supervisor.
#[derive(Debug)]
pub(super) struct Orphan {
    pub(super) process: Process,
    pub(super) state: RunState,
}

impl Takeover {
    pub(super) fn begin(paths: &Paths, bounds: &Bounds) -> Result<Self> {
        raise_open_files();
        for dir in [&paths.run_dir, &paths.log_dir] {
            files::make_private_dir(dir).map_err(|source| error("create", dir, source))?;
        }
        let lock = Lock::acquire_from_the_dead(&paths.lock).map_err(|failure| match failure {
            LockError::Held { holder, since } => SupervisorError::Locked { path: paths.lock.clone(), holder, since },
            LockError::File(source) => error("lock", &paths.lock, source),
        })?;
        let notify = NotifySocket::bind(&paths.notify).map_err(|source| error("bind", &paths.notify, source))?;
        let journal = paths.log_journal();
        let logs = LogThread::open(journal.clone(), &paths.log_dir, bounds.logs())
            .map_err(|source| error("use", &journal, source))?;
        let mut found = Self { logs, lock, notify, orphans: BTreeMap::new(), last_runs: BTreeMap::new() };
        found.look_around(paths)?;
        sweep_unborn(&paths.run_dir);
        Ok(found)
    }

    fn look_around(&mut self, paths: &Paths) -> Result<()> {
        let failed = |source| error("read", &paths.run_dir, source);
        let (mut fifos, mut dead) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&paths.run_dir).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let unit = path.file_stem().and_then(|stem| stem.to_str()).map(str::to_owned);
            let Some(unit) = unit else { continue };
            if entry.file_type().map_err(failed)?.is_fifo() {
                fifos.push((unit, path));
            } else if path.extension().is_some_and(|extension| extension == files::NEW_EXTENSION) {
                // Half of a replacement whose writer was killed.
                files::remove(&path).map_err(|source| error("remove", &path, source))?;
            } else if path.extension().is_some_and(|extension| extension == STATE_EXTENSION) {
                self.look_at(&unit, &path, paths, &mut dead)?;
            }
        }
        self.clear_dead(dead, paths)?;
        // What a dead unit left in a FIFO died with its last reader; a declared unit gets new ones.
        for (_, path) in fifos.iter().filter(|(unit, _)| !self.orphans.contains_key(unit)) {
            files::remove(path).map_err(|source| error("remove", path, source))?;
        }
        Ok(())
    }

    fn look_at(&mut self, unit: &str, path: &Path, paths: &Paths, dead: &mut Vec<(String, RunState)>) -> Result<()> {
        match StateFile::read(path) {
            StateFile::Missing => Ok(()),
            StateFile::Unreadable(source) => Err(error("read", path, source)),
            StateFile::Garbage(problem) => self.clear_garbage(unit, path, &problem, paths),
            StateFile::State(state) => {
                let process = Process::open(&state.process).map_err(|source| error("verify", path, source))?;
                if let Some(process) = process {
                    tracing::info!(unit, pid = process.pid(), "found a live process of an earlier supervisor");
                    self.orphans.insert(unit.to_owned(), Orphan { process, state: *state });
                    return Ok(());
                }
                if let Some((process, state)) = forked_daemon(&state, path)? {
                    self.orphans.insert(unit.to_owned(), Orphan { process, state });
                    return Ok(());
                }
                dead.push((unit.to_owned(), *state));
                Ok(())
            }
        }
    }

    /// Only when all are known to be dead: then one look at the machine's processes is enough for all.
    fn clear_dead(&mut self, dead: Vec<(String, RunState)>, paths: &Paths) -> Result<()> {
        let trees: Vec<Tree> = dead.iter().map(|(_, state)| state.tree()).collect();
        // All at once: each has its own time, and together they take no longer than the slowest.
        let endings: Vec<Option<Ending>> = dead.iter().map(|(unit, state)| begin_ending(unit, state)).collect();
        for (((unit, state), tree), ending) in dead.into_iter().zip(trees).zip(endings) {
            let pid = state.process.pid;
            if state.process.is_of_this_boot().is_ok_and(|is_of_this_boot| !is_of_this_boot) {
                tracing::info!(unit, pid, "its process ran before this machine's last start; removing its files");
            } else {
                tracing::info!(unit, pid, "its process is gone; clearing what it left");
            }
            if let Some(Err(problem)) = ending.map(Ending::wait) {
                tracing::error!(unit, problem, "what a dead run had outside of its processes may be left");
            }
            let files = paths.run_files(&unit, Some(&state.pid_file));
            clear_dead_run(&files, Some((&state, &tree))).map_err(|source| error("clear", &files.state, source))?;
            let last = LastRun { incarnation: Incarnation::new(state.incarnation), listened: state.listen };
            self.last_runs.insert(unit, last);
        }
        Ok(())
    }

    /// A state that says nothing may stand for a process that runs: then a second one must not be started beside it.
    fn clear_garbage(&self, unit: &str, path: &Path, problem: &str, paths: &Paths) -> Result<()> {
        let files = paths.run_files(unit, None);
        if let PidFile::Pid(pid) = PidFile::read(&files.pid)
            && bears_mark_of(pid, unit)
        {
            let reason = format!("{problem}; process {pid} of unit {unit} still runs: stop it, then remove this file");
            return Err(error("trust", path, io::Error::new(io::ErrorKind::InvalidData, reason)));
        }
        tracing::warn!(unit, file = %path.display(), problem, "removing a state that says nothing");
        files.remove().map_err(|source| error("remove", path, source))
    }
}

/// What was to be run after the end of a run that nobody saw. Its words go to our own log.
fn begin_ending(unit: &str, state: &RunState) -> Option<Ending> {
    let stderr = io::stderr();
    let output = Output::Fd(stderr.as_fd());
    let begun = state.after_exit.as_ref()?.begin(unit, output, output);
    begun.inspect_err(|problem| tracing::error!(unit, problem, "cannot run what is run after its end")).ok()
}

/// The daemon that a forking command left while its supervisor was dead or dying, and had not written it down yet.
fn forked_daemon(state: &RunState, path: &Path) -> Result<Option<(Process, RunState)>> {
    let PidFile::Pid(pid) = PidFile::read(&state.pid_file) else { return Ok(None) };
    if !state.forking || pid == state.process.pid {
        return Ok(None);
    }
    let Ok(process) = daemon_of(pid, state) else { return Ok(None) };
    let state = RunState { process: process.identity().clone(), ..state.clone() };
    state.write(path).map_err(|source| error("write", path, source))?;
    tracing::info!(unit = state.unit, pid, "found the daemon that its command had forked");
    Ok(Some((process, state)))
}

fn error(doing: &'static str, path: &Path, source: io::Error) -> SupervisorError {
    SupervisorError::File { doing, path: path.to_owned(), source }
}
