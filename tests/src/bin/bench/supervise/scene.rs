//! A folder of its own for every measurement, and every process that was started in it: found by a mark in the environment,
//! ended by pid, whatever becomes of the measurement.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rbee_tests::processes;
use rustix::event::{Timespec, epoll};
use rustix::process::{Pid, PidfdFlags, Signal as Sent, pidfd_open};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

use super::child::{Ear, Kind, Told};

/// Every process below the bench has it.
const MARK: &str = "RBEE_BENCH";
const EVENTS_MAX: usize = 256;

/// Where everybody's files are: in memory, as `/run` is, unless `TMPDIR` says otherwise. What a disk's file system takes for a
/// small file differs by a factor of ten from one to the next, and says nothing about a supervisor.
pub fn place() -> PathBuf {
    let memory = Path::new("/dev/shm");
    if std::env::var_os("TMPDIR").is_none() && memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }
}

/// Where one system is measured.
pub struct Scene {
    folder: TempDir,
    mark: String,
    pub ear: Ear,
    /// The supervised program.
    pub child: PathBuf,
    started: Vec<Child>,
}

impl Scene {
    pub fn new(child: &Path) -> Result<Self> {
        let folder = TempDir::with_prefix_in("rbee-bench-", place())?;
        let ear = Ear::open(folder.path())?;
        let mark = format!("{}:{}", std::process::id(), folder.path().display());
        Ok(Self { folder, mark, ear, child: child.to_owned(), started: Vec::new() })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Makes a folder in the scene.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }

    /// Starts a system's program; what it says goes to `said` in the scene.
    #[expect(clippy::disallowed_methods, reason = "the bench starts what it measures, and ends it")]
    pub fn start(&mut self, command: &mut Command) -> Result<()> {
        let said = File::options().append(true).create(true).open(self.path("said"))?;
        command.env(MARK, &self.mark).stdin(Stdio::null()).stdout(said.try_clone()?).stderr(said);
        let child = command.spawn().with_context(|| format!("cannot run {}", command.get_program().display()))?;
        self.started.push(child);
        Ok(())
    }

    /// Runs a system's tool to its end.
    #[expect(clippy::disallowed_methods, reason = "a tool of what is measured")]
    pub fn run(&self, command: &mut Command) -> Result<String> {
        let output = command.env(MARK, &self.mark).stdin(Stdio::null()).output()?;
        let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{}: {said}{failed}", command.get_program().display());
        Ok(said.into_owned())
    }

    /// The first process started here.
    pub fn first(&self) -> Result<u32> {
        self.started.first().map(Child::id).context("nothing was started")
    }

    /// What was started up to now has ended: the next one started is the first.
    pub fn forget_started(&mut self) {
        for mut child in self.started.drain(..) {
            // Takes it out of the process table; one that still runs is found by its mark.
            let _ = child.try_wait();
        }
    }

    /// Waits for something of this kind from each of `count` children, but not when what was started has failed meanwhile.
    pub fn hear_all(&mut self, kind: Kind, count: usize, timeout: Duration) -> Result<HashMap<usize, Told>> {
        let started = &mut self.started;
        self.ear.hear_all(kind, count, timeout, || {
            let mut ended = started.iter_mut().filter_map(|child| child.try_wait().ok()?);
            ended.any(|status| !status.success())
        })
    }

    /// What the system itself said, for an error.
    pub fn said(&self) -> String {
        let text = fs::read_to_string(self.path("said")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }

    /// Every live process of the scene, and whether it is a supervised one.
    pub fn processes(&self) -> Vec<(u32, bool)> {
        marked(&format!("{MARK}={}", self.mark)).into_iter().map(|pid| (pid, self.is_child(pid))).collect()
    }

    /// The system's own processes.
    pub fn supervisors(&self) -> Vec<u32> {
        self.processes().into_iter().filter(|(_, is_child)| !is_child).map(|(pid, _)| pid).collect()
    }

    /// The supervised processes, with their relatives.
    pub fn children(&self) -> Vec<u32> {
        self.processes().into_iter().filter(|(_, is_child)| *is_child).map(|(pid, _)| pid).collect()
    }

    fn is_child(&self, pid: u32) -> bool {
        fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == self.child)
    }

    /// Ends whatever still runs.
    pub fn end(&mut self) {
        end_marked(&format!("{MARK}={}", self.mark));
        for mut child in self.started.drain(..) {
            // It is dead; this takes it out of the process table.
            let _ = child.wait();
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.end();
    }
}

/// Live processes with this variable in their environment, but for ourselves.
fn marked(variable: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        // A process that ends meanwhile reads as empty.
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let is_marked = environment.split(|byte| *byte == 0).any(|word| word.starts_with(variable.as_bytes()));
        if pid != std::process::id() && is_marked && processes::is_alive(pid) {
            found.push(pid);
        }
    }
    found
}

/// Until none is left: a supervisor may be spawning while we look.
fn end_marked(variable: &str) {
    for _ in 0..50 {
        let left = marked(variable);
        if left.is_empty() {
            return;
        }
        let watch = Watch::on(&left);
        for pid in left {
            processes::send(pid, Sent::KILL);
        }
        if let Ok(mut watch) = watch {
            // Who does not end within this time is looked for again.
            let _ = watch.until_gone(Instant::now() + Duration::from_secs(5), |_| {});
        }
    }
}

/// SIGINT and SIGTERM end all that the bench started, then the bench.
pub fn end_all_on_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // Handlers, not a mask: whatever is started would inherit a mask.
    let [mut interrupt, mut terminate, mut hang_up] = {
        let _within = runtime.enter();
        [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?]
    };
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
                _ = hang_up.recv() => {}
            }
        });
        end_marked(&format!("{MARK}={}:", std::process::id()));
        std::process::exit(130);
    });
    Ok(())
}

/// Processes whose end is waited for.
pub struct Watch {
    epoll: OwnedFd,
    left: HashMap<u64, OwnedFd>,
}

impl Watch {
    /// Those that are gone already are not waited for.
    pub fn on(pids: &[u32]) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let mut left = HashMap::new();
        for &pid in pids {
            let Some(raw) = Pid::from_raw(i32::try_from(pid)?) else { continue };
            let Ok(pidfd) = pidfd_open(raw, PidfdFlags::empty()) else { continue };
            epoll::add(&epoll, &pidfd, epoll::EventData::new_u64(u64::from(pid)), epoll::EventFlags::IN)?;
            left.insert(u64::from(pid), pidfd);
        }
        Ok(Self { epoll, left })
    }

    /// Calls `ended` with each that ends; how many are left at `deadline`.
    pub fn until_gone(&mut self, deadline: Instant, mut ended: impl FnMut(u32)) -> Result<usize> {
        while !self.left.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let mut events = Vec::with_capacity(EVENTS_MAX);
            let left = Timespec::try_from(left)?;
            epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&left))?;
            for event in events {
                if let Some(pidfd) = self.left.remove(&event.data.u64()) {
                    epoll::delete(&self.epoll, &pidfd)?;
                    ended(u32::try_from(event.data.u64())?);
                }
            }
        }
        Ok(self.left.len())
    }
}
