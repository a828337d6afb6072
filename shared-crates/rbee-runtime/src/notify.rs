//! Tells our supervisor how far we are, by the `sd_notify` protocol. Without a supervisor: nothing.

use std::os::fd::AsFd;

use sd_notify::NotifyState;

/// What a service manager calls the socket it keeps for us.
pub const KEPT_SOCKET: &str = "rbee-listen";

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

/// We live and work. Only [`crate::watchdog`] says so.
pub(crate) fn watchdog() {
    send(&[NotifyState::Watchdog]);
}

/// The service manager may keep this socket, and pass it to who comes after a crash of ours: connections wait meanwhile.
pub fn keep_socket(socket: &impl AsFd) {
    let states = [NotifyState::FdStore, NotifyState::FdName(KEPT_SOCKET)];
    if let Err(error) = sd_notify::notify_with_fds(&states, &[socket.as_fd()]) {
        tracing::debug!(%error, "the service manager does not keep our socket");
    }
}

/// What it has kept is of no use any more.
pub fn forget_socket() {
    send(&[NotifyState::FdStoreRemove, NotifyState::FdName(KEPT_SOCKET)]);
}

fn send(states: &[NotifyState<'_>]) {
    // The supervisor may be away (killed, being upgraded): that never stops us.
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the supervisor did not get our notification");
    }
}
