//! What the kernel knows about its clock.

use std::mem::MaybeUninit;

/// Whether something keeps the wall clock right (NTP, PTP, a hypervisor); `None` where the kernel does not say.
#[must_use]
#[expect(unsafe_code, reason = "no safe form asks this")]
pub fn clock_is_synchronised() -> Option<bool> {
    let mut timex = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: all zeros are a valid `timex`, one that asks to change nothing; the call writes into local memory.
    let state = unsafe { libc::adjtimex(timex.as_mut_ptr()) };
    match state {
        -1 => None,
        state => Some(state != libc::TIME_ERROR),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_kernel_says_something() {
        assert!(super::clock_is_synchronised().is_some());
    }
}
