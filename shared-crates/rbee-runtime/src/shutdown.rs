//! SIGTERM and SIGINT: the first asks to drain, the second means now.
//!
//! ```text
//!   running ──first signal, or drain()──▶ draining ──second signal, or now()──▶ now
//! ```

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Two steps of going down; clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    draining: CancellationToken,
    now: CancellationToken,
}

impl Shutdown {
    /// A shutdown that no signal drives: for tests, and for parts that are stopped by their owner.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens for SIGTERM and SIGINT from now on. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the signal handlers cannot be installed.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let task = shutdown.clone();
        tokio::spawn(async move {
            loop {
                let name = tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                };
                tracing::info!(signal = name, again = task.is_draining(), "asked to stop");
                task.advance();
            }
        });
        Ok(shutdown)
    }

    /// One step further, as a signal does: first draining, then now.
    pub fn advance(&self) {
        if self.is_draining() {
            self.now.cancel();
        }
        self.draining.cancel();
    }

    /// Begins to drain; does nothing when that is under way.
    pub fn drain(&self) {
        self.draining.cancel();
    }

    /// Ends at once, draining or not.
    pub fn now(&self) {
        self.draining.cancel();
        self.now.cancel();
    }

    /// Whether draining has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Whether waiting for anything is over.
    #[must_use]
    pub fn is_now(&self) -> bool {
        self.now.is_cancelled()
    }

    /// Resolves when draining begins.
    pub async fn draining(&self) {
        self.draining.cancelled().await;
    }

    /// Resolves when it must end at once.
    pub async fn immediate(&self) {
        self.now.cancelled().await;
    }

    /// A token cancelled when draining begins, to hand to parts that know only tokens.
    #[must_use]
    pub fn drain_token(&self) -> CancellationToken {
        self.draining.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::Shutdown;

    #[test]
    fn the_second_signal_means_now() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.is_draining());
        shutdown.advance();
        assert!(shutdown.is_draining() && !shutdown.is_now());
        shutdown.advance();
        assert!(shutdown.is_now());
    }

    #[test]
    fn drain_twice_is_no_hurry() {
        let shutdown = Shutdown::new();
        shutdown.drain();
        shutdown.drain();
        assert!(!shutdown.is_now());
    }

    #[tokio::test]
    async fn a_clone_sees_it() {
        let shutdown = Shutdown::new();
        let other = shutdown.clone();
        let waiting = tokio::spawn(async move { other.immediate().await });
        shutdown.now();
        waiting.await.unwrap();
    }
}
