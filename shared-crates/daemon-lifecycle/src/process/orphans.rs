//! Children that became ours when their parents died: reaped, so that none stays a zombie.
//!
//! ```text
//! SIGCHLD ─▶ sweep: our zombies ─┬─ started here, or taken as a main process ─▶ left to whoever waits for it
//!                                ├─ carries a run's mark ─▶ reaped, by its pid
//!                                └─ anything else ─▶ somebody else's in this program (std's, tokio's): not touched
//! ```
//!
//! Never "wait for any child": that would take the exit codes others wait for.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError, RwLock};
use std::time::Duration;

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use tokio::signal::unix::{SignalKind, signal};

use super::clone::Born;
use super::identity::Stat;
use super::run_mark::RunMark;

/// After one sweep the next waits so long: a thousand ends at once are not worth a thousand sweeps.
const PAUSE: Duration = Duration::from_millis(200);

/// Children whose exit somebody waits for.
static AWAITED: LazyLock<Mutex<HashSet<u32>>> = LazyLock::new(Mutex::default);

static ADOPTS: AtomicBool = AtomicBool::new(false);

/// Held for reading over each birth and each scan, for writing over each sweep: what a sweep sees is in [`AWAITED`], if it was started here.
static BIRTHS: RwLock<()> = RwLock::new(());

/// Has `give_birth` make a child that somebody will wait for.
pub(super) fn awaited(give_birth: impl FnOnce() -> io::Result<Born>) -> io::Result<Born> {
    let _birth = BIRTHS.read().unwrap_or_else(PoisonError::into_inner);
    let born = give_birth()?;
    await_exit_of(born.pid);
    Ok(born)
}

/// From now on somebody waits for this process, be it our child or not.
pub(super) fn await_exit_of(pid: u32) {
    AWAITED.lock().unwrap_or_else(PoisonError::into_inner).insert(pid);
}

/// It is reaped, or nobody waits any more.
pub(super) fn forget(pid: u32) {
    AWAITED.lock().unwrap_or_else(PoisonError::into_inner).remove(&pid);
}

/// Makes this program the parent of whatever its runs leave behind, and reaps that, for as long as the future is polled.
pub(crate) async fn adopt_and_reap() -> io::Result<()> {
    nix::sys::prctl::set_child_subreaper(true)?;
    ADOPTS.store(true, Ordering::Relaxed);
    let mut ended = signal(SignalKind::child())?;
    loop {
        sweep()?;
        tokio::time::sleep(PAUSE).await;
        if ended.recv().await.is_none() {
            return Ok(());
        }
    }
}

/// Whether what our children leave behind becomes ours.
pub(super) fn are_ours() -> bool {
    ADOPTS.load(Ordering::Relaxed)
}

/// Nothing is swept while this is held.
pub(super) fn no_sweep() -> impl Sized {
    BIRTHS.read().unwrap_or_else(PoisonError::into_inner)
}

/// Reaps every orphan that has ended; how many.
pub(super) fn sweep() -> io::Result<usize> {
    let _no_birth = BIRTHS.write().unwrap_or_else(PoisonError::into_inner);
    let own_mark = RunMark::of_process(std::process::id());
    let mut reaped = 0;
    for pid in children()? {
        let is_awaited = AWAITED.lock().unwrap_or_else(PoisonError::into_inner).contains(&pid);
        if is_awaited || !matches!(Stat::read(pid), Ok(Some(stat)) if stat.is_zombie) {
            continue;
        }
        // Our own child keeps its number until it is reaped, and nobody but us reaps one with such a mark.
        let mark = RunMark::of_process(pid);
        if mark.is_none() || mark == own_mark {
            continue;
        }
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw)
            && let Ok(Some(_)) = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
        {
            reaped += 1;
        }
    }
    Ok(reaped)
}

/// The children of every thread of ours.
fn children() -> io::Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir("/proc/self/task")? {
        // A thread may end meanwhile; its children are another one's then, and the next sweep's.
        let Ok(text) = fs::read_to_string(thread?.path().join("children")) else { continue };
        children.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
    }
    Ok(children)
}
