//! Files that come and go in a folder, told without asking again and again.

use std::io;
use std::path::Path;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::sync::Notify;

/// Is notified of each change in the folder, from now on; one that nobody waited for yet is remembered.
pub(super) fn changes_of(folder: &Path) -> io::Result<Arc<Notify>> {
    let watch = Inotify::init(InitFlags::IN_CLOEXEC)?;
    let flags = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE;
    watch.add_watch(folder, flags)?;
    let changed = Arc::new(Notify::new());
    let told = Arc::clone(&changed);
    // It waits in the kernel, and ends with the process.
    std::thread::Builder::new().name("changes".into()).spawn(move || {
        loop {
            match watch.read_events() {
                Ok(_) => told.notify_one(),
                Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    })?;
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_that_comes_and_one_that_goes_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let changed = changes_of(dir.path()).unwrap();
        std::fs::write(dir.path().join("a"), "").unwrap();
        changed.notified().await;
        std::fs::remove_file(dir.path().join("a")).unwrap();
        changed.notified().await;
    }
}
