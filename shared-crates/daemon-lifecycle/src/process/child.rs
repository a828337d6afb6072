//! The child's side of a spawn: from fork to exec.
//!
//! Only system calls between fork and exec: other threads of the parent may hold any lock (the allocator's, for one) in the copy
//! of memory the child runs on. Everything it needs is made before, in [`Plan`].

use std::ffi::{CString, c_char, c_int};
use std::io;
use std::os::fd::{OwnedFd, RawFd};

/// The environment entry the child writes its own pid into; as long as the longest pid.
pub(super) const LISTEN_PID_TEMPLATE: &str = "LISTEN_PID=0000000000";
const LISTEN_PID_NAME_LEN: usize = "LISTEN_PID=".len();

/// Exit code of a child that never got to execute its program.
const EXIT_NOT_EXECUTED: c_int = 127;

/// What the child needs, ready to be used without allocating.
pub(super) struct Plan {
    pub(super) file: CString,
    pub(super) argv: StringArray,
    pub(super) env: StringArray,
    /// Whether the last variable is [`LISTEN_PID_TEMPLATE`].
    pub(super) has_listen_pid: bool,
    pub(super) working_dir: Option<CString>,
    pub(super) umask: u32,
    /// Become fd 0, 1, 2, 3, …
    pub(super) inherited: Vec<RawFd>,
    pub(super) gate: RawFd,
    pub(super) errors: RawFd,
}

/// Strings as `execve` wants them: a null-terminated array of pointers.
pub(super) struct StringArray {
    strings: Vec<*mut c_char>,
    pointers: Vec<*const c_char>,
}

impl StringArray {
    pub(super) fn new(strings: Vec<CString>) -> Self {
        let strings: Vec<*mut c_char> = strings.into_iter().map(CString::into_raw).collect();
        let pointers = strings.iter().map(|string| string.cast_const()).chain([std::ptr::null()]).collect();
        Self { strings, pointers }
    }
}

impl Drop for StringArray {
    #[expect(unsafe_code, reason = "takes back what CString::into_raw gave")]
    fn drop(&mut self) {
        for string in self.strings.drain(..) {
            // SAFETY: each pointer came from `CString::into_raw` in `new`, its length never changed, and it is taken back once.
            drop(unsafe { CString::from_raw(string) });
        }
    }
}

/// What the child was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Step {
    NewSession = 1,
    PlaceFiles = 2,
    CloseFiles = 3,
    EnterDirectory = 4,
    Execute = 5,
}

impl Step {
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::NewSession => "make a session for the new process",
            Self::PlaceFiles => "place the new process's file descriptors",
            Self::CloseFiles => "close inherited file descriptors",
            Self::EnterDirectory => "enter the working directory",
            Self::Execute => "execute the program",
        }
    }

    const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::NewSession,
            2 => Self::PlaceFiles,
            3 => Self::CloseFiles,
            4 => Self::EnterDirectory,
            5 => Self::Execute,
            _ => return None,
        })
    }
}

/// Forks a child that carries out `plan`; returns its pid.
#[expect(unsafe_code, reason = "fork has no safe form")]
pub(super) fn fork(plan: &mut Plan) -> io::Result<u32> {
    // SAFETY: plain signal-set calls on local memory. All signals are blocked around the fork: the child starts with our handlers,
    // and one that ran in it would report to *our* runtime through shared pipes.
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
    // SAFETY: the child runs `carry_out` alone, which only makes system calls and never returns.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        carry_out(plan);
    }
    let result = if pid < 0 { Err(io::Error::last_os_error()) } else { Ok(pid.unsigned_abs()) };
    // SAFETY: restores the mask saved above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const old_mask, std::ptr::null_mut()) };
    result
}

/// Reads what the child reports: nothing (it executes its program), or the step that failed with its errno.
pub(super) fn read_error(errors: &OwnedFd) -> io::Result<Option<(Step, i32)>> {
    let mut report = [0_u8; 5];
    let mut filled = 0;
    while filled < report.len() {
        match rustix::io::read(errors, &mut report[filled..]) {
            Ok(0) => return Ok(None),
            Ok(read) => filled += read,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let step = Step::from_byte(report[0]).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(Some((step, i32::from_ne_bytes([report[1], report[2], report[3], report[4]]))))
}

/// The child's whole life before its program.
#[expect(unsafe_code, reason = "raw system calls of a forked child")]
fn carry_out(plan: &mut Plan) -> ! {
    let count = c_int::try_from(plan.inherited.len()).unwrap_or(c_int::MAX - 2);
    // SAFETY: for every call below: async-signal-safe system calls on memory that `plan` owns; no allocation, no lock, no return.
    unsafe {
        reset_signals();
        if libc::setsid() < 0 {
            fail(plan.errors, Step::NewSession);
        }
        libc::umask(plan.umask);

        // First out of the way of every number that is about to be given away, then down to 0, 1, 2, …
        let (gate_at, errors_at) = (count, count + 1);
        let first_free = count + 2;
        let gate = move_above(plan.errors, plan.gate, first_free);
        let errors = move_above(plan.errors, plan.errors, first_free);
        for fd in &mut plan.inherited {
            *fd = move_above(errors, *fd, first_free);
        }
        for (target, fd) in (0..).zip(&plan.inherited) {
            if libc::dup2(*fd, target) < 0 {
                fail(errors, Step::PlaceFiles);
            }
        }
        if libc::dup3(gate, gate_at, libc::O_CLOEXEC) < 0 || libc::dup3(errors, errors_at, libc::O_CLOEXEC) < 0 {
            fail(errors, Step::PlaceFiles);
        }
        if libc::close_range(first_free.unsigned_abs(), libc::c_uint::MAX, 0) < 0 {
            fail(errors_at, Step::CloseFiles);
        }

        wait_at_gate(gate_at);

        if plan.has_listen_pid
            && let Some(variable) = plan.env.strings.last()
        {
            write_own_pid(variable.add(LISTEN_PID_NAME_LEN));
        }
        if let Some(dir) = &plan.working_dir
            && libc::chdir(dir.as_ptr()) < 0
        {
            fail(errors_at, Step::EnterDirectory);
        }
        libc::execve(plan.file.as_ptr(), plan.argv.pointers.as_ptr(), plan.env.pointers.as_ptr());
        fail(errors_at, Step::Execute)
    }
}

/// Default handling for every signal, none blocked.
#[expect(unsafe_code, reason = "raw system calls of a forked child")]
unsafe fn reset_signals() {
    // SAFETY: sigaction and sigprocmask on local, zeroed memory; those that cannot be set (KILL, STOP) fail harmlessly.
    unsafe {
        let mut default: libc::sigaction = std::mem::zeroed();
        default.sa_sigaction = libc::SIG_DFL;
        for signal in 1..=64 {
            libc::sigaction(signal, &raw const default, std::ptr::null_mut());
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

#[expect(unsafe_code, reason = "raw system calls of a forked child")]
unsafe fn move_above(errors: RawFd, fd: RawFd, first_free: RawFd) -> RawFd {
    // SAFETY: fcntl on a descriptor of ours.
    let moved = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, first_free) };
    if moved < 0 {
        // SAFETY: see `fail`.
        unsafe { fail(errors, Step::PlaceFiles) };
    }
    moved
}

/// Returns when the parent says go; exits when it is gone.
#[expect(unsafe_code, reason = "raw system calls of a forked child")]
unsafe fn wait_at_gate(gate: RawFd) {
    let mut byte = 0_u8;
    loop {
        // SAFETY: reads one byte into local memory.
        let read = unsafe { libc::read(gate, (&raw mut byte).cast(), 1) };
        if read == 1 {
            return;
        }
        // SAFETY: errno of this thread; _exit runs no handlers.
        unsafe {
            if read < 0 && *libc::__errno_location() == libc::EINTR {
                continue;
            }
            libc::_exit(EXIT_NOT_EXECUTED);
        }
    }
}

/// Writes this process's pid in decimal over the zeros of the template, and ends the string after it.
#[expect(unsafe_code, reason = "raw system calls of a forked child")]
unsafe fn write_own_pid(digits: *mut c_char) {
    const LEN: usize = LISTEN_PID_TEMPLATE.len() - LISTEN_PID_NAME_LEN;
    // SAFETY: getpid cannot fail; `digits` has LEN bytes and a NUL after them, and a pid has at most LEN digits.
    unsafe {
        let mut rest = libc::getpid().unsigned_abs();
        let mut reversed = [0_u8; LEN];
        let mut len = 0;
        while len < LEN && (rest > 0 || len == 0) {
            reversed[len] = b'0' + (rest % 10) as u8;
            rest /= 10;
            len += 1;
        }
        for at in 0..len {
            *digits.add(at) = reversed[len - 1 - at] as c_char;
        }
        *digits.add(len) = 0;
    }
}

/// Reports the errno of the step that failed, and exits.
#[expect(unsafe_code, reason = "raw system calls of a forked child")]
unsafe fn fail(errors: RawFd, step: Step) -> ! {
    // SAFETY: errno of this thread, a write from local memory, and _exit.
    unsafe {
        let errno = (*libc::__errno_location()).to_ne_bytes();
        let report = [step as u8, errno[0], errno[1], errno[2], errno[3]];
        libc::write(errors, report.as_ptr().cast(), report.len());
        libc::_exit(EXIT_NOT_EXECUTED)
    }
}
