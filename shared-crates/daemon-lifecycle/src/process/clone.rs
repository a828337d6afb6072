//! The birth of a process: in its parent's memory, so that no page table is copied, and with its pidfd and cgroup from the start.

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use super::child::{self, Plan};

/// Far more than [`child::carry_out`] uses, in a debug build too.
const STACK_BYTES: usize = 64 * 1024;

/// A new process and its pidfd.
pub(super) struct Born {
    pub(super) pid: u32,
    pub(super) pidfd: OwnedFd,
}

/// Where the new process shall be counted.
pub(super) enum Into<'fd> {
    /// Where we are.
    Here,
    /// In the cgroup of this open directory.
    Cgroup(BorrowedFd<'fd>),
}

/// Starts a child that carries out `plan`; returns when it executes its program or has exited.
///
/// `ENOSYS` where the kernel (or a sandbox) does not let us put it into a cgroup at its birth.
#[expect(unsafe_code, reason = "clone has no safe form")]
pub(super) fn clone_and_wait(plan: &mut Plan, into: &Into<'_>) -> io::Result<Born> {
    let mut stack: Vec<MaybeUninit<u8>> = Vec::with_capacity(STACK_BYTES);
    let plan: *mut Plan = plan;
    // All signals are blocked around the clone: the child starts with our handlers, and one that ran in it would do so in our memory.
    with_signals_blocked(|| match into {
        // SAFETY: the child runs `carry_out` alone, on a stack of its own, on a plan that lives until it executes or exits: this thread
        // stands still so long (CLONE_VFORK).
        Into::Cgroup(cgroup) => unsafe { clone3(plan, &mut stack, *cgroup) },
        // SAFETY: as above.
        Into::Here => unsafe { clone_here(plan, &mut stack) },
    })
}

/// Beyond the width of libc's constants.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

const FLAGS: c_int = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::CLONE_PIDFD;

#[expect(unsafe_code, reason = "clone has no safe form")]
unsafe fn clone_here(plan: *mut Plan, stack: &mut Vec<MaybeUninit<u8>>) -> io::Result<Born> {
    let mut pidfd: c_int = -1;
    // SAFETY: the caller's promise; the stack's top is within its allocation and aligned.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(STACK_BYTES);
        let top = top.wrapping_sub(top.addr() % 16);
        libc::clone(child::carry_out, top.cast(), FLAGS | libc::SIGCHLD, plan.cast::<c_void>(), &raw mut pidfd)
    };
    if pid < 0 { Err(io::Error::last_os_error()) } else { born(pid.unsigned_abs(), pidfd) }
}

#[expect(unsafe_code, reason = "the kernel gave us this descriptor")]
fn born(pid: u32, pidfd: c_int) -> io::Result<Born> {
    // SAFETY: CLONE_PIDFD stored a new descriptor there, which nobody else knows.
    Ok(Born { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// clone3 is the only call that takes a cgroup. It has no wrapper, and none can be: parent and child return from it on different
/// stacks, so the child must not return at all.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "clone3 has no safe form")]
unsafe fn clone3(plan: *mut Plan, stack: &mut Vec<MaybeUninit<u8>>, cgroup: BorrowedFd<'_>) -> io::Result<Born> {
    let mut pidfd: c_int = -1;
    let base = stack.as_mut_ptr();
    let skipped = base.addr().wrapping_neg() % 16;
    // SAFETY: plain integers, valid when zeroed.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = FLAGS as u64 | CLONE_INTO_CGROUP;
    args.pidfd = (&raw mut pidfd).addr() as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    args.stack = (base.addr() + skipped) as u64;
    args.stack_size = ((STACK_BYTES - skipped) & !15) as u64;
    args.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    let result: isize;
    // SAFETY: the kernel reads `args` and writes `pidfd`. The parent goes on behind the jump with its registers as they were. The child
    // begins there with rax = 0 and the given stack, aligned for a call, and calls `carry_out`, which never returns.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 as isize => result,
            in("rdi") &raw const args,
            in("rsi") size_of::<libc::clone_args>(),
            in("r12") plan,
            in("r13") child::carry_out as *const () as usize,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    match u32::try_from(result) {
        Ok(pid) => born(pid, pidfd),
        Err(_) => Err(io::Error::from_raw_os_error(i32::try_from(-result).unwrap_or(libc::EIO))),
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[expect(unsafe_code, reason = "the same shape as on other processors")]
unsafe fn clone3(_: *mut Plan, _: &mut Vec<MaybeUninit<u8>>, _: BorrowedFd<'_>) -> io::Result<Born> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}

#[expect(unsafe_code, reason = "signal masks of raw clones")]
fn with_signals_blocked<T>(run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    // SAFETY: plain signal-set calls on local memory.
    let old_mask = unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        let mut old: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        let errno = libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut old);
        if errno != 0 {
            return Err(io::Error::from_raw_os_error(errno));
        }
        old
    };
    let result = run();
    // SAFETY: restores the mask saved above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const old_mask, std::ptr::null_mut()) };
    result
}
