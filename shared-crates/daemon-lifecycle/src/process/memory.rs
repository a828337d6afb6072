//! Memory that a burst of work leaves unused goes back to the system: a supervisor lives for months and is idle for most of them.

/// Gives back unused heap pages, and code that only the burst needed. Takes milliseconds with a large heap.
pub fn give_back() {
    give_back_heap();
    let_go_of_code();
}

#[cfg(target_env = "gnu")]
#[expect(unsafe_code, reason = "the allocator's call has no safe form")]
fn give_back_heap() {
    // SAFETY: it takes an integer, and the allocator locks what it touches.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators keep little and have no such call.
#[cfg(not(target_env = "gnu"))]
const fn give_back_heap() {}

/// Unmaps the pages of our own code. What is still needed comes back from the page cache at its first use, 64 KiB at a
/// time; what only reading a file, a start or a stop of everything needed does not, and that is most of it.
#[expect(unsafe_code, reason = "the linker's symbols and madvise have no safe form")]
fn let_go_of_code() {
    unsafe extern "C" {
        static __executable_start: u8;
        static etext: u8;
    }
    let [begin, end] = [&raw const __executable_start, &raw const etext].map(|at| at as usize);
    // The last page is shared with what follows.
    let bytes = end.saturating_sub(begin) / rustix::param::page_size() * rustix::param::page_size();
    // SAFETY: between these symbols are the headers, constants and code of this executable as the linker laid them out:
    // pages of its file, mapped without leave to write, so that each comes back as it was.
    unsafe { libc::madvise(begin as *mut libc::c_void, bytes, libc::MADV_DONTNEED) };
}
