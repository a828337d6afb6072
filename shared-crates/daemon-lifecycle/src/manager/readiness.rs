//! Probing for readiness beside a thread that waits in poll(2): a pipe becomes readable when the answer is yes.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::pipe::{PipeFlags, pipe_with};
use tokio::sync::oneshot;

use crate::probe::Probe;
use crate::probing::{Pauses, ProbeContext};

/// A probe that takes longer is put again.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
const PAUSES: Pauses = Pauses { min: Duration::from_millis(50), max: Duration::from_secs(1) };

/// A thread that asks until the answer is yes. Dropped, it ends.
#[derive(Debug)]
pub(super) struct Asking {
    answer: OwnedFd,
    cancel: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Asking {
    pub(super) fn begin(probe: Probe, context: ProbeContext) -> io::Result<Self> {
        let (answer, yes) = pipe_with(PipeFlags::CLOEXEC)?;
        let (cancel, cancelled) = oneshot::channel::<()>();
        // A thread of its own, because the caller may stand inside a runtime already.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = thread::Builder::new().name("readiness".to_owned()).spawn(move || {
            let is_ready = runtime.block_on(async {
                tokio::select! {
                    () = probe.until_yes(&context, PROBE_TIMEOUT, PAUSES) => true,
                    _ = cancelled => false,
                }
            });
            if is_ready {
                // Nobody reads it any more: then nobody waits either.
                let _ = rustix::io::write(&yes, b"y");
            }
        })?;
        Ok(Self { answer, cancel: Some(cancel), thread: Some(thread) })
    }
}

impl AsFd for Asking {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.answer.as_fd()
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        drop(self.cancel.take());
        if let Some(thread) = self.thread.take() {
            // It ends at the cancel above; a panic in it was printed where it happened.
            let _ = thread.join();
        }
    }
}
