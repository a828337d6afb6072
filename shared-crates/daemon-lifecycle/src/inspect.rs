//! What the files, the kernel and the processes themselves tell of daemons, to be looked at and not touched.
//!
//! For who has to find out what is wrong: nothing here waits, signals or repairs.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::lock::{self, Lock};
use crate::pid_file::PidFile;
use crate::process::{Cgroup, CgroupReach, Process, RUN_ID_VARIABLE, RunMark};
use crate::state_file::{RunState, StateFile};

/// More than a process's environment has.
const ENVIRON_BYTES_MAX: usize = 4 << 20;

/// What stands in a run directory about one daemon.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The daemon's unit, as far as it is known.
    pub unit: String,
    /// The file that says it.
    pub file: PathBuf,
    /// The process it names.
    pub pid: Option<u32>,
    /// What has become of that.
    pub condition: Condition,
    /// When it was started, by the clock as it was then.
    pub started_at: Option<SystemTime>,
    /// The same by the clock as it is now; for one that lives.
    pub started_by_clock_now: Option<SystemTime>,
    /// Its limits and how each is in force.
    pub limits_in_force: Vec<String>,
    /// Whether it has a cgroup of its own.
    pub has_cgroup: bool,
    mark: Option<RunMark>,
}

/// What has become of a recorded process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// It runs.
    Alive,
    /// It is gone.
    Gone,
    /// The machine was started anew since.
    OtherBoot,
    /// The file tells nothing.
    Unreadable(String),
}

/// A process of some run of ours, of whatever installation.
#[derive(Debug, Clone)]
pub struct Marked {
    /// Its id.
    pub pid: u32,
    /// Its name.
    pub name: String,
    /// Its unit, where its environment says it.
    pub unit: Option<String>,
    mark: RunMark,
    environment: Environment,
}

/// Not for printing: it may hold secrets.
#[derive(Clone)]
struct Environment(Vec<(OsString, OsString)>);

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Environment({})", self.0.len())
    }
}

/// A lock file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockState {
    /// There is none.
    Missing,
    /// Nobody holds it.
    Free,
    /// Somebody does: the pid written down.
    Held(Option<u32>),
}

impl Recorded {
    /// Whether the process belongs to this run.
    #[must_use]
    pub fn is_of_this_run(&self, process: &Marked) -> bool {
        self.mark == Some(process.mark)
    }
}

impl Marked {
    /// A variable of its environment.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&OsStr> {
        let found = self.environment.0.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_os_str())
    }

    /// Whether it has none that can be read: it overwrote it, or belongs to another user.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.environment.0.is_empty()
    }
}

/// Every daemon that the files of a run directory speak of; none where there is no such directory.
///
/// # Errors
/// When the directory cannot be read.
pub fn records_in(dir: &Path) -> io::Result<Vec<Recorded>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for path in entries.map(|entry| entry.map(|entry| entry.path())) {
        let path = path?;
        let extension = path.extension().and_then(OsStr::to_str);
        found.extend(match extension {
            Some("state") => of_state(&path),
            // Where both are, the state is what counts.
            Some("pid") if !path.with_extension("state").exists() => of_pid_file(&path),
            _ => None,
        });
    }
    found.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(found)
}

fn of_state(path: &Path) -> Option<Recorded> {
    match StateFile::read(path) {
        StateFile::Missing => None,
        StateFile::State(state) => Some(of_run(path, &state)),
        StateFile::Garbage(problem) => Some(unreadable(path, problem)),
        StateFile::Unreadable(error) => Some(unreadable(path, error.to_string())),
    }
}

fn of_run(path: &Path, state: &RunState) -> Recorded {
    let process = Process::open(&state.process).ok().flatten();
    let condition = match (&process, state.process.is_of_this_boot()) {
        (Some(_), _) => Condition::Alive,
        (None, Ok(false)) => Condition::OtherBoot,
        (None, _) => Condition::Gone,
    };
    Recorded {
        unit: state.unit.clone(),
        file: path.to_owned(),
        pid: Some(state.process.pid),
        condition,
        started_at: Some(state.started_at.into()),
        started_by_clock_now: process.and_then(|process| process.started_at()),
        limits_in_force: state.limits_in_force.clone(),
        has_cgroup: state.cgroup.is_some(),
        mark: Some(RunMark::of_run(&state.run_id)),
    }
}

fn of_pid_file(path: &Path) -> Option<Recorded> {
    match PidFile::read(path) {
        PidFile::Missing => None,
        // Without a state it proves nothing about the process it names.
        PidFile::Pid(pid) => {
            Some(Recorded { pid: Some(pid), condition: Condition::Gone, ..unreadable(path, String::new()) })
        }
        PidFile::Garbage(text) => Some(unreadable(path, format!("it holds {text:?}, not a pid"))),
        PidFile::Unreadable(error) => Some(unreadable(path, error.to_string())),
    }
}

fn unreadable(path: &Path, problem: String) -> Recorded {
    Recorded {
        unit: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
        file: path.to_owned(),
        pid: None,
        condition: Condition::Unreadable(problem),
        started_at: None,
        started_by_clock_now: None,
        limits_in_force: Vec::new(),
        has_cgroup: false,
        mark: None,
    }
}

/// Every process on this machine that carries the mark of a run, but for those of our own run.
///
/// # Errors
/// When there is no `/proc` to look at.
pub fn marked_processes() -> io::Result<Vec<Marked>> {
    let own = RunMark::of_process(std::process::id());
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if let Some(mark) = RunMark::of_process(pid).filter(|mark| Some(*mark) != own)
            // A thread's number, or one that has ended, has none.
            && let Ok(name) = fs::read_to_string(format!("/proc/{pid}/comm"))
            && is_running(pid)
        {
            let environment = environment_of(pid);
            let run = environment.0.iter().find(|(name, _)| name == RUN_ID_VARIABLE);
            let unit = run.and_then(|(_, run)| Some(run.to_str()?.split_once(':')?.0.to_owned()));
            found.push(Marked { pid, name: name.trim_end().to_owned(), unit, mark, environment });
        }
    }
    Ok(found)
}

/// Whether the process is there, and not only waits to be reaped.
#[must_use]
pub fn is_running(pid: u32) -> bool {
    match Process::of_pid(pid) {
        Ok(Some(process)) => !process.has_exited().unwrap_or(false),
        Ok(None) => false,
        Err(_) => true,
    }
}

fn environment_of(pid: u32) -> Environment {
    let mut text = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    text.truncate(ENVIRON_BYTES_MAX);
    let variables = text.split(|byte| *byte == 0).filter_map(|variable| {
        let at = variable.iter().position(|byte| *byte == b'=')?;
        let text = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
        Some((text(&variable[..at]), text(&variable[at + 1..])))
    });
    Environment(variables.collect())
}

/// Who holds a lock; the file is not made.
///
/// # Errors
/// When the file cannot be looked at.
pub fn lock_state(path: &Path) -> io::Result<LockState> {
    if !path.exists() {
        return Ok(LockState::Missing);
    }
    Ok(match Lock::holder(path)? {
        None => LockState::Free,
        Some(lock::LockError::Held { holder, .. }) => LockState::Held(holder),
        Some(lock::LockError::File(error)) => return Err(error),
    })
}

/// What cgroups a daemon that is started from here would get. One is made for a moment, and removed.
#[must_use]
pub fn cgroup_reach() -> CgroupReach {
    Cgroup::reach()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_told_with_what_became_of_it() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(records_in(&dir.path().join("none")).unwrap(), []);
        fs::write(dir.path().join("a.pid"), "4194305\n").unwrap();
        fs::write(dir.path().join("b.state"), "{").unwrap();
        fs::write(dir.path().join("b.pid"), "1\n").unwrap();
        fs::write(dir.path().join("c.pid"), "x\n").unwrap();
        fs::write(dir.path().join("d.lock"), "").unwrap();
        let found = records_in(dir.path()).unwrap();
        let told: Vec<_> = found.iter().map(|record| (record.unit.as_str(), record.pid)).collect();
        assert_eq!(told, [("a", Some(4_194_305)), ("b", None), ("c", None)]);
        assert_eq!(found[0].condition, Condition::Gone);
        assert!(matches!(&found[1].condition, Condition::Unreadable(_)));
        assert!(matches!(&found[2].condition, Condition::Unreadable(why) if why.contains("not a pid")));
    }

    #[test]
    fn a_lock_is_looked_at_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        assert_eq!(lock_state(&path).unwrap(), LockState::Missing);
        assert!(!path.exists());
        let lock = Lock::try_acquire(&path).unwrap();
        assert_eq!(lock_state(&path).unwrap(), LockState::Held(Some(std::process::id())));
        drop(lock);
        let before = fs::read(&path).unwrap();
        assert_eq!(lock_state(&path).unwrap(), LockState::Free);
        assert_eq!(fs::read(&path).unwrap(), before, "it still names its last holder");
    }
}
