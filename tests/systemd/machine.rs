//! A machine of its own: systemd as its first process, its disk laid over the kept one, no network but its loopback.
#![expect(clippy::disallowed_methods, reason = "a test that boots a machine runs the tools for it")]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rbee_tests::home::binary;
use rbee_tests::processes;
use rbee_tests::wait::until;
use rustix::process::Signal;
use tempfile::TempDir;

use crate::rootfs;

/// Where our programs are, inside.
pub(crate) const PROGRAMS: &str = "/opt/rbee";
const BOOT_TIMEOUT: Duration = Duration::from_secs(60);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(90);

const BOOT: &str = r#"
disk=$1; root=$2; shift 2
while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done; shift
mount -t overlay overlay -o "lowerdir=$root,upperdir=$disk/upper,workdir=$disk/work" "$disk/root"
exec systemd-nspawn --quiet --directory "$disk/root" --register=no --keep-unit --private-network "$@" --boot
"#;

/// It runs; dropping it ends all that is in it.
pub(crate) struct Machine {
    root: PathBuf,
    disk: TempDir,
    cgroups: Vec<PathBuf>,
    nspawn: Child,
    init: u32,
}

/// What a command said, and its exit code.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Machine {
    /// Boots one whose disk is as `root`.
    pub(crate) fn boot(root: &Path) -> Self {
        let disk = TempDir::with_prefix_in("disk-", root.parent().unwrap()).unwrap();
        for folder in ["upper", "work", "root"] {
            fs::create_dir(disk.path().join(folder)).unwrap();
        }
        let name = disk.path().file_name().unwrap().to_owned();
        let cgroups: Vec<PathBuf> = rootfs::cgroups().into_iter().map(|path| path.join(&name)).collect();
        cgroups.iter().for_each(|path| fs::create_dir(path).unwrap());
        let nspawn = spawn(root, disk.path(), &cgroups);
        let mut machine = Self { root: root.to_owned(), disk, cgroups, nspawn, init: 0 };
        machine.await_boot();
        machine
    }

    /// All that is not written to its disk is lost.
    pub(crate) fn reboot(&mut self) {
        // It ends before it can answer.
        let _ = self.run(&["systemctl", "poweroff"]);
        until("the machine to be off", BOOT_TIMEOUT, || self.nspawn.try_wait().unwrap());
        self.nspawn = spawn(&self.root, self.disk.path(), &self.cgroups);
        self.await_boot();
    }

    fn await_boot(&mut self) {
        let nspawn = self.nspawn.id();
        self.init = until("the machine's first process", BOOT_TIMEOUT, || init_below(nspawn));
        until("the machine to be up", BOOT_TIMEOUT, || {
            let said = self.run(&["systemctl", "is-system-running"]);
            ["running", "degraded"].contains(&said.out.trim()).then_some(())
        });
    }

    /// Runs a command in it, as root.
    pub(crate) fn run(&self, words: &[&str]) -> Said {
        let mut command = assert_cmd::Command::new("nsenter");
        command.args(["-t", &self.init.to_string(), "-m", "-u", "-i", "-n", "-p", "-C", "env", "-i"]);
        command.args(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/"]).args(words);
        let output = command.timeout(COMMAND_TIMEOUT).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// The same, where it must succeed; what it says.
    pub(crate) fn must(&self, words: &[&str]) -> String {
        let said = self.run(words);
        assert_eq!(said.code, Some(0), "{words:?}: {said:?}\n{}", self.journal());
        said.out
    }

    /// Writes a file.
    pub(crate) fn write(&self, path: &str, text: &str) {
        self.must(&["sh", "-c", "mkdir -p \"${1%/*}\" && printf %s \"$2\" >\"$1\"", "sh", path, text]);
    }

    /// What it has noted last.
    pub(crate) fn journal(&self) -> String {
        self.run(&["journalctl", "--no-pager", "-n", "60", "-o", "cat"]).out
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // With the first process of its pid namespace all others end.
        processes::send(self.init, Signal::KILL);
        let _ = self.nspawn.kill();
        let _ = self.nspawn.wait();
        processes::wait_gone(self.init, Duration::from_secs(20));
        self.cgroups.iter().for_each(|path| remove_cgroup(path));
    }
}

fn spawn(root: &Path, disk: &Path, cgroups: &[PathBuf]) -> Child {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-ec", BOOT, "sh"]).arg(disk).arg(root);
    command.args(cgroups).arg("--").arg("--machine").arg(disk.file_name().unwrap().to_string_lossy().replace('.', ""));
    for program in ["rbee-keeper", "queen-rbee", "rbee-hive"] {
        command.arg(format!("--bind-ro={}:{PROGRAMS}/{program}", binary(program).display()));
    }
    let console = fs::File::create(disk.join("console.log")).unwrap();
    command.env("SYSTEMD_NSPAWN_UNIFIED_HIERARCHY", "1").stdin(Stdio::null());
    command.stdout(console.try_clone().unwrap()).stderr(console).spawn().unwrap()
}

/// The process that is the first of a pid namespace made by a process below this one.
fn init_below(ancestor: u32) -> Option<u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.find(|pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let in_namespaces = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
        let numbers: Vec<&str> = in_namespaces.split_whitespace().collect();
        numbers.len() > 1 && numbers.last() == Some(&"1") && is_below(*pid, ancestor)
    })
}

fn is_below(pid: u32, ancestor: u32) -> bool {
    let mut pid = pid;
    while pid > 1 {
        if pid == ancestor {
            return true;
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok());
        pid = parent.unwrap_or(0);
    }
    false
}

/// What is below it first; the kernel lets go of the last process a moment after its end.
fn remove_cgroup(path: &Path) {
    let below = fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path());
    below.filter(|path| path.is_dir()).for_each(|path| remove_cgroup(&path));
    until("a cgroup to be empty", Duration::from_secs(20), || match fs::remove_dir(path) {
        Err(_) if fs::metadata(path).is_ok_and(|folder| folder.nlink() > 0) => None,
        _ => Some(()),
    });
}
