//! A lock that is held by a process and ends with it, in a file that says who holds it.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::files;
use crate::process::Process;

/// A held lock. Dropping it lets go; the file stays.
#[derive(Debug)]
pub(crate) struct Lock {
    file: Flock<File>,
    path: PathBuf,
}

/// The lock was not obtained.
#[derive(Debug)]
pub(crate) enum LockError {
    /// Somebody else holds it: the pid they wrote down, and since when.
    Held { holder: Option<u32>, since: Option<jiff::Timestamp> },
    /// The file cannot be used.
    File(io::Error),
}

impl Lock {
    /// Waits for the lock, at most so long.
    pub(crate) fn acquire_within(path: &Path, timeout: Duration) -> Result<Self, LockError> {
        let until = Instant::now() + timeout;
        loop {
            match Self::try_acquire(path) {
                Err(LockError::Held { .. }) if Instant::now() < until => {}
                result => return result,
            }
            // flock knows no timeout: a thread waits for it. Abandoned, it ends with the lock's holder and has changed nothing.
            let (sender, receiver) = mpsc::sync_channel(1);
            let waited_for = path.to_owned();
            thread::spawn(move || {
                let _ = sender.send(wait_until_free(&waited_for));
            });
            if let Ok(Err(error)) = receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
                return Err(LockError::File(error));
            }
        }
    }

    /// Takes the lock unless a living process holds it. A dead holder's lock may be held a moment longer, by a child it had just
    /// forked and that has not closed its copy yet.
    pub(crate) fn acquire_from_the_dead(path: &Path) -> Result<Self, LockError> {
        const LAST_MOMENTS: Duration = Duration::from_secs(5);
        match Self::try_acquire(path) {
            Err(LockError::Held { holder, .. }) if !holder.is_some_and(is_alive) => {
                Self::acquire_within(path, LAST_MOMENTS)
            }
            result => result,
        }
    }

    /// Who holds the lock, if anybody; nothing is changed.
    pub(crate) fn holder(path: &Path) -> io::Result<Option<LockError>> {
        match lock_file(File::open(path)?, FlockArg::LockSharedNonblock) {
            Ok(_) => Ok(None),
            Err(Errno::EWOULDBLOCK) => Ok(Some(held(path))),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Takes the lock if it is free.
    pub(crate) fn try_acquire(path: &Path) -> Result<Self, LockError> {
        loop {
            let file = files::open_private(path).map_err(LockError::File)?;
            let file = match lock_file(file, FlockArg::LockExclusiveNonblock) {
                Ok(file) => file,
                Err(Errno::EWOULDBLOCK) => return Err(held(path)),
                Err(errno) => return Err(LockError::File(errno.into())),
            };
            // Its last holder may have removed the file since we opened it: then this one locks nothing.
            if is_file_at(&file, path) {
                let mut lock = Self { file, path: path.to_owned() };
                lock.write_holder().map_err(LockError::File)?;
                return Ok(lock);
            }
        }
    }

    fn write_holder(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        let since = jiff::Timestamp::now();
        self.file.write_all(format!("{}\n{since:.0}\n", std::process::id()).as_bytes())
    }

    /// Removes the file and lets go.
    pub(crate) fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

/// Returns when nobody holds the lock, or its file is gone.
fn wait_until_free(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Ok(file) => lock_file(file, FlockArg::LockShared).map(drop).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn lock_file(mut file: File, how: FlockArg) -> Result<Flock<File>, Errno> {
    loop {
        match Flock::lock(file, how) {
            Ok(locked) => return Ok(locked),
            Err((again, Errno::EINTR)) => file = again,
            Err((_, errno)) => return Err(errno),
        }
    }
}

fn is_file_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(held), Ok(named)) => (held.dev(), held.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

fn is_alive(pid: u32) -> bool {
    match Process::of_pid(pid) {
        Ok(Some(process)) => !process.has_exited().unwrap_or(false),
        Ok(None) => false,
        // It cannot be told: then its word counts.
        Err(_) => true,
    }
}

fn held(path: &Path) -> LockError {
    let mut text = String::new();
    // What cannot be read is simply not told.
    let _ = File::open(path).and_then(|file| file.take(64).read_to_string(&mut text));
    let mut lines = text.lines();
    let holder = lines.next().and_then(|pid| pid.trim().parse().ok());
    LockError::Held { holder, since: lines.next().and_then(|since| since.parse().ok()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_told_who_holds_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let held = Lock::try_acquire(&path).unwrap();
        let me = std::process::id();
        let recently = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(60);
        match Lock::try_acquire(&path) {
            Err(LockError::Held { holder, since: Some(since) }) => assert!(holder == Some(me) && since > recently),
            other => panic!("{other:?}"),
        }
        assert!(matches!(Lock::acquire_within(&path, Duration::ZERO), Err(LockError::Held { .. })));
        held.remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn one_who_waits_gets_a_lock_on_the_file_that_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let held = Lock::try_acquire(&path).unwrap();
        let waiting = {
            let path = path.clone();
            thread::spawn(move || Lock::acquire_within(&path, Duration::from_secs(30)))
        };
        held.remove().unwrap();
        let lock = waiting.join().unwrap().unwrap();
        assert!(is_file_at(&lock.file, &path));
    }

    #[test]
    fn a_dead_holder_is_outwaited() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.lock");
        let held = Lock::try_acquire(&path).unwrap();
        assert!(matches!(Lock::acquire_from_the_dead(&path), Err(LockError::Held { .. })), "we live");
        fs::write(&path, "4194305\n").unwrap();
        let waiting = {
            let path = path.clone();
            thread::spawn(move || Lock::acquire_from_the_dead(&path))
        };
        drop(held);
        waiting.join().unwrap().unwrap();
    }

    #[test]
    fn an_unusable_place_is_an_error_of_its_own() {
        assert!(matches!(Lock::try_acquire(Path::new("/proc/no/such")), Err(LockError::File(_))));
    }
}
