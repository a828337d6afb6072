//! What a shim says: to its supervisor by the notify protocol, to people by its standard error, which is the unit's log.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use sd_notify::NotifyState;

/// Exit code of sysexits.h: what it needs is not there.
const UNAVAILABLE: u8 = 69;
/// Of a reason that an engine gave, in whatever length.
const STATUS_CHARS_MAX: usize = 800;
/// Trying again may help.
const TRY_AGAIN: u8 = 75;

/// A line in the unit's log.
pub(super) fn people(text: &str) {
    // A log that cannot be written is no reason to end.
    let _ = writeln!(io::stderr(), "rbee: {text}");
}

/// What it does now.
pub(super) fn status(text: &str) {
    send(&[NotifyState::Status(text)]);
}

/// The start takes longer, and goes on.
pub(super) fn more_time(by: Duration) {
    send(&[NotifyState::ExtendTimeoutUsec(u32::try_from(by.as_micros()).unwrap_or(u32::MAX))]);
}

/// Which process does the work, and whether that is all it takes to be ready. False where nobody listens now.
pub(super) fn running(pid: Option<u32>, is_ready: bool) -> bool {
    let payload = pid.map(|pid| format!("X_RBEE_PAYLOAD={pid}")).unwrap_or_default();
    let mut states = vec![NotifyState::Custom(&payload), NotifyState::Status("its container runs")];
    if is_ready {
        states.push(NotifyState::Ready);
    }
    sd_notify::notify(&states).is_ok()
}

/// The kernel ended it for want of memory.
pub(super) fn out_of_memory() {
    send(&[NotifyState::Custom("X_RBEE_END=out-of-memory")]);
}

/// What it needs is not there.
pub(super) fn unavailable(reason: &str) -> ExitCode {
    people(reason);
    send(&[NotifyState::Custom("X_RBEE_END=unavailable"), NotifyState::Status(&one_line(reason))]);
    ExitCode::from(UNAVAILABLE)
}

/// It did not work this time.
pub(super) fn failed(reason: &str) -> ExitCode {
    people(reason);
    status(&one_line(reason));
    ExitCode::from(TRY_AGAIN)
}

/// A reason as a status: on one line, and short enough for a datagram.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(STATUS_CHARS_MAX).collect()
}

fn send(states: &[NotifyState<'_>]) {
    // The supervisor may be away (killed, being upgraded): that never stops us.
    let _ = sd_notify::notify(states);
}
