//! What a binary must show before a running daemon makes room for it.
//!
//! ```text
//!   file ──▶ is it a program for this machine, that nobody else could have put there? ──▶ run `self-check` ──▶ is it ours?
//! ```

use std::ffi::OsString;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The binary that runs, wherever its file is now.
pub const OWN_BINARY: &str = "/proc/self/exe";
/// How long a binary may take to show what it is.
pub const CHECK_TIMEOUT: Duration = Duration::from_secs(15);
/// More than that no self-check has to say.
pub const SAID_BYTES_MAX: u64 = 64 * 1024;
/// Raised when what daemons say to each other at a handover changes its meaning.
const HANDOVER_VERSION: u32 = 1;
/// Where an ELF file says what it is for: magic, word size, byte order; further on the processor.
const ELF_MAGIC: &[u8; 4] = b"\x7fELF";
const ELF_HEAD_BYTES: usize = 20;
const ELF_MACHINE_AT: usize = 18;

/// What a binary says about itself: the one line that `self-check` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfCheck {
    /// Its name, such as `queen-rbee`.
    pub program: String,
    /// Its version.
    pub version: String,
    /// Which words it understands at a handover.
    pub handover: u32,
}

/// A binary is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} {reason}", path.display())]
pub struct Refusal {
    /// The binary.
    pub path: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

impl Refusal {
    /// A refusal of that file.
    pub fn new(path: &Path, reason: impl Into<String>) -> Self {
        Self { path: path.to_owned(), reason: reason.into() }
    }
}

impl SelfCheck {
    /// What this program says.
    #[must_use]
    pub fn of(program: &str, version: &str) -> Self {
        Self { program: program.to_owned(), version: version.to_owned(), handover: HANDOVER_VERSION }
    }

    /// What a tried binary said, if it may take over from `program`.
    ///
    /// `ended_well`: it ended with exit code 0; `how`: how it ended, for people.
    ///
    /// # Errors
    /// When it is another program, or something is wrong with it.
    pub fn judge(
        path: &Path,
        program: &str,
        ended_well: bool,
        how: &str,
        stdout: &[u8],
        stderr: &[u8],
    ) -> Result<Self, Refusal> {
        let said: Option<Self> = serde_json::from_slice(stdout).ok();
        match said {
            Some(said) if said.program != program => {
                Err(Refusal::new(path, format!("is {}, not {program}", said.program)))
            }
            Some(said) if said.handover != HANDOVER_VERSION => {
                let text = format!(
                    "speaks version {} of the handover, this one {HANDOVER_VERSION}: stop and start it instead",
                    said.handover
                );
                Err(Refusal::new(path, text))
            }
            Some(said) if ended_well => Ok(said),
            _ => {
                let stderr = String::from_utf8_lossy(stderr);
                let line = stderr.lines().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
                Err(Refusal::new(path, format!("does not pass its self-check ({how}): {}", line.trim())))
            }
        }
    }
}

/// What a binary is tried with: as this process was started, but to show what it is rather than to run.
pub fn arguments(own: &[OsString]) -> impl Iterator<Item = String> {
    let kept = own.iter().filter(|arg| *arg != "run").map(|arg| arg.to_string_lossy().into_owned());
    std::iter::once("self-check".to_owned()).chain(kept)
}

/// Looks at the file alone: whether it can be a program for this machine. `own`: a program that runs here.
///
/// # Errors
/// When it is missing, no file, not executable, no ELF program, for another processor, or writable by everybody.
pub fn judge_file(path: &Path, own: &Path) -> Result<(), Refusal> {
    let refused = |reason: String| Err(Refusal::new(path, reason));
    let about = match fs::metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return refused("does not exist".into()),
        Err(error) => return refused(format!("cannot be looked at: {error}")),
    };
    if !about.is_file() {
        return refused("is no file".into());
    }
    if about.permissions().mode() & 0o111 == 0 {
        return refused("is not executable".into());
    }
    if about.permissions().mode() & 0o002 != 0 {
        return refused("can be written by everybody on this machine: that is not executed".into());
    }
    let own_uid = fs::metadata("/proc/self").map(|own| own.uid()).unwrap_or(0);
    if about.uid() != 0 && about.uid() != own_uid {
        return refused(format!("belongs to another user (uid {}): that is not executed", about.uid()));
    }
    let (theirs, ours) = match (head(path), head(own)) {
        (Ok(theirs), Ok(ours)) => (theirs, ours),
        (Err(error), _) | (_, Err(error)) => return refused(format!("cannot be read: {error}")),
    };
    if !theirs.starts_with(ELF_MAGIC) || theirs.len() < ELF_HEAD_BYTES {
        return refused("is no program (no ELF file)".into());
    }
    let kind = |head: &[u8]| (head.get(4..6).map(<[u8]>::to_vec), head.get(ELF_MACHINE_AT..).map(<[u8]>::to_vec));
    if kind(&theirs) != kind(&ours) {
        let machine = theirs.get(ELF_MACHINE_AT).copied().map_or("another processor", machine_name);
        return refused(format!("is a program for {machine}, this machine is {}", std::env::consts::ARCH));
    }
    Ok(())
}

fn head(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut head = Vec::new();
    fs::File::open(path)?.take(ELF_HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(head)
}

const fn machine_name(machine: u8) -> &'static str {
    match machine {
        0x03 => "x86",
        0x28 => "arm",
        0x3e => "x86_64",
        0xb7 => "aarch64",
        0xf3 => "riscv",
        _ => "another processor",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> PathBuf {
        std::env::current_exe().unwrap()
    }

    fn reason(path: &Path) -> String {
        judge_file(path, &own()).unwrap_err().reason
    }

    fn program(dir: &Path, name: &str, content: &[u8], mode: u32) -> PathBuf {
        let path = dir.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    /// UPGR-02
    #[test]
    fn a_file_that_cannot_be_ours_is_refused_in_its_own_words() {
        let dir = tempfile::tempdir().unwrap();
        let elf = fs::read(own()).unwrap()[..64].to_vec();
        let mut foreign = elf.clone();
        foreign[ELF_MACHINE_AT] = 0xb7;
        assert_eq!(reason(&dir.path().join("none")), "does not exist");
        assert_eq!(reason(dir.path()), "is no file");
        assert_eq!(reason(&program(dir.path(), "plain", &elf, 0o644)), "is not executable");
        assert!(reason(&program(dir.path(), "open", &elf, 0o777)).starts_with("can be written by everybody"));
        assert_eq!(reason(&program(dir.path(), "script", b"#!/bin/sh\n", 0o755)), "is no program (no ELF file)");
        assert_eq!(reason(&program(dir.path(), "empty", b"", 0o755)), "is no program (no ELF file)");
        if cfg!(target_arch = "x86_64") {
            let text = "is a program for aarch64, this machine is x86_64";
            assert_eq!(reason(&program(dir.path(), "foreign", &foreign, 0o755)), text);
        }
        assert_eq!(judge_file(&program(dir.path(), "ours", &elf, 0o755), &own()), Ok(()));
    }

    /// UPGR-02
    #[test]
    fn what_a_binary_says_is_judged() {
        let path = Path::new("q");
        let judge = |ok: bool, out: &str, err: &str| {
            SelfCheck::judge(path, "queen-rbee", ok, "exit code 1", out.as_bytes(), err.as_bytes())
        };
        let good = SelfCheck::of("queen-rbee", "9.9.9");
        let line = |check: &SelfCheck| serde_json::to_string(check).unwrap() + "\n";
        assert_eq!(judge(true, &line(&good), ""), Ok(good.clone()));
        let text = |result: Result<SelfCheck, Refusal>| result.unwrap_err().to_string();
        assert_eq!(text(judge(true, &line(&SelfCheck::of("rbee-hive", "1")), "")), "q is rbee-hive, not queen-rbee");
        let other = SelfCheck { handover: 77, ..good.clone() };
        assert!(text(judge(true, &line(&other), "")).contains("speaks version 77"));
        assert_eq!(
            text(judge(false, "", "\nerror: no config\nmore")),
            "q does not pass its self-check (exit code 1): error: no config"
        );
        assert!(text(judge(false, &line(&good), "")).ends_with("it said nothing"));
        assert!(text(judge(true, "hello", "")).contains("does not pass"));
    }
}
