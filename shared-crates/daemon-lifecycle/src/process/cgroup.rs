//! A cgroup of its own for each run, where the machine has a version 2 hierarchy that we may write: whatever a daemon forks stays in
//! it, and one write ends it all.
//!
//! ```text
//! our own cgroup (or, in one of ours, the first above it that is not)
//! ├─ rbee-run-SUPERVISOR-N-UNIT     one run; gone with it
//! └─ rbee-supervisor                ourselves, only where a limit needs a controller: a cgroup that hands those out holds no process
//! ```
//!
//! A supervisor's runs stand beside it, never below it: killing the cgroup of a crashed supervisor must not end what it supervised.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};

use super::wait::poll_timeout;
use crate::limits::Limits;

const RUN_PREFIX: &str = "rbee-run-";
const SUPERVISOR: &str = "rbee-supervisor";
/// The kernel's unit of processor time, in microseconds.
const CPU_PERIOD_US: u64 = 100_000;

/// Set to `no`: no controller is handed out to runs, which only systemd before 254 needs. A cgroup that hands one out may hold no
/// process, so that systemd could not start our supervisor again in it.
const CONTROLLERS_VARIABLE: &str = "RBEE_CGROUP_CONTROLLERS";

/// Whether cgroups can be made and killed here; known after the first.
static USABLE: OnceLock<bool> = OnceLock::new();

/// Where cgroups of runs are made.
#[derive(Debug)]
pub(super) struct Hierarchy {
    /// Where it is mounted.
    mount: PathBuf,
    /// What of the hierarchy is mounted there.
    root: PathBuf,
    /// The cgroup that holds those of our runs.
    base: PathBuf,
    /// Whether controllers may be handed out to them.
    hands_out: bool,
}

/// The cgroup of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cgroup {
    path: PathBuf,
}

/// Which limits a cgroup has in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Controlled {
    pub(super) memory: bool,
    pub(super) cpus: bool,
    pub(super) nproc: bool,
}

/// What cgroups this process's children can have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CgroupReach {
    /// Where they would be; absent where no version 2 hierarchy is mounted.
    pub base: Option<PathBuf>,
    /// Whether one can be made there.
    pub can_make: bool,
    /// What its controllers can limit, of `memory`, `cpu` and `pids`.
    pub controllers: Vec<String>,
}

impl Cgroup {
    /// Finds out what can be had, by making one and removing it.
    pub(crate) fn reach() -> CgroupReach {
        let Some(hierarchy) = Hierarchy::found() else { return CgroupReach::default() };
        let made = Self::create(0, "look");
        let can_make = made.is_some();
        if let Some(cgroup) = made {
            cgroup.discard();
        }
        let names = ["memory", "cpu", "pids"];
        let controllers = names.into_iter().filter(|name| can_make && hierarchy.could_hand_out(name));
        CgroupReach {
            base: Some(hierarchy.base.clone()),
            can_make,
            controllers: controllers.map(str::to_owned).collect(),
        }
    }

    /// Makes one for a run; `None` where this machine has no hierarchy for us. `owner` names the supervisor, for [`Cgroup::sweep`].
    pub(crate) fn create(owner: u64, unit: &str) -> Option<Self> {
        let hierarchy = Hierarchy::found().filter(|_| *USABLE.get().unwrap_or(&true))?;
        // The number that tells this process's runs apart; the pid, those of one supervisor after another.
        let run = super::run_mark::next_run_number();
        let path = hierarchy.base.join(format!("{RUN_PREFIX}{owner:016x}-{}-{run}-{unit}", std::process::id()));
        let made = fs::create_dir(&path);
        let cgroup = Self { path };
        // The first one shows whether the others are worth a try: a right to write is not all it takes.
        let is_usable = *USABLE.get_or_init(|| made.is_ok() && cgroup.path.join("cgroup.kill").exists());
        match made {
            Ok(()) if is_usable => Some(cgroup),
            Ok(()) => {
                cgroup.discard();
                None
            }
            Err(error) if is_usable => {
                tracing::warn!(%error, cgroup = %cgroup.path.display(), "cannot make a cgroup; going on without");
                None
            }
            Err(error) => {
                tracing::debug!(%error, base = %hierarchy.base.display(), "no cgroups for us");
                None
            }
        }
    }

    /// One that was made earlier.
    pub(crate) const fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// For starting a process in it.
    pub(super) fn open(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(rustix::fs::open(&self.path, flags, Mode::empty())?)
    }

    /// For entering it.
    pub(super) fn open_procs(&self) -> io::Result<File> {
        File::options().write(true).open(self.path.join("cgroup.procs"))
    }

    /// Sets what the hierarchy's controllers can limit.
    pub(super) fn limit(&self, limits: &Limits) -> Controlled {
        let set = |controller: &str, file: &str, value: Option<String>| {
            let Some(value) = value else { return false };
            let is_set = Hierarchy::found().is_some_and(|hierarchy| hierarchy.hand_out(controller))
                && fs::write(self.path.join(file), value).is_ok();
            if !is_set {
                tracing::debug!(controller, "no such controller for us");
            }
            is_set
        };
        let quota = |cpus: f64| format!("{} {CPU_PERIOD_US}", (cpus * CPU_PERIOD_US as f64).max(1000.0) as u64);
        Controlled {
            memory: set("memory", "memory.max", limits.memory_max_bytes.map(|bytes| bytes.to_string())),
            cpus: set("cpu", "cpu.max", limits.cpus.map(quota)),
            nproc: set("pids", "pids.max", limits.nproc.map(|count| count.to_string())),
        }
    }

    /// Whether the process is in it.
    pub(super) fn holds(&self, pid: u32) -> bool {
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/cgroup")) else { return false };
        let Some(hierarchy) = Hierarchy::found() else { return false };
        own_path(&text).and_then(|path| hierarchy.place_of(&path)).is_some_and(|path| path.starts_with(&self.path))
    }

    /// Removes it; false where a process is in it.
    pub(super) fn remove(&self) -> io::Result<bool> {
        match fs::remove_dir(&self.path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                if self.is_populated()? {
                    return Ok(false);
                }
                // Empty, but it has cgroups of its own below.
                remove_below(&self.path)?;
                fs::remove_dir(&self.path).map(|()| true)
            }
            Err(error) => Err(error),
        }
    }

    /// Removes one in which nothing was started.
    pub(crate) fn discard(&self) {
        if let Err(error) = self.remove() {
            tracing::warn!(%error, cgroup = %self.path.display(), "cannot remove a cgroup");
        }
    }

    /// SIGKILL to all that is in it, whatever is forked meanwhile; waits until it is empty, at most until then. Whether it is.
    pub(super) fn kill(&self, until: Instant) -> io::Result<bool> {
        if let Err(error) = fs::write(self.path.join("cgroup.kill"), "1") {
            return if error.kind() == io::ErrorKind::NotFound { Ok(true) } else { Err(error) };
        }
        let events = match File::open(self.path.join("cgroup.events")) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            result => result?,
        };
        loop {
            // Read before each wait: reading is what arms the next notice.
            if !self.is_populated_by(&events)? {
                return Ok(true);
            }
            let Some(left) = until.checked_duration_since(Instant::now()) else { return Ok(false) };
            match nix::poll::poll(&mut [PollFd::new(events.as_fd(), PollFlags::POLLPRI)], poll_timeout(left)) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Whether the kernel killed something in it because it had no memory left for it.
    pub(super) fn ran_out_of_memory(&self) -> bool {
        let text = fs::read_to_string(self.path.join("memory.events")).unwrap_or_default();
        text.lines().filter_map(|line| line.strip_prefix("oom_kill ")).any(|count| count.trim() != "0")
    }

    /// What its processes use, where that is counted, in bytes.
    pub(super) fn memory_bytes(&self) -> Option<u64> {
        fs::read_to_string(self.path.join("memory.current")).ok()?.trim().parse().ok()
    }

    /// Removes what was left empty: by earlier supervisors of this `owner`, and by any supervisor that is dead.
    pub(crate) fn sweep(owner: u64) {
        let Some(hierarchy) = Hierarchy::found() else { return };
        for entry in fs::read_dir(&hierarchy.base).into_iter().flatten().flatten() {
            let is_due = maker_in(&entry.file_name().to_string_lossy())
                .is_some_and(|(of, maker)| of == owner || !Path::new(&format!("/proc/{maker}")).exists());
            if is_due {
                // One with a process in it is a run's that goes on.
                let _ = fs::remove_dir(entry.path());
            }
        }
    }

    fn is_populated(&self) -> io::Result<bool> {
        match File::open(self.path.join("cgroup.events")) {
            Ok(events) => self.is_populated_by(&events),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn is_populated_by(&self, events: &File) -> io::Result<bool> {
        let mut text = [0; 256];
        let len = match std::os::unix::fs::FileExt::read_at(events, &mut text, 0) {
            // It was removed meanwhile.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(false),
            result => result?,
        };
        Ok(text[..len].split(|byte| *byte == b'\n').any(|line| line == b"populated 1"))
    }
}

impl Hierarchy {
    pub(super) fn found() -> Option<&'static Self> {
        static FOUND: OnceLock<Option<Hierarchy>> = OnceLock::new();
        FOUND.get_or_init(Self::find).as_ref()
    }

    fn find() -> Option<Self> {
        let (root, mount) = mounted_in(&fs::read_to_string("/proc/self/mountinfo").ok()?)?;
        let hands_out = std::env::var_os(CONTROLLERS_VARIABLE).is_none_or(|word| word != "no");
        let mut found = Self { mount, root, base: PathBuf::new(), hands_out };
        let own = found.place_of(&own_path(&fs::read_to_string("/proc/self/cgroup").ok()?)?)?;
        found.base = outside_of_ours(&own);
        Some(found)
    }

    /// Where the hierarchy's path stands among the files.
    pub(super) fn place_of(&self, path: &Path) -> Option<PathBuf> {
        Some(self.mount.join(path.strip_prefix(&self.root).ok()?))
    }

    /// Has the controller work in the cgroups of runs.
    fn hand_out(&self, controller: &str) -> bool {
        let names = |file: &str| fs::read_to_string(self.base.join(file)).unwrap_or_default();
        let has = |text: &str| text.split_whitespace().any(|name| name == controller);
        if has(&names("cgroup.subtree_control")) {
            return true;
        }
        if !self.hands_out || !has(&names("cgroup.controllers")) {
            return false;
        }
        let switch_on = || fs::write(self.base.join("cgroup.subtree_control"), format!("+{controller}"));
        match switch_on() {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                self.move_ourselves_down().and_then(|()| switch_on()).is_ok()
            }
            result => result.is_ok(),
        }
    }

    /// Whether [`Hierarchy::hand_out`] would be worth a try.
    fn could_hand_out(&self, controller: &str) -> bool {
        let has = |file: &str| {
            let text = fs::read_to_string(self.base.join(file)).unwrap_or_default();
            text.split_whitespace().any(|name| name == controller)
        };
        let may_write = || {
            let switch = self.base.join("cgroup.subtree_control");
            rustix::fs::access(&switch, rustix::fs::Access::WRITE_OK).is_ok()
        };
        has("cgroup.subtree_control") || (self.hands_out && has("cgroup.controllers") && may_write())
    }

    fn move_ourselves_down(&self) -> io::Result<()> {
        let place = self.base.join(SUPERVISOR);
        match fs::create_dir(&place) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        File::options().write(true).open(place.join("cgroup.procs"))?.write_all(b"0")
    }
}

/// The owner and the pid of the supervisor that made the run's cgroup of this name.
fn maker_in(name: &str) -> Option<(u64, u32)> {
    let mut parts = name.strip_prefix(RUN_PREFIX)?.split('-');
    let owner = u64::from_str_radix(parts.next()?, 16).ok()?;
    Some((owner, parts.next()?.parse().ok()?))
}

fn remove_below(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_below(&entry.path())?;
            fs::remove_dir(entry.path())?;
        }
    }
    Ok(())
}

/// The version 2 hierarchy in a `mountinfo`: what of it is mounted, and where.
fn mounted_in(mountinfo: &str) -> Option<(PathBuf, PathBuf)> {
    mountinfo.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let fields: Vec<&str> = mount.split(' ').collect();
        source.starts_with("cgroup2 ").then(|| (PathBuf::from(fields.get(3)?), PathBuf::from(fields.get(4)?)).into())?
    })
}

/// The version 2 path in a `/proc/PID/cgroup`.
pub(super) fn own_path(text: &str) -> Option<PathBuf> {
    text.lines().find_map(|line| line.strip_prefix("0::")).map(PathBuf::from)
}

/// The nearest cgroup that is not one of ours.
fn outside_of_ours(own: &Path) -> PathBuf {
    let is_ours = |part: &std::ffi::OsStr| part == SUPERVISOR || part.to_string_lossy().starts_with(RUN_PREFIX);
    own.iter().take_while(|part| !is_ours(part)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_found_among_the_mounts() {
        let mixed = "24 1 0:21 / /sys/fs/cgroup rw shared:1 - tmpfs tmpfs rw\n\
                     25 24 0:22 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                     26 24 0:23 /part /sys/fs/cgroup/unified rw shared:2 - cgroup2 cgroup2 rw\n";
        assert_eq!(mounted_in(mixed), Some(("/part".into(), "/sys/fs/cgroup/unified".into())));
        assert_eq!(mounted_in("25 24 0:22 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"), None);
        assert_eq!(own_path("5:cpu:/\n0::/user.slice/a\n"), Some("/user.slice/a".into()));
        assert_eq!(own_path("5:cpu:/\n"), None);
    }

    /// PROC-30
    #[test]
    fn a_kill_for_want_of_memory_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let cgroup = Cgroup::at(dir.path().to_owned());
        assert!(!cgroup.ran_out_of_memory(), "nobody counts");
        for (events, is_told) in
            [("low 0\noom 1\noom_kill 0\n", false), ("oom 1\noom_kill 2\noom_group_kill 0\n", true)]
        {
            fs::write(dir.path().join("memory.events"), events).unwrap();
            assert_eq!(cgroup.ran_out_of_memory(), is_told, "{events}");
        }
    }

    /// PROC-21
    #[test]
    fn what_was_made_for_a_run_that_never_began_is_swept_away_by_its_owner_alone() {
        const OWNER: u64 = 0x5eed_0001;
        // Nothing to see on a machine without a hierarchy for us.
        let Some(cgroup) = Cgroup::create(OWNER, "never") else { return };
        Cgroup::sweep(OWNER + 1);
        assert!(cgroup.path().exists(), "we live, and may be about to use it");
        let of_the_dead = cgroup.path().with_file_name(format!("{RUN_PREFIX}{OWNER:016x}-4194305-1-dead"));
        fs::create_dir(&of_the_dead).unwrap();
        Cgroup::sweep(OWNER + 1);
        assert!(!of_the_dead.exists(), "its maker will not");
        Cgroup::sweep(OWNER);
        assert!(!cgroup.path().exists());
    }

    /// SERV-21. A cgroup that holds a process hands out no controller: then the process moves down. With hugetlb, which is nobody's.
    #[test]
    fn a_controller_is_handed_out_also_where_we_stand_in_the_way() {
        let Some(found) = Hierarchy::found() else { return };
        let names = |dir: &Path, file: &str| fs::read_to_string(dir.join(file)).unwrap_or_default();
        let (mount, root) = (found.mount.clone(), found.root.clone());
        let top = Hierarchy { base: mount.clone(), mount, root, hands_out: true };
        let base = top.base.join(format!("rbee-test-{}", std::process::id()));
        let was_handed_out = names(&top.base, "cgroup.subtree_control").contains("hugetlb");
        if found.base != top.base || !top.hand_out("hugetlb") || fs::create_dir(&base).is_err() {
            // Nothing to see on this machine.
            return;
        }
        fs::write(base.join("cgroup.procs"), "0").unwrap();
        let kept = Hierarchy { base: base.clone(), mount: top.mount.clone(), root: top.root.clone(), hands_out: false };
        let is_kept = !kept.hand_out("hugetlb");
        let below = Hierarchy { base: base.clone(), ..top };
        let is_handed_out = below.hand_out("hugetlb");
        let handed_out = names(&base, "cgroup.subtree_control");
        let inside = base.join(SUPERVISOR);
        let moved = names(&inside, "cgroup.procs");
        assert!(!below.hand_out("none such"));
        fs::write(found.mount.join("cgroup.procs"), "0").unwrap();
        fs::remove_dir(inside).unwrap();
        fs::remove_dir(&base).unwrap();
        if !was_handed_out {
            // Somebody else may have it by now.
            let _ = fs::write(found.mount.join("cgroup.subtree_control"), "-hugetlb");
        }
        assert!(is_kept && is_handed_out && handed_out.contains("hugetlb"), "{handed_out}");
        assert_eq!(moved, format!("{}\n", std::process::id()));
    }

    /// PROC-22
    #[test]
    fn runs_of_a_supervised_supervisor_stand_beside_it() {
        for (own, base) in [
            ("/sys/fs/cgroup", "/sys/fs/cgroup"),
            ("/c/user.slice/x.service", "/c/user.slice/x.service"),
            ("/c/x.service/rbee-supervisor", "/c/x.service"),
            ("/c/x.service/rbee-run-00-1-1-hive/deeper", "/c/x.service"),
        ] {
            assert_eq!(outside_of_ours(Path::new(own)), Path::new(base));
        }
    }
}
