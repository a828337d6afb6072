//! A sequence's keys and values as bytes, and what this engine computes with.
//!
//! llama-cpp-2 hands states out only as a type that cannot be written to disk, or as files it writes itself, which have no
//! checksum. So this goes to the calls below.

use std::ffi::CStr;

use llama_cpp_2::context::LlamaContext;
use llama_cpp_2::context::session::LlamaStateSeqFlags;

/// The state of a sequence; `None` when the library wrote another length than it had said.
#[expect(unsafe_code, reason = "llama-cpp-2 shows the bytes of a state by an unsafe call only")]
pub(super) fn save(context: &LlamaContext<'_>, sequence: i32) -> Option<Vec<u8>> {
    let size = context.state_seq_get_size_ext(sequence, LlamaStateSeqFlags::empty());
    let mut bytes = vec![0; size];
    // SAFETY: the buffer has the size the library has just asked for, for the same sequence and flags, and nothing has
    // happened to the context since: it is borrowed.
    let written = unsafe { context.state_seq_get_data_ext(bytes.as_mut_ptr(), sequence, LlamaStateSeqFlags::empty()) };
    (written == size && size > 0).then_some(bytes)
}

/// Puts a state in place of a sequence's. The caller has checked that the bytes are as [`save`] gave them; whether they
/// fit this context the library finds out by itself. Gives whether they did.
#[expect(unsafe_code, reason = "llama-cpp-2 takes the bytes of a state by an unsafe call only")]
pub(super) fn restore(context: &mut LlamaContext<'_>, sequence: i32, bytes: &[u8]) -> bool {
    // SAFETY: the call reads within the slice it is given, with its length; the bytes were checked against our checksum.
    unsafe { context.state_seq_set_data_ext(bytes, sequence, LlamaStateSeqFlags::empty()) }
}

/// Which of the processor's abilities the library uses: numbers differ between processors that differ in them.
#[expect(unsafe_code, reason = "llama-cpp-2 does not show it")]
pub(super) fn abilities() -> String {
    // SAFETY: the library gives a pointer to a string of its own that lives until the next call; we copy it at once,
    // and only the engine's thread calls this.
    let text = unsafe { CStr::from_ptr(llama_cpp_sys_2::llama_print_system_info()) };
    text.to_string_lossy().into_owned()
}
