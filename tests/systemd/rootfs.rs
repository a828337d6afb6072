//! A Debian with systemd in a folder, made once and kept beside the build; or why there is none here.
#![expect(clippy::disallowed_methods, reason = "a test that boots a machine runs the tools for it")]

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rbee_tests::home::binaries;

const PACKAGES: &str = "systemd,systemd-sysv,dbus,libpam-systemd,dbus-user-session,iproute2,procps";

/// The folder, made now if it is not there.
///
/// # Errors
/// Why this machine cannot have one, in one line.
pub(crate) fn find() -> Result<PathBuf, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("only root can boot a machine in a folder".to_owned());
    }
    for tool in ["systemd-nspawn", "nsenter", "unshare"] {
        if !has(tool) {
            return Err(format!("there is no {tool} (Debian: systemd-container)"));
        }
    }
    if !succeeds(Command::new("unshare").args(["--mount", "--propagation", "private", "true"])) {
        return Err("no mounts of one's own are allowed here".to_owned());
    }
    if cgroups().is_empty() {
        return Err("no cgroup can be made here".to_owned());
    }
    let suite = suite()?;
    let cache = binaries().parent().unwrap().join("systemd");
    fs::create_dir_all(&cache).map_err(|error| error.to_string())?;
    // Two at once would make it twice.
    let lock = File::create(cache.join("lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    let root = cache.join(format!("rootfs-{suite}"));
    if !root.is_dir() {
        make(&root, &suite)?;
    }
    Ok(root)
}

/// Where cgroups for it can be made: each hierarchy that systemd would use.
pub(crate) fn cgroups() -> Vec<PathBuf> {
    let all = ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"].map(PathBuf::from);
    all.into_iter().filter(|path| path.join("cgroup.procs").exists() && can_be_made_in(path)).collect()
}

/// A container's own are often there to be read alone.
fn can_be_made_in(path: &Path) -> bool {
    let probe = path.join(format!("rbee-probe-{}", std::process::id()));
    fs::create_dir(&probe).is_ok() && fs::remove_dir(&probe).is_ok()
}

/// Our binaries run where the C library is as old as ours.
fn suite() -> Result<String, String> {
    let text = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))?;
        Some(line.trim_matches('"').to_owned())
    };
    match (value("ID").as_deref(), value("VERSION_CODENAME")) {
        (Some("debian"), Some(suite)) => Ok(suite),
        _ => Err("this is no Debian, and binaries built here would not run in one".to_owned()),
    }
}

fn make(root: &Path, suite: &str) -> Result<(), String> {
    if !has("debootstrap") {
        return Err("there is no debootstrap".to_owned());
    }
    let part = root.with_extension("part");
    let _ = fs::remove_dir_all(&part);
    let mut debootstrap = Command::new("debootstrap");
    debootstrap.args(["--variant=minbase", &format!("--include={PACKAGES}"), suite]).arg(&part);
    // From where this machine's own packages come.
    if let Some(mirror) = mirror(suite) {
        debootstrap.arg(mirror);
    }
    let made = debootstrap.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stdout).into_owned() + &String::from_utf8_lossy(&made.stderr);
        let _ = fs::remove_dir_all(&part);
        return Err(format!("debootstrap failed: {}", said.lines().last().unwrap_or_default()));
    }
    let _ = fs::remove_dir_all(part.join("var/cache/apt/archives"));
    fs::rename(&part, root).map_err(|error| error.to_string())
}

fn mirror(suite: &str) -> Option<String> {
    let format = ["indextargets", "--format", "$(RELEASE) $(REPO_URI)", "Created-By: Packages"];
    let said = Command::new("apt-get").args(format).output().ok()?;
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    text.lines().find_map(|line| line.strip_prefix(suite)?.strip_prefix(' ').map(str::to_owned))
}

fn has(tool: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(tool).is_file())
}

fn succeeds(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
}
