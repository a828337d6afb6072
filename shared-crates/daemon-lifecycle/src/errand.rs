//! A program run once for what it does, beside everything else: with something to read, for a bounded time, and gone with all it
//! started.
//!
//! ```text
//! spawn ─▶ it ends by itself, or its time is over: killed ─▶ the rest of its tree killed ─▶ how it ended, its last words
//! ```

use std::fs::File;
use std::io::{self, Seek as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};
use supervision::ExitHow;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;

use crate::launch::{Launch, hash_of};
use crate::process::{ExitWatch, Output, ScanNumber, Tree, new_run_id, runs_of};
use crate::question::Question;
use crate::trial::TrialError;

/// Of its standard error so much is kept: the end.
const TAIL_BYTES_MAX: usize = 2048;
/// Who writes more there is not listened to any longer.
const STDERR_BYTES_MAX: usize = 1 << 20;
/// How long the end of what was killed is waited for.
const KILL_WAIT: Duration = Duration::from_secs(5);

/// How an errand ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errand {
    /// How its main process ended; absent: its time was over, and it was killed.
    pub how: Option<ExitHow>,
    /// The end of its standard error; its standard output goes nowhere.
    pub last_words: String,
    /// Whether nothing of its tree is left.
    pub is_gone: bool,
}

/// Runs the program with `input` to read, until it ends or `over` does. Whatever it started ends with it.
///
/// # Errors
/// When it cannot be started or listened to.
pub async fn run_errand(
    launch: &Launch,
    name: &str,
    input: Vec<u8>,
    over: impl Future<Output = ()>,
) -> Result<Errand, TrialError> {
    let heard = |source| TrialError::Hear { source };
    let (stderr_end, stderr) = pipe::pipe().map_err(heard)?;
    let stderr_end = stderr_end.into_blocking_fd().map_err(heard)?;
    let (launch, run_id) = (launch.clone(), new_run_id(name));
    let tree_id = run_id.clone();
    let started = tokio::task::spawn_blocking(move || {
        let why = |error: io::Error| TrialError::Start { reason: error.to_string() };
        let input = readable(&input).map_err(why)?;
        let null = File::options().write(true).open("/dev/null").map_err(why)?;
        let (stdout, stderr) = (Output::Fd(null.as_fd()), Output::Fd(stderr_end.as_fd()));
        let asked = Question::ask_with(&launch, &run_id, Some(input.as_fd()), stdout, stderr);
        asked.map_err(|reason| TrialError::Start { reason })
    });
    let process = started.await.map_err(|error| TrialError::Start { reason: error.to_string() })??;
    let watch = ExitWatch::new(&process.0).map_err(heard)?;
    // Ends when nobody is left that could write.
    let mut words = tokio::spawn(last_words(stderr));
    let ended = tokio::select! {
        biased;
        ended = watch.ended() => ended.map(|()| true).map_err(heard)?,
        () = over => false,
    };
    if !ended {
        process.0.kill_group().map_err(heard)?;
        // One that the kernel cannot end now it ends later; nobody waits for it.
        let _ = tokio::time::timeout(KILL_WAIT, watch.ended()).await;
    }
    let buried = tokio::task::spawn_blocking(move || {
        let tree = Tree { run_id: tree_id, cgroup: None, seen: ScanNumber::next() };
        tree.bury(&process.0, KILL_WAIT)
    });
    let end = buried.await.map_err(|error| heard(io::Error::other(error)))?.map_err(heard)?;
    let last_words = match tokio::time::timeout(KILL_WAIT, &mut words).await {
        Ok(words) => words.unwrap_or_default(),
        Err(_) => {
            words.abort();
            String::new()
        }
    };
    Ok(Errand { how: ended.then_some(end.how), last_words, is_gone: end.is_gone })
}

/// A name for the errands of one program, so that the next one in its place knows them: `place` is a file or folder of its own.
#[must_use]
pub fn errands_of(place: &Path) -> String {
    format!("errand-{:016x}", hash_of(place.as_os_str().as_encoded_bytes()))
}

/// Kills the errands of that name that one before us left when it was killed: nobody counts their time any more. How many those
/// were. Blocks; for who has none of his own yet.
///
/// # Errors
/// When the processes cannot be looked at.
pub fn end_errands(name: &str) -> io::Result<usize> {
    let left = runs_of(name)?;
    let count = left.len();
    for run_id in left {
        Tree { run_id, cgroup: None, seen: ScanNumber::next() }.kill_marked(KILL_WAIT)?;
    }
    Ok(count)
}

/// A file in memory: whoever reads it never waits, and nobody waits for him.
fn readable(input: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"rbee-errand", MemfdFlags::CLOEXEC)?);
    file.write_all(input)?;
    file.rewind()?;
    Ok(file)
}

async fn last_words(mut stderr: pipe::Receiver) -> String {
    let mut kept = Vec::new();
    let mut seen = 0;
    let mut piece = [0; 4096];
    while seen < STDERR_BYTES_MAX
        && let Ok(length @ 1..) = stderr.read(&mut piece).await
    {
        seen += length;
        kept.extend_from_slice(&piece[..length]);
        let above = kept.len().saturating_sub(TAIL_BYTES_MAX);
        kept.drain(..above);
    }
    String::from_utf8_lossy(&kept).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    async fn run(script: &str, input: &str, over: impl Future<Output = ()>) -> Errand {
        let launch = Launch::new("/bin/sh", ["-c", script]);
        let errand = run_errand(&launch, "errand", input.as_bytes().to_vec(), over);
        tokio::time::timeout(SOON, errand).await.unwrap().unwrap()
    }

    fn is_alive(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    }

    #[tokio::test]
    async fn it_reads_what_it_is_given_and_its_last_words_are_kept() {
        let errand = run("cat >&2; exit 3", "{\"kind\":\"failed\"}", std::future::pending()).await;
        let last_words = "{\"kind\":\"failed\"}".to_owned();
        assert_eq!(errand, Errand { how: Some(ExitHow::Code(3)), last_words, is_gone: true });
        // One that reads nothing holds nobody up.
        let errand = run("exit 0", &"x".repeat(1 << 20), std::future::pending()).await;
        assert_eq!((errand.how, errand.last_words.as_str()), (Some(ExitHow::Code(0)), ""));
    }

    /// HOOK-03
    #[tokio::test]
    async fn one_whose_time_is_over_is_killed_with_all_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("setsid sh -c 'echo $$ >{0}.new; mv {0}.new {0}; sleep 1000' & wait", file.display());
        let there = async {
            while !file.exists() {
                tokio::task::yield_now().await;
            }
        };
        let errand = run(&script, "", there).await;
        assert_eq!((errand.how, errand.is_gone), (None, true));
        assert!(!is_alive(&std::fs::read_to_string(&file).unwrap()), "it had a session of its own");
    }

    /// HOOK-04
    #[tokio::test]
    async fn what_it_leaves_behind_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 1000 & echo $! >{}", file.display());
        let errand = run(&script, "", std::future::pending()).await;
        assert_eq!((errand.how, errand.is_gone), (Some(ExitHow::Code(0)), true));
        assert!(!is_alive(&std::fs::read_to_string(&file).unwrap()));
    }

    /// HOOK-04
    #[tokio::test]
    async fn one_that_writes_without_end_is_not_listened_to_for_ever() {
        let errand = run("yes; echo never >&2", "", tokio::time::sleep(Duration::from_millis(50))).await;
        assert_eq!((errand.how, errand.last_words.as_str()), (None, ""), "its output goes nowhere");
        let errand = run("exec yes >&2", "", std::future::pending()).await;
        assert_eq!(errand.how, Some(ExitHow::Signal(libc::SIGPIPE)));
        assert!(errand.last_words.len() <= TAIL_BYTES_MAX && errand.last_words.starts_with("y\ny"));
    }

    /// HOOK-08
    #[tokio::test]
    async fn what_one_before_us_left_is_found_by_its_name_and_ended() {
        let folder = tempfile::tempdir().unwrap();
        let (name, others) = (errands_of(folder.path()), errands_of(Path::new("elsewhere")));
        assert!(name != others);
        let file = folder.path().join("pid");
        let launch = Launch::new("/bin/sh", ["-c", &format!("sleep 1000 & echo $! >{}; wait", file.display())]);
        let errand = tokio::spawn({
            let name = name.clone();
            async move { run_errand(&launch, &name, Vec::new(), std::future::pending()).await }
        });
        let pid = loop {
            match std::fs::read_to_string(&file) {
                Ok(pid) if pid.ends_with('\n') => break pid,
                _ => tokio::task::yield_now().await,
            }
        };
        let end = |name: String| tokio::task::spawn_blocking(move || end_errands(&name).unwrap());
        assert_eq!(end(others).await.unwrap(), 0);
        assert!(is_alive(&pid));
        assert_eq!(end(name).await.unwrap(), 1);
        assert!(!is_alive(&pid));
        assert_eq!(errand.await.unwrap().unwrap().how, Some(ExitHow::Signal(libc::SIGKILL)));
    }

    #[tokio::test]
    async fn one_that_cannot_be_started_says_why() {
        let launch = Launch::new("/no/such/program", [""; 0]);
        let error = run_errand(&launch, "errand", Vec::new(), std::future::pending()).await.unwrap_err();
        assert!(error.to_string().contains("does not exist"), "{error}");
    }
}
