//! Tells our supervisor how far we are, by the `sd_notify` protocol. Without a supervisor: nothing.

use sd_notify::NotifyState;

/// All listening sockets answer; the supervisor may count us as ready.
pub fn ready() {
    send(&[NotifyState::Ready]);
}

/// We are on our way out, by intention.
pub fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// A line for people about what we do now.
pub fn status(text: &str) {
    send(&[NotifyState::Status(text)]);
}

/// Start or stop takes longer; the supervisor waits `timeout_us` microseconds more from now on.
pub fn extend_timeout(timeout_us: u32) {
    send(&[NotifyState::ExtendTimeoutUsec(timeout_us)]);
}

/// Another process is the daemon from now on, and it is ready.
pub fn main_pid(pid: u32) {
    send(&[NotifyState::MainPid(pid), NotifyState::Ready]);
}

fn send(states: &[NotifyState<'_>]) {
    // The supervisor may be away (killed, being upgraded): that never stops us.
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the supervisor did not get our notification");
    }
}
