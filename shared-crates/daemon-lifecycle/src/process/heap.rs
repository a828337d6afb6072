//! Memory that a burst of work leaves unused goes back to the system: a supervisor lives for months and is idle for most of them.

/// Gives unused heap pages back. Takes milliseconds with a large heap.
#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the allocator's call has no safe form")]
pub(crate) fn give_back() {
    // SAFETY: it takes an integer, and the allocator locks what it touches.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators keep little and have no such call.
#[cfg(not(target_env = "gnu"))]
pub(crate) const fn give_back() {}
