//! How queen is stopped: by a signal or by request, with or without what is below.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rbee_runtime::shutdown::Shutdown;

/// Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Stopping {
    shutdown: Shutdown,
    keep_children: Arc<AtomicBool>,
}

impl Stopping {
    /// Driven by `shutdown`'s signals and by [`Stopping::ask`].
    #[must_use]
    pub fn new(shutdown: Shutdown) -> Self {
        Self { shutdown, keep_children: Arc::default() }
    }

    /// Asks queen to end. Who asks first decides whether hives stay; whoever asks again can only hurry.
    pub fn ask(&self, keep_children: bool, now: bool) {
        if !self.shutdown.is_draining() {
            self.keep_children.store(keep_children, Ordering::Release);
        }
        tracing::info!(keep_children, now, "asked to stop");
        if now { self.shutdown.now() } else { self.shutdown.drain() }
    }

    /// Whether hives stay for the next queen to adopt.
    #[must_use]
    pub fn keeps_children(&self) -> bool {
        self.keep_children.load(Ordering::Acquire)
    }

    /// For what ends when it begins.
    #[must_use]
    pub fn shutdown(&self) -> Shutdown {
        self.shutdown.clone()
    }

    /// Whether it has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.shutdown.is_draining()
    }

    /// Whether waiting is over.
    #[must_use]
    pub fn is_now(&self) -> bool {
        self.shutdown.is_now()
    }

    /// Resolves when it begins.
    pub async fn draining(&self) {
        self.shutdown.draining().await;
    }

    /// Resolves when waiting is over.
    pub async fn immediate(&self) {
        self.shutdown.immediate().await;
    }
}
