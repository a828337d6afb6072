//! A call that fails because queen is gone: look why, start her again if she crashed, and ask again.
//!
//! ```text
//!   call ──fails: nobody answers──▶ status ─┬─ crashed ──▶ start ─▶ call again
//!                                           ├─ runs (again) ─────▶ call again
//!                                           └─ stopped by intention, never started, elsewhere ─▶ the failure as it is
//! ```
//!
//! Asked twice with one `Idempotency-Key`, a change is made once: so every call through here is safe to repeat.

use daemon_lifecycle::{DaemonError, DaemonStatus};
use rbee_api::{ClientError, ControlClient, ErrorCode};
use rbee_runtime::config::Config;

use crate::commands::queen;
use crate::context::{Context, Target};
use crate::failure::Failure;

/// How long a queen that somebody else starts right now may take.
const READY_TIMEOUT_S: u64 = 30;

/// What became of this machine's queen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    /// Her process is gone, and nobody told it to end.
    Crashed(u32),
    /// She runs.
    Runs,
    /// Stopped, killed by keeper, not able to start, or never started.
    Down,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remedy {
    StartAndAskAgain(u32),
    AskAgain,
    Nothing,
}

const fn remedy(found: Found) -> Remedy {
    match found {
        Found::Crashed(pid) => Remedy::StartAndAskAgain(pid),
        // Started or upgraded by somebody else in this moment, perhaps.
        Found::Runs => Remedy::AskAgain,
        Found::Down => Remedy::Nothing,
    }
}

/// Whether a call failed because nobody was there to answer it to the end.
pub(crate) fn is_gone(error: &ClientError) -> bool {
    match error {
        ClientError::Unreachable { .. } | ClientError::BrokenAnswer { .. } => true,
        ClientError::Api { detail, .. } => detail.code == ErrorCode::ShuttingDown,
        _ => false,
    }
}

impl Context {
    /// Calls whoever is in charge, and once more after queen was started again, where she had crashed.
    pub(crate) async fn call<T>(
        &self,
        config: &Config,
        call: impl AsyncFn(ControlClient) -> Result<T, ClientError>,
    ) -> Result<T, Failure> {
        let target = self.target(config);
        let key = uuid::Uuid::new_v4().to_string();
        let error = match call(self.client(target.url())?.once(&key)).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        if !is_gone(&error) || !self.recover(config, &target).await? {
            return Err(error.into());
        }
        Ok(call(self.client(&self.queen_url(config))?.once(&key)).await?)
    }

    /// Sees to it that this machine's queen runs, if she crashed; whether it is worth asking again.
    pub(crate) async fn recover(&self, config: &Config, target: &Target) -> Result<bool, Failure> {
        let Target::Queen { local: true, .. } = target else { return Ok(false) };
        if self.no_recover || !config.keeper.recover {
            return Ok(false);
        }
        let manager = self.queen(config);
        let found = self.blocking(move || {
            Ok::<_, DaemonError>(match manager.status()? {
                DaemonStatus::Running(_) => {
                    manager.wait_ready(READY_TIMEOUT_S)?;
                    Found::Runs
                }
                DaemonStatus::Stale(pid) if manager.has_crashed()? => Found::Crashed(pid),
                _ => Found::Down,
            })
        });
        match remedy(found.await?) {
            Remedy::Nothing => Ok(false),
            Remedy::AskAgain => {
                self.ui.warn("queen did not answer, but she runs: asking again");
                Ok(true)
            }
            Remedy::StartAndAskAgain(pid) => {
                self.ui
                    .warn(&format!("queen (pid {pid}) has crashed: starting her again (--no-recover leaves her down)"));
                let (pid, _) = queen::start(self, config).await?;
                self.ui.warn(&format!("queen runs again (pid {pid}): asking again"));
                Ok(true)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// KEEP-12
    #[test]
    fn only_a_queen_that_crashed_is_started() {
        for (found, expected) in [
            (Found::Crashed(7), Remedy::StartAndAskAgain(7)),
            (Found::Runs, Remedy::AskAgain),
            (Found::Down, Remedy::Nothing),
        ] {
            assert_eq!(remedy(found), expected);
        }
    }
}
