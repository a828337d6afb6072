//! Lock files a daemon left when it was killed: removed before its next start, but only where nobody can be holding them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{FcntlArg, Flock, FlockArg, fcntl};

use crate::launch::Launch;
use crate::process::Process;

/// A pid stands at the beginning of a lock file, if at all.
const HEAD_BYTES: u64 = 64;

/// What was found, and done about it.
#[derive(Debug)]
enum Found {
    Nothing,
    Removed,
    /// Left alone; why.
    Held(String),
}

/// Removes the file unless somebody holds it or it cannot be told. The daemon is started in any case: it says itself what it misses.
pub(crate) fn clear(unit: &str, path: &Path, launch: &Launch) {
    let path = expanded(path, launch);
    match look(&path) {
        Ok(Found::Nothing) => {}
        Ok(Found::Removed) => tracing::info!(unit, file = %path.display(), "removed a stale lock"),
        Ok(Found::Held(holder)) => {
            tracing::warn!(unit, file = %path.display(), holder, "a lock is not stale: left alone")
        }
        Err(error) => tracing::warn!(unit, file = %path.display(), %error, "cannot look at a lock: left alone"),
    }
}

/// `~/…` in the home of the daemon's own environment.
fn expanded(path: &Path, launch: &Launch) -> PathBuf {
    let Ok(rest) = path.strip_prefix("~") else { return path.to_owned() };
    let own = launch.env.get("HOME").map(PathBuf::from);
    let home = own.or_else(|| std::env::var_os("HOME").map(PathBuf::from));
    home.map_or_else(|| path.to_owned(), |home| home.join(rest))
}

fn look(path: &Path) -> io::Result<Found> {
    // NONBLOCK: a FIFO of that name must not hold us up.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).write(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        result => result?,
    };
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file"));
    }
    // Held while the rest is looked at: who comes now waits for us, and then finds that the file he locked is gone.
    let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => file,
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => return Ok(Found::Held("flock".to_owned())),
        Err((_, errno)) => return Err(errno.into()),
    };
    if let Some(holder) = record_lock_holder(&file)? {
        return Ok(Found::Held(holder));
    }
    if let Some(pid) = live_writer(&mut file)? {
        return Ok(Found::Held(format!("process {pid}, which it names, runs")));
    }
    if let Some(pid) = who_has_open(meta.dev(), meta.ino())? {
        return Ok(Found::Held(format!("process {pid} has it open")));
    }
    let named = fs::symlink_metadata(path)?;
    if (named.dev(), named.ino()) != (meta.dev(), meta.ino()) {
        return Ok(Found::Held("it was made anew this moment".to_owned()));
    }
    fs::remove_file(path)?;
    Ok(Found::Removed)
}

/// Who holds a lock of the fcntl kind on any part of it.
fn record_lock_holder(file: &File) -> io::Result<Option<String>> {
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_GETLK(&mut lock))?;
    Ok((lock.l_type != libc::F_UNLCK as libc::c_short).then(|| match lock.l_pid {
        pid if pid > 0 => format!("process {pid} has locked it"),
        _ => "somebody has locked it".to_owned(),
    }))
}

/// The process whose pid the file names, if it runs and may have written that: one that began later got an old number.
fn live_writer(file: &mut File) -> io::Result<Option<u32>> {
    let mut head = Vec::new();
    file.take(HEAD_BYTES).read_to_end(&mut head)?;
    let digits = head.iter().skip_while(|byte| byte.is_ascii_whitespace()).take_while(|byte| byte.is_ascii_digit());
    let Ok(pid) = String::from_utf8(digits.copied().collect()).unwrap_or_default().parse::<u32>() else {
        return Ok(None);
    };
    let Some(process) = Process::of_pid(pid)?.filter(|process| !process.has_exited().unwrap_or(false)) else {
        return Ok(None);
    };
    let written = file.metadata()?.modified()?;
    let is_younger = process.started_at().is_some_and(|began| began > written);
    Ok((!is_younger).then_some(pid))
}

/// A process that has the file open. Those of other users are not shown to us, and had to get past its mode first.
fn who_has_open(dev: u64, ino: u64) -> io::Result<Option<u32>> {
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if pid == std::process::id() {
            continue;
        }
        let Ok(files) = fs::read_dir(entry.path().join("fd")) else { continue };
        let is_it =
            |file: fs::DirEntry| fs::metadata(file.path()).is_ok_and(|file| (file.dev(), file.ino()) == (dev, ino));
        if files.flatten().any(is_it) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock_file(content: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("repo.lock");
        fs::write(&path, content).unwrap();
        (dir, path)
    }

    /// PROC-29
    #[test]
    fn a_lock_of_nobody_is_removed() {
        for content in ["", "4194304\n", "garbage", "0"] {
            let (_dir, path) = lock_file(content);
            assert!(matches!(look(&path).unwrap(), Found::Removed), "{content:?}");
            assert!(!path.exists());
            assert!(matches!(look(&path).unwrap(), Found::Nothing));
        }
    }

    /// PROC-29
    #[test]
    fn a_number_that_was_given_to_a_younger_process_holds_nothing() {
        let (_dir, path) = lock_file(&std::process::id().to_string());
        assert!(matches!(look(&path).unwrap(), Found::Held(who) if who.contains("which it names")));
        let long_ago = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
        File::options().write(true).open(&path).unwrap().set_modified(long_ago).unwrap();
        assert!(matches!(look(&path).unwrap(), Found::Removed));
    }

    /// PROC-29
    #[test]
    fn a_held_lock_is_left_alone() {
        let (_dir, path) = lock_file("");
        let held = Flock::lock(File::open(&path).unwrap(), FlockArg::LockShared).unwrap();
        assert!(matches!(look(&path).unwrap(), Found::Held(who) if who == "flock"));
        drop(held);
        assert!(look(path.parent().unwrap()).is_err(), "a directory is no lock file");
        assert!(matches!(look(&path).unwrap(), Found::Removed));
    }

    #[test]
    fn the_home_is_that_of_the_daemon() {
        let launch = Launch { env: [("HOME".to_owned(), "/srv/lotus".to_owned())].into(), ..Launch::default() };
        assert_eq!(expanded(Path::new("~/.lotus/repo.lock"), &launch), Path::new("/srv/lotus/.lotus/repo.lock"));
        assert_eq!(expanded(Path::new("/a/~/b"), &launch), Path::new("/a/~/b"));
    }
}
